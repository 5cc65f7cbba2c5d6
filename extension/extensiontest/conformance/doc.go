// Package conformance checks an API resource against the contract of the Kubernetes API.
//
// It is a client, and nothing but a client: it knows a server by its API alone, so that it checks a
// built-in resource, a custom resource or an extension server in the same way. Every check is one
// promise, with the place where the promise is written.
//
//	target := conformance.Target{
//		Config:   config, // of a user who may do everything with the resource and make namespaces
//		Resource: schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "widgets"},
//	}
//	summary := conformance.Run(ctx, target, conformance.Table(os.Stdout))
//
// Run makes a namespace of its own, says before what it will create, and removes all of it at the end,
// also when ctx ends early. What cannot be checked is not applicable, with the reason, and never passed.
//
// Checks returns the checks, so that a reader sees what is promised and where it is written.
package conformance
