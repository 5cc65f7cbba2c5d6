// Package projection shows the objects of another API as objects of a kind, and writes
// what clients make of them to where they are.
//
// A Source follows the objects at their API server and puts what is shown of them into a
// ring:
//
//	source.go: Run -> fit.go, which asks whether the source fits the kind
//	               -> reflector -> follower.go -> show.go -> ring.Storage
//	                                           -> seen.go, which says how far the ring is
//
// A write reads the object afresh (read.go), finds what it would come to (plan.go, and
// metadata.go for what a client may not write), sends it, and waits until the ring has come
// to the answer (write.go). Objects are handled as they are in JSON: what the Go type does
// not know stays as it is.
package projection
