// Package broken serves one small kind over plain HTTP, as the Kubernetes API promises, or with one
// well-known mistake planted: the conformance kit's own tests see that the kit finds each.
//
// It keeps everything in memory, and plays the host API server too: namespaces, admission policies and
// the APIService of its group. Nothing of it is fit for anything but tests.
package broken
