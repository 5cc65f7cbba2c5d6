// Package projection shows the objects of another API as objects of a kind, and writes
// what clients make of them to where they are.
//
// A Source follows the objects at their API server and puts what is shown of them into a
// ring:
//
//	reflector -> source.go: follower -> show.go -> ring.Storage
//	                                 -> seen.go, which says how far the ring is
//
// A write reads the object afresh (read.go), finds what it would come to (plan.go), sends
// it, and waits until the ring has come to the answer (write.go). Objects are handled as
// they are in JSON: what the Go type does not know stays as it is.
package projection
