package store

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/feature"
)

// featuresOf asks the storage for its version and tells upstream's checker, which the whole process
// shares: it refuses streaming lists until some storage was found to support them. It
// remembers endpoints by name for good, and never asks again where it was stopped before it had an
// answer; so each client has its own name here.
func featuresOf(client *kubernetes.Client) func(context.Context) error {
	return func(ctx context.Context) error {
		var errs []error
		for _, target := range client.Endpoints() {
			status, err := client.Status(ctx, target)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			name := fmt.Sprintf("%s#%p", target, client)
			feature.DefaultFeatureSupportChecker.CheckClient(client.Ctx(), answered{name, status}, storage.RequestWatchProgress)
			return nil
		}
		return errors.Join(errs...)
	}
}

// answered is an endpoint whose status is known.
type answered struct {
	name   string
	status *clientv3.StatusResponse
}

func (a answered) Endpoints() []string { return []string{a.name} }

func (a answered) Status(context.Context, string) (*clientv3.StatusResponse, error) {
	return a.status, nil
}
