package controllers

import (
	"context"
	"fmt"
	"os"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// leaseCall bounds a request for the lease: half of the time in which a leader has to
// renew it.
const leaseCall = 5 * time.Second

// leaseLock is the lease by which replicas elect who leads. It tells how that goes: who
// waits to be elected is not told by the election itself.
type leaseLock struct {
	resourcelock.Interface
	progress *progress
	// seen is the lease as it was last, and refused as it was when it could not be written;
	// empty: it could.
	seen, refused string
}

// lease makes the lock of controllers that elect a leader; nil for others.
func lease(o Options, p *progress) (*leaseLock, error) {
	if o.Lease.Name == "" {
		return nil, nil
	}
	config := rest.CopyConfig(o.Config)
	config.Timeout = leaseCall
	client, err := coordinationclient.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for the lease of controllers: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("name this replica: %w", err)
	}
	return &leaseLock{progress: p, Interface: &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: o.Lease.Namespace, Name: o.Lease.Name},
		Client:     client,
		LockConfig: resourcelock.ResourceLockConfig{Identity: host + "_" + string(uuid.NewUUID())},
	}}, nil
}

// events has elections recorded by the manager that uses the lock.
func (l *leaseLock) events(m manager.Manager) {
	if lock, ok := l.Interface.(*resourcelock.LeaseLock); ok {
		//lint:ignore SA1019 the lock takes a recorder of this kind alone
		lock.LockConfig.EventRecorder = m.GetEventRecorderFor(l.Identity())
	}
}

// Get implements resourcelock.Interface.
func (l *leaseLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.Interface.Get(ctx)
	switch {
	case apierrors.IsNotFound(err): // it is created then
	case err != nil:
		l.failed(err)
	default:
		l.seen = string(raw)
		// A lease that could not be taken, and is as it was, is nobody's.
		if l.refused == "" || l.refused != l.seen {
			l.refused = ""
			l.progress.tell(func() {
				l.progress.lease = nil
				l.progress.standby = record.HolderIdentity != "" && record.HolderIdentity != l.Identity()
			})
		}
	}
	return record, raw, err
}

// Create implements resourcelock.Interface.
func (l *leaseLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.wrote(l.Interface.Create(ctx, record))
}

// Update implements resourcelock.Interface.
func (l *leaseLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.wrote(l.Interface.Update(ctx, record))
}

func (l *leaseLock) wrote(err error) error {
	switch {
	case err == nil:
		l.refused = ""
		l.progress.tell(func() { l.progress.lease, l.progress.standby = nil, false })
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err): // another one was first
	default:
		l.refused = l.seen
		l.failed(err)
	}
	return err
}

func (l *leaseLock) failed(err error) {
	l.progress.tell(func() { l.progress.lease, l.progress.standby = err, false })
}
