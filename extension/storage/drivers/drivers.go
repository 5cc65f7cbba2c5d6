// Package drivers lists every storage driver of this module. A program that imports it
// links them all; one that needs a single one imports that.
package drivers

import (
	"github.com/annex-api/annex/extension/storage"
	"github.com/annex-api/annex/extension/storage/embedded"
	"github.com/annex-api/annex/extension/storage/etcd"
	"github.com/annex-api/annex/extension/storage/kine/memory"
	"github.com/annex-api/annex/extension/storage/kine/postgres"
	"github.com/annex-api/annex/extension/storage/kine/sqlite"
)

// All are the drivers of the URLs etcd://, embedded://, sqlite://, postgres:// and memory://.
func All() []storage.Driver {
	return []storage.Driver{etcd.Driver(), embedded.Driver(), sqlite.Driver(), postgres.Driver(), memory.Driver()}
}
