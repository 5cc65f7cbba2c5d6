// Package catalog turns facts about APIServices into an immutable routing
// snapshot. It is deterministic: no goroutines, no I/O, no clock. The same
// facts always give the same snapshot, whatever the order they arrived in.
//
// Facts come from three places: the registrations and Services that a source
// watches, the verdicts that probes reach, and the documents that fetches
// bring. Everything that the layer does with a request is decided from one
// Snapshot, loaded once per request and never changed after it is published.
package catalog
