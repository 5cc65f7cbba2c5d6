// Package store opens storage.Interface over an endpoint, with the watch cache.
//
// One Opened serves all kinds of a server: it has one client, one compactor and one
// probe. Its Decorator gives each kind the etcd3 store of k8s.io/apiserver under the
// cacher of k8s.io/apiserver, whatever driver the endpoint is of, and answers a storage
// that is away with 503.
package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage/etcd3"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/annex-api/annex/extension/storage"
)

const (
	// compactEvery is how long a resourceVersion can at least be watched from; kube-apiserver's own time.
	compactEvery = 5 * time.Minute

	// A connection that has died without a word is found after this time.
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 10 * time.Second
	// authenticateTimeout bounds the one thing that opening waits for: a token, where etcd has users.
	authenticateTimeout = 5 * time.Second
	// A read that finds the storage away is tried again a few times, for less than a second.
	readAttempts = 10
)

// Opened is one endpoint in use: one client for all kinds of a server.
type Opened struct {
	endpoint  *storage.Endpoint
	client    *kubernetes.Client
	compactor compactor
	reach     *reach

	mu    sync.Mutex
	kinds map[*kind]struct{}
}

// compactor is what etcd3.NewCompactor gives.
type compactor interface {
	etcd3.Compactor
	Stop()
}

// Open uses an endpoint and owns it from then on: Close ends both. It does not wait until
// the storage answers. ctx is for values, its end means nothing afterwards.
func Open(ctx context.Context, endpoint *storage.Endpoint) (*Opened, error) {
	ctx = context.WithoutCancel(ctx)
	client, err := connect(ctx, endpoint)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", endpoint.Name, err), closeEndpoint(endpoint))
	}
	client.KV = etcd3.NewETCDLatencyTracker(client.KV)
	check := endpoint.Check
	if check == nil {
		check = func(ctx context.Context) error {
			_, err := client.KV.Get(ctx, "health")
			if isRefusal(err) {
				return nil
			}
			return err
		}
	}
	return &Opened{
		endpoint:  endpoint,
		client:    client,
		compactor: etcd3.NewCompactor(client.Client, compactEvery, clock.RealClock{}, nil),
		reach:     startReach(klog.FromContext(ctx), endpoint.Name, check, featuresOf(client)),
		kinds:     map[*kind]struct{}{},
	}, nil
}

// isRefusal: an etcd that has users, and lets this one read below the server's prefix alone, says so after it has
// agreed with the other members. That is an answer.
func isRefusal(err error) bool { return codeOf(err) == codes.PermissionDenied }

func connect(ctx context.Context, e *storage.Endpoint) (*kubernetes.Client, error) {
	var options []grpc.DialOption
	if e.Dial != nil {
		options = append(options, grpc.WithContextDialer(e.Dial))
	}
	return kubernetes.New(clientv3.Config{
		Context:              ctx,
		Endpoints:            e.Targets,
		TLS:                  e.TLS,
		Username:             e.User,
		Password:             e.Password,
		DialTimeout:          authenticateTimeout,
		DialKeepAliveTime:    keepaliveTime,
		DialKeepAliveTimeout: keepaliveTimeout,
		DialOptions:          options,
		MaxUnaryRetries:      readAttempts,
		Logger:               zap.NewNop(),
	})
}

// Decorator makes the storage of one kind. What it gives is closed by the function that
// it returns with it, and by Close.
func (o *Opened) Decorator() generic.StorageDecorator { return o.decorate }

// Ready is nil while the storage answers and every kind's watch cache is filled. It does no I/O.
func (o *Opened) Ready() error {
	if err := o.reach.ready(); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for k := range o.kinds {
		if err := k.ready(); err != nil {
			return fmt.Errorf("the watch cache of %s is not filled yet: %w", k.resource, err)
		}
	}
	return nil
}

// Close ends the kinds, the client and the endpoint, and waits. It is called once.
func (o *Opened) Close() error {
	o.mu.Lock()
	kinds := make([]*kind, 0, len(o.kinds))
	for k := range o.kinds {
		kinds = append(kinds, k)
	}
	o.mu.Unlock()
	for _, k := range kinds {
		k.close()
	}
	o.reach.stop()
	o.compactor.Stop()
	err := o.client.Close()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("close the client of %s: %w", o.endpoint.Name, err)
	}
	return errors.Join(err, closeEndpoint(o.endpoint))
}

func closeEndpoint(e *storage.Endpoint) error {
	if e.Close == nil {
		return nil
	}
	if err := e.Close(); err != nil {
		return fmt.Errorf("close %s: %w", e.Name, err)
	}
	return nil
}
