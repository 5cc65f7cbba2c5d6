// Package embedded runs etcd in process, for one server that keeps its objects in a directory of its own.
package embedded

import "github.com/annex-api/annex/extension/storage"

// Driver opens embedded:///directory[?quota=SIZE]. The directory is made where it is missing, and no other
// process uses it at the time. The quota bounds the database: beyond it writes fail, reads and deletions go
// on, and writes do again when there is space. It is 8Gi by default, and less on a file system so small that the
// logs would not fit beside it. A disk that others fill ends the process, as etcd
// cannot go on without losing what it acknowledged. It is for Linux, macOS and FreeBSD; elsewhere to open it is
// an error.
func Driver() storage.Driver {
	return storage.Driver{Scheme: "embedded", Example: "embedded:///var/lib/widgets", Open: open}
}
