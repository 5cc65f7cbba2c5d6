// Package view serves kinds that are not stored, for reading.
//
// A Resource stands in front of a ring.Cache and adds what no watch cache can know:
// whether a client's resourceVersion is one that this process can vouch for, and
// which objects a caller may see. Everything else is the cache's: lists at a
// resourceVersion, selectors on every event, initial events, bookmarks.
//
//	Get, List, Watch -> version.go: admit -> ring.Cache -> visible.go, filter.go -> client
package view
