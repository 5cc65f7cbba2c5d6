package status

import (
	"context"
	"time"

	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// sparingLock leaves out renewals that come sooner than renewEvery after the
// last one: who waits for the Lease looks at it more often than its holder has
// to write it.
type sparingLock struct {
	resourcelock.Interface
	written resourcelock.LeaderElectionRecord
	at      time.Time
}

// Create implements resourcelock.Interface.
func (l *sparingLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.write(record, l.Interface.Create(ctx, record))
}

// Update implements resourcelock.Interface.
func (l *sparingLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	renewed := l.written
	renewed.RenewTime = record.RenewTime
	// Half a period less: it is asked on a clock that wavers.
	if record == renewed && record.HolderIdentity != "" && time.Since(l.at) < renewEvery-retryPeriod/2 {
		return nil
	}
	return l.write(record, l.Interface.Update(ctx, record))
}

func (l *sparingLock) write(record resourcelock.LeaderElectionRecord, err error) error {
	if err != nil {
		l.written = resourcelock.LeaderElectionRecord{} // whatever is stored now
		return err
	}
	l.written, l.at = record, time.Now()
	return nil
}
