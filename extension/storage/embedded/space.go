//go:build linux || darwin || freebsd

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/annex-api/annex/internal/etcd"
)

const (
	// logs is what the logs of writes take beside the database: seven files of 64 MiB, and a little.
	logs = 512 << 20
	// minQuota is what a file system too small for its logs gets.
	minQuota = 64 << 20

	// spaceEvery is between two looks whether etcd refuses writes for its quota.
	spaceEvery = 10 * time.Second
	// spaceTimeout bounds one look, and what it leads to: the file of a large database is written anew.
	spaceTimeout = 5 * time.Minute
)

// defaultQuota is etcd's largest, or what the file system of a directory has room for.
func defaultQuota(dir string) (int64, error) {
	var stat syscall.Statfs_t
	for {
		err := syscall.Statfs(dir, &stat)
		if err == nil {
			break
		}
		parent := filepath.Dir(dir)
		if !errors.Is(err, fs.ErrNotExist) || parent == dir {
			return 0, fmt.Errorf("find the size of the file system of %s: %w", dir, err)
		}
		dir = parent
	}
	// The size of a block has another type on each system.
	return min(etcd.DefaultQuotaBytes, max(int64(stat.Blocks)*int64(stat.Bsize)-logs, minQuota)), nil
}

// keepSpace looks now and then whether etcd refuses writes because its quota was reached. It would do so for ever, also
// when objects were deleted or the quota was raised. stop ends that, and waits.
func keepSpace(endpoint string, quota int64, every time.Duration, log logr.Logger) (stop func() error, err error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-time.After(every):
			case <-ctx.Done():
				return
			}
			if err := makeSpace(ctx, client, quota, log); err != nil && ctx.Err() == nil {
				log.Error(err, "Embedded etcd has reached its quota, and no space was made")
			}
		}
	})
	return func() error {
		cancel()
		err := client.Close()
		running.Wait()
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}, nil
}

// makeSpace gives back what deleted objects took, where etcd refuses writes, and lets it take writes again if that is enough.
// The history goes as well: who watches from before lists again.
func makeSpace(ctx context.Context, client *clientv3.Client, quota int64, log logr.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, spaceTimeout)
	defer cancel()
	alarms, err := client.AlarmList(ctx)
	if err != nil {
		return err
	}
	for _, alarm := range alarms.Alarms {
		if alarm.Alarm != etcdserverpb.AlarmType_NOSPACE {
			continue
		}
		endpoint := client.Endpoints()[0]
		status, err := client.Status(ctx, endpoint)
		if err != nil {
			return err
		}
		// What was compacted already is an error, and no matter.
		_, _ = client.Compact(ctx, status.Header.Revision, clientv3.WithCompactPhysical())
		if status, err = client.Status(ctx, endpoint); err != nil {
			return err
		}
		// A write or two must not bring it back.
		if status.DbSizeInUse > quota/10*9 {
			return fmt.Errorf("%d bytes are in use and the quota is %d; delete objects, or raise the quota", status.DbSizeInUse, quota)
		}
		if _, err := client.Defragment(ctx, endpoint); err != nil {
			return err
		}
		if _, err := client.AlarmDisarm(ctx, (*clientv3.AlarmMember)(alarm)); err != nil {
			return err
		}
		log.Info("Embedded etcd takes writes again", "bytes", status.DbSizeInUse, "quota", quota)
	}
	return nil
}
