// Package bulletin is a small extension API server: it serves the group
// demo.annex.dev/v1 with one resource, notices, on the generic API server
// library and an etcd, and leaves authentication and authorization to its host.
//
// Read it in this order: v1/types.go, storage.go, strategy.go, table.go, then
// run.go, which puts them together.
package bulletin
