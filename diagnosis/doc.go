// Package diagnosis says what is wrong with an APIService and its extension server, why, and what
// to do. It is pure: facts go in, a report comes out.
//
// faults.yaml holds the faults, each with a code that never changes its meaning. [Facts] are what
// was seen of a cluster, with every right that was lacking said. [Diagnose] goes the way that a
// request goes: registration and Service, endpoints and Pods, network, TLS, identity, answers,
// documents and watches, and last who suffers. The first fatal fault ends its branch.
package diagnosis
