//go:build linux || darwin || freebsd

package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/annex-api/annex/extension/storage"
	"github.com/annex-api/annex/internal/etcd"
)

// progressInterval is how often a watch without events tells its revision, as kubeadm sets it for etcd.
const progressInterval = 5 * time.Second

func open(_ context.Context, u *url.URL, log logr.Logger) (*storage.Endpoint, error) {
	options, err := options(u)
	if err != nil {
		return nil, err
	}
	options.ProgressInterval = progressInterval
	options.Log = lines{log}
	options.OnFatal = func(err error) { log.Error(err, "embedded etcd ends the process") }
	server, err := etcd.Launch(options)
	if err != nil {
		return nil, err
	}
	stop, err := keepSpace(server.Endpoint(), options.QuotaBytes, spaceEvery, log)
	if err != nil {
		return nil, errors.Join(err, server.Stop())
	}
	return &storage.Endpoint{
		Name:    "embedded etcd " + options.Dir,
		Targets: []string{server.Endpoint()},
		Close:   func() error { return errors.Join(stop(), server.Stop()) },
	}, nil
}

func options(u *url.URL) (etcd.Options, error) {
	if u.Host != "" || u.Path == "" || u.Path == "/" {
		return etcd.Options{}, errors.New("a directory is named by its absolute path, with three slashes after the colon")
	}
	for name := range u.Query() {
		if !slices.Contains([]string{"quota"}, name) {
			return etcd.Options{}, fmt.Errorf("unknown parameter %q; the only one is quota", name)
		}
	}
	o := etcd.Options{Dir: u.Path}
	if given := u.Query().Get("quota"); given != "" {
		size, err := resource.ParseQuantity(given)
		if err != nil || size.Value() <= 0 {
			return etcd.Options{}, fmt.Errorf("quota %q is not a size such as 2Gi", given)
		}
		o.QuotaBytes = size.Value()
		return o, nil
	}
	quota, err := defaultQuota(o.Dir)
	o.QuotaBytes = quota
	return o, err
}

// lines logs what etcd says, an object a line.
type lines struct{ log logr.Logger }

func (l lines) Write(p []byte) (int, error) {
	l.log.Info("etcd says", "entry", string(bytes.TrimSpace(p)))
	return len(p), nil
}
