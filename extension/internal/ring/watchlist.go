package ring

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apiserver/pkg/storage"
	etcdfeature "k8s.io/apiserver/pkg/storage/feature"
)

// SupportWatchList tells k8s.io/apiserver that its watch caches may serve watches with
// initial events, and consistent lists. It asks a checker that is one for the whole process
// (storage/feature/feature_support_checker.go, DefaultFeatureSupportChecker), says
// no until some etcd was asked for its version (Supports, the default), and takes anything with
// Endpoints and Status for an etcd client (CheckClient). The ring does what the
// feature stands for, so it presents itself as an etcd that does too.
//
// An etcd that is too old and was asked before or is asked later turns the feature off for the
// process (clientSupportsRequestWatchProgress). Then the answer is false: such watches get an
// error, and clients list instead.
func SupportWatchList(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	checker := etcdfeature.DefaultFeatureSupportChecker
	// The checker asks in a goroutine of its own, once for each name of an endpoint.
	checker.CheckClient(context.WithoutCancel(ctx), standIn{}, storage.RequestWatchProgress)
	for {
		if checker.Supports(storage.RequestWatchProgress) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(time.Millisecond):
		}
	}
}

// standIn is an etcd of a version that reports progress when asked.
type standIn struct{}

// Endpoints gives a name that no etcd has.
func (standIn) Endpoints() []string { return []string{"annex-event-ring"} }

// Status gives a version above the ones that matter, 3.4.31 and 3.5.13.
func (standIn) Status(context.Context, string) (*clientv3.StatusResponse, error) {
	return &clientv3.StatusResponse{Version: "3.7.0"}, nil
}
