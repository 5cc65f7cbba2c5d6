// Package view serves kinds that are not stored: for reading, and where they come from
// elsewhere for writing there.
//
// A Resource stands in front of a ring.Cache and adds what no watch cache can know:
// whether a client's resourceVersion is one that this process can vouch for, and
// which objects a caller may see. Everything else is the cache's: lists at a
// resourceVersion, selectors on every event, initial events, bookmarks.
//
//	Get, List, Watch -> version.go: admit -> ring.Cache -> visible.go, filter.go -> client
//
// A Writable writes to a projection.Source. It asks the same function about an object
// before a write, and about what would come of it.
//
//	Create, Update, Delete -> writable.go -> projection: Read, Plan, Write -> client
package view
