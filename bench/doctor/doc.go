// Package doctor proves annex doctor: faults that operators meet are made for real, on Annex and on
// the reference, each is named by its code, and its remedy, executed, mends it.
//
// All of it is tests, in a network namespace of their own: extension servers have addresses in it,
// and a firewall that drops and refuses packets. There is no kubelet and there are no controllers:
// Pods, EndpointSlices and their states are written by the tests, which also do what controllers
// would do after a remedy. Logs and port-forward come from a small kubelet of the tests.
//
// What is wrong with an API server itself is made on API servers of its own, which reach Pods by
// konnectivity: its protocol, with a server and an agent of the tests.
package doctor
