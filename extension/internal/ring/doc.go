// Package ring remembers the objects of a kind that is not stored, and the events
// by which they came about, and issues their resourceVersions.
//
// State is the core: it has no clock, no lock and no I/O. Storage is the shell
// around it: a storage.Interface for reading, to stand under the watch cache of
// k8s.io/apiserver. Cache is both together.
//
//	List or informer -> Storage.Update, Put, Remove -> State -> events
//	                    Storage.GetList, Watch -> watch cache -> clients
//
// A resourceVersion is a time in microseconds, shifted left by ten bits that name
// the replica. It grows with every event, and across restarts as long as the wall
// clock does. Where each object comes from another that has a resourceVersion, that takes
// the place of the time (moment.go), and replicas agree on it. The ring knows exactly which
// resourceVersions it issued within its window, so that it never answers one that it cannot
// vouch for.
package ring
