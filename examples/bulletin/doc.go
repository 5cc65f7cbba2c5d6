// Package bulletin is a small extension API server: it serves the group demo.annex.dev/v1
// with one resource, notices.
//
// Read v1/types.go, then bulletin.go.
package bulletin
