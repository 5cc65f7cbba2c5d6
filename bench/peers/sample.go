package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/annex-api/annex/bench/internal/host"
	"github.com/annex-api/annex/bench/internal/process"
	"github.com/annex-api/annex/extension/extensiontest/conformance"
)

// ownEtcd is the storage of a peer alone, which a check stops and starts.
type ownEtcd struct {
	binary, dir, socket string
	process             *process.Process // nil while it is stopped
}

func (e *ownEtcd) start(ctx context.Context) error {
	var err error
	e.process, err = host.StartEtcd(ctx, e.binary, e.dir, e.socket)
	return err
}

func (e *ownEtcd) stop(context.Context) error {
	if e.process == nil {
		return nil
	}
	p := e.process
	e.process = nil
	return p.Kill()
}

// fill writes some keys of nobody's, so that the first resourceVersions are past.
func (e *ownEtcd) fill(ctx context.Context) error {
	for range 10 {
		if err := host.Etcd(ctx, e.socket, "kv/put", object{"key": []byte("nobody"), "value": []byte("x")}); err != nil {
			return err
		}
	}
	return nil
}

// startSample runs the server of Kubernetes' own example.
func startSample(ctx context.Context, s *stage) (_ []conformance.Target, stop func() error, err error) {
	const group = "wardle.example.com"
	path, err := s.build(ctx, "sample-apiserver", "", "k8s.io/sample-apiserver")
	if err != nil {
		return nil, none, err
	}
	dir := filepath.Join(s.dir, "sample")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, none, fmt.Errorf("making the folder of an etcd: %w", err)
	}
	etcd := &ownEtcd{binary: s.etcd, dir: dir, socket: filepath.Join(dir, "etcd.sock")}
	stop = func() error { return etcd.stop(ctx) }
	if err := etcd.start(ctx); err != nil {
		return nil, stop, err
	}
	if err := etcd.fill(ctx); err != nil {
		return nil, stop, err
	}
	port, err := host.FreePort()
	if err != nil {
		return nil, stop, err
	}
	args := append(s.delegated(port), "--kubeconfig="+s.site.Kubeconfig(), "--etcd-servers=unix://"+etcd.socket)
	p, err := s.site.Start(ctx, "sample-apiserver", path, port, args...)
	if err != nil {
		return nil, stop, err
	}
	stop = func() error { return errors.Join(p.Stop(), etcd.stop(ctx)) }
	for _, version := range []string{"v1alpha1", "v1beta1"} {
		if err := s.register(ctx, p, group, version); err != nil {
			return nil, stop, err
		}
	}
	flunders := of(group, "v1alpha1", "flunders")
	flunders.Slow = true
	flunders.Storage = conformance.Storage{Stop: etcd.stop, Start: etcd.start}
	flunders.Sample = sample(object{"spec": object{"reference": "one", "referenceType": "Flunder"}})
	flunders.Change = []string{"spec", "reference"}
	beta := of(group, "v1beta1", "flunders")
	beta.Sample = sample(object{"spec": object{"flunderReference": "one", "referenceType": "Flunder"}})
	beta.Change = []string{"spec", "flunderReference"}
	targets := []conformance.Target{flunders, beta, of(group, "v1alpha1", "fischers")}
	stop = func() error { return errors.Join(s.unregister(ctx, flunders, beta), p.Stop(), etcd.stop(ctx)) }
	for i := range targets {
		targets[i].Direct = s.direct(p)
	}
	return targets, stop, nil
}

func sample(content object) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: content}
}
