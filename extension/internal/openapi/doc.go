// Package openapi publishes the schemas of kinds as OpenAPI v2 and v3.
//
// Definitions, made from the kinds of a server, give k8s.io/apiserver all that it
// asks for: the settings of both versions, which differ, as v2 and the clients that
// read it bear less than v3, and the type converter of server-side apply.
//
// # How a route finds its definition
//
// endpoints.APIGroupVersion.InstallREST gives each route samples of what it reads and
// writes. A sample is the value that the installer's Creater makes for the kind of
// the route, and kube-openapi knows it by nothing but its Go type, or by a method
// OpenAPIModelName of it. There are two cases.
//
// A kind with a Go type, and a list with one, is found by the type: the definition is
// there under the type's name as well, and Name, which kube-openapi asks for what to
// publish, turns one into the other. Kind.Type and Kind.List say which types these
// are. A generic list type is a type for each of its arguments, so that it needs
// nothing else.
//
// All kinds without a Go type are one type, unstructured.Unstructured. But a sample of
// them knows its kind: a Creater has to set apiVersion and kind, for lists, too.
// NameSamples, called after InstallREST and before the server is prepared to run,
// replaces such samples in the routes by ones that say the name of their definition.
// go-restful gives out a service's own routes, not copies, and reads samples only for
// documentation, so nothing else sees it.
//
//	definitions, err := openapi.New(kinds)
//	config.OpenAPIConfig, config.OpenAPIV3Config = definitions.V2(title), definitions.V3(title)
//	group.TypeConverter, err = definitions.TypeConverter()
//	err = group.InstallREST(container)
//	err = definitions.NameSamples(container.RegisteredWebServices()...)
//	err = definitions.Check(container.RegisteredWebServices()...)
//
// Check builds everything as the server will, which ends the process on a fault in v2
// and leaves a group out of v3 with a line in the log.
package openapi
