package storagetest

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/jackc/pgx/v5"
	"k8s.io/apiserver/pkg/storage/etcd3/testserver"

	"github.com/annex-api/annex/extension/internal/postgrestest"
	"github.com/annex-api/annex/extension/storage"
	"github.com/annex-api/annex/extension/storage/embedded"
	"github.com/annex-api/annex/extension/storage/etcd"
	"github.com/annex-api/annex/extension/storage/kine"
	"github.com/annex-api/annex/extension/storage/kine/memory"
	"github.com/annex-api/annex/extension/storage/kine/postgres"
	"github.com/annex-api/annex/extension/storage/kine/sqlite"
)

// driver gives empty storage.
type driver struct {
	name string
	// long is left out of the short form.
	long bool
	// empty is called once for the driver, its result once for each test.
	empty func(t *testing.T) func(t *testing.T) *storage.Endpoint
}

const (
	// keepNothing lets tests compact what was just written.
	keepNothing = -1
	progress    = time.Second
)

var drivers = []driver{
	{name: "memory", empty: func(*testing.T) func(*testing.T) *storage.Endpoint {
		return func(*testing.T) *storage.Endpoint {
			return kine.Start("memory", logr.Discard(), memory.Backend, kine.Options{NotifyInterval: progress})
		}
	}},
	{name: "etcd", long: true, empty: func(*testing.T) func(*testing.T) *storage.Endpoint {
		var ports sync.Mutex // held from when ports were found free until they are not
		return func(t *testing.T) *storage.Endpoint {
			ports.Lock()
			defer ports.Unlock()
			return open(t, etcdURL(t), etcd.Driver())
		}
	}},
	{name: "embedded", long: true, empty: func(*testing.T) func(*testing.T) *storage.Endpoint {
		return func(t *testing.T) *storage.Endpoint {
			return open(t, "embedded://"+filepath.Join(t.TempDir(), "etcd"), embedded.Driver())
		}
	}},
	{name: "sqlite", empty: func(t *testing.T) func(*testing.T) *storage.Endpoint {
		return func(t *testing.T) *storage.Endpoint {
			backend := sqlite.Backend(filepath.Join(t.TempDir(), "state.db"), keepNothing)
			return kine.Start("SQLite", logr.Discard(), backend, kine.Options{NotifyInterval: progress})
		}
	}},
	{name: "postgres", long: true, empty: func(t *testing.T) func(*testing.T) *storage.Endpoint {
		// Nothing is read after the server has ended.
		server := postgrestest.Start(t, "fsync=off", "max_connections=400")
		return func(t *testing.T) *storage.Endpoint {
			config, err := pgx.ParseConfig(server.Database())
			if err != nil {
				t.Fatal(err)
			}
			return kine.Start("PostgreSQL", logr.Discard(), postgres.Backend(*config, keepNothing), kine.Options{NotifyInterval: progress})
		}
	}},
}

func open(t *testing.T, url string, driver storage.Driver) *storage.Endpoint {
	t.Helper()
	endpoint, err := storage.Open(t.Context(), url, logr.Discard(), driver)
	if err != nil {
		t.Fatal(err)
	}
	return endpoint
}

// etcdURL runs an etcd with a listener.
func etcdURL(t *testing.T) string {
	t.Helper()
	config := testserver.NewTestConfig(t)
	config.WatchProgressNotifyInterval = progress
	client := testserver.RunEtcd(t, config)
	defer client.Close()
	return "etcd://" + strings.TrimPrefix(client.Endpoints()[0], "http://")
}
