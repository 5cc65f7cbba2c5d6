package etcd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"

	"github.com/annex-api/annex/internal/etcd/datadir"
)

// inspect looks at what etcd would read, without changing it. It finds what etcd answers with a
// crash on a goroutine of its own, or with a repair that cuts away what it cannot read. Only a torn
// tail of the write-ahead log, which a crash leaves, is for etcd to repair.
func inspect(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch e.Name() {
		case "member", datadir.LockFile, socketName:
		default:
			return fmt.Errorf("%s does not belong there", e.Name())
		}
	}
	logs, err := walFiles(filepath.Join(dir, "member", "wal"))
	if err != nil {
		return err
	}
	db := filepath.Join(dir, "member", "snap", "db")
	if _, err := os.Stat(db); errors.Is(err, os.ErrNotExist) {
		if logs > 0 {
			return fmt.Errorf("the database %s is missing", db)
		}
		return nil
	} else if err != nil {
		return err
	}
	var applied uint64
	err = inOwnGoroutine(func() (err error) {
		applied, err = inspectDB(db)
		return err
	})
	if err != nil {
		return fmt.Errorf("the database %s does not parse: %w", db, err)
	}
	if logs > 0 {
		if err := inOwnGoroutine(func() error { return inspectWAL(filepath.Join(dir, "member", "wal")) }); err != nil {
			return fmt.Errorf("the write-ahead log %s does not parse: %w", filepath.Join(dir, "member", "wal"), err)
		}
	}
	// A first start that was killed leaves a database into which nothing was written.
	if logs == 0 && applied > 0 {
		return fmt.Errorf("the write-ahead log %s is missing", filepath.Join(dir, "member", "wal"))
	}
	return nil
}

func walFiles(dir string) (int, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n := 0
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".wal") {
			n++
		}
	}
	return n, nil
}

// inspectDB opens the database for reading, and returns the last raft index it applied.
func inspectDB(path string) (applied uint64, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	if info.Size() == 0 {
		return 0, nil // made and not yet written
	}
	// The list of free pages is not loaded: bbolt makes it on a goroutine of its own, where a panic
	// ends the process. All pages are looked at here instead.
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return 0, err
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error {
		if tx.Size() > info.Size() {
			return fmt.Errorf("it is cut off: %d of %d bytes", info.Size(), tx.Size())
		}
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			if string(name) == "meta" {
				if v := b.Get([]byte("consistent_index")); len(v) == 8 {
					applied = binary.BigEndian.Uint64(v)
				}
			}
			return inOrder(name, b)
		})
	})
	return applied, err
}

// inOrder goes through a bucket, and so through all its pages.
func inOrder(name []byte, b *bolt.Bucket) error {
	var last []byte
	return b.ForEach(func(key, _ []byte) error {
		if last != nil && bytes.Compare(last, key) >= 0 {
			return fmt.Errorf("the keys of bucket %q are out of order", name)
		}
		last = key
		return nil
	})
}

// inspectWAL reads the log from its last snapshot on.
func inspectWAL(dir string) error {
	snapshots, err := wal.ValidSnapshotEntries(zap.NewNop(), dir)
	if err != nil {
		return err
	}
	if len(snapshots) == 0 { // every log begins with one
		return errors.New("its beginning is broken")
	}
	_, err = wal.Verify(zap.NewNop(), dir, snapshots[len(snapshots)-1])
	return err
}

// inOwnGoroutine runs f where a panic or a memory fault becomes an error.
func inOwnGoroutine(f func() error) error {
	done := make(chan error)
	go func() {
		var err error
		defer func() { done <- err }()
		defer recoverAs(&err)
		faultsArePanics()
		err = f()
	}()
	return <-done
}
