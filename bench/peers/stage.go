package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/bench/internal/build"
	"github.com/annex-api/annex/bench/internal/extension"
	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/bench/internal/host"
	"github.com/annex-api/annex/bench/internal/pki"
	"github.com/annex-api/annex/bench/internal/process"
	"github.com/annex-api/annex/extension/extensiontest/conformance"
)

const (
	stopGrace  = 15 * time.Second
	readyLimit = 2 * time.Minute
	checkLimit = 15 * time.Minute // of one resource
	// documentsWait is how long the API server may take to fetch discovery and OpenAPI.
	documentsWait = 75 * time.Second
	// second is a user without any right.
	second = "peers-second"
)

type object = map[string]any

// stage is the API server that the peers are behind, and what runs beside it.
type stage struct {
	*host.Host
	options  options
	dir      string
	etcd     string // the binary
	files    pki.Files
	site     extension.Site
	caBundle []byte
	version  string
	manager  *process.Process // ends namespaces
}

// open starts the API server.
func open(ctx context.Context, o options) (_ *stage, err error) {
	programs, err := build.All(ctx, build.Config{Commands: map[string]string{build.Reference: o.reference, build.Annex: o.ours}})
	if err != nil {
		return nil, err
	}
	s := &stage{options: o, etcd: programs.Etcd}
	// Unix sockets lie below this folder: the path must be short.
	if s.dir, err = os.MkdirTemp("", "annex-peers-"); err != nil {
		return nil, fmt.Errorf("making a temporary folder: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.files, err = pki.Write(s.dir, fixture.WildcardName); err != nil {
		return nil, err
	}
	if s.caBundle, err = os.ReadFile(s.files.CA); err != nil {
		return nil, fmt.Errorf("reading the CA: %w", err)
	}
	dir := filepath.Join(s.dir, "host")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the server's folder: %w", err)
	}
	s.Host, err = host.Start(ctx, host.Config{Name: o.host, Command: programs.Servers[o.host], Etcd: programs.Etcd, Dir: dir, Files: s.files})
	if err != nil {
		return nil, err
	}
	body, err := s.Get(ctx, "/version", nil)
	if err != nil {
		return nil, err
	}
	var v struct{ GitVersion string }
	if err := json.Unmarshal(body, &v); err != nil {
		return nil, fmt.Errorf("decoding the version: %w", err)
	}
	s.version = v.GitVersion
	s.site = extension.Site{Host: s.Host, Files: s.files, Dir: s.dir}
	if err := s.site.WriteKubeconfig(); err != nil {
		return nil, err
	}
	// Its watch caches then begin above the first resourceVersions, as those of any server that is not new.
	if err := s.Restart(ctx); err != nil {
		return nil, err
	}
	return s, s.startManager(ctx)
}

// startManager runs the controller that empties namespaces which are deleted.
func (s *stage) startManager(ctx context.Context) error {
	path, err := s.build(ctx, "kube-controller-manager", "", "k8s.io/kubernetes/cmd/kube-controller-manager")
	if err != nil {
		return err
	}
	s.manager, err = process.Start(process.Command{
		Name: "kube-controller-manager", Path: path, Log: filepath.Join(s.dir, "manager.log"),
		Args: []string{
			"--kubeconfig=" + s.site.Kubeconfig(), "--authentication-kubeconfig=" + s.site.Kubeconfig(), "--authorization-kubeconfig=" + s.site.Kubeconfig(),
			"--controllers=namespace-controller", "--secure-port=0",
		},
	})
	if err != nil {
		return err
	}
	return s.manager.Until(ctx, "the controller manager to lead", readyLimit, 200*time.Millisecond, func(ctx context.Context) (bool, error) {
		_, err := s.Get(ctx, "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager", nil)
		return err == nil, nil // It is not there yet.
	})
}

func (s *stage) close() error {
	var errs []error
	if s.manager != nil {
		errs = append(errs, s.manager.Stop(stopGrace))
	}
	if s.Host != nil {
		errs = append(errs, s.Stop())
	}
	if s.options.keep {
		fmt.Fprintln(os.Stderr, "logs and data are in", s.dir)
	} else {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

// admin leads to the API server as its administrator.
func (s *stage) admin() *rest.Config {
	return &rest.Config{
		Host: s.URL, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAFile: s.files.CA, CertFile: s.files.Admin, KeyFile: s.files.AdminKey},
	}
}

// delegated are the flags of a server on k8s.io/apiserver.
func (s *stage) delegated(port int) []string {
	return slices.Concat(s.site.Delegated(), s.site.Serving(port))
}

// direct leads straight to a program, without credentials.
func (s *stage) direct(p *extension.Program) *rest.Config {
	return &rest.Config{Host: p.URL, TLSClientConfig: rest.TLSClientConfig{CAFile: s.files.CA}}
}

// unregister deletes APIServices: one whose server is gone would keep every namespace from ending.
func (s *stage) unregister(ctx context.Context, targets ...conformance.Target) error {
	var errs []error
	for _, t := range targets {
		gv := t.Resource.GroupVersion()
		errs = append(errs, s.Do(context.WithoutCancel(ctx), http.MethodDelete, "/apis/apiregistration.k8s.io/v1/apiservices/"+gv.Version+"."+gv.Group, stopGrace))
	}
	return errors.Join(errs...)
}

// register makes the APIService of a group version and waits until its documents are there.
func (s *stage) register(ctx context.Context, p *extension.Program, group, version string) error {
	err := s.RegisterOne(ctx, host.Registration{
		Group: group, Version: version, Service: strings.ReplaceAll(version+"."+group, ".", "-"), Port: p.Port, CABundle: s.caBundle,
	})
	if err != nil {
		return err
	}
	// A server may have no such documents at all, which a check says.
	bounded, cancel := context.WithTimeout(ctx, documentsWait)
	defer cancel()
	for bounded.Err() == nil {
		current, err := s.Current(bounded, group, version)
		if err == nil && current {
			body, err := s.Get(bounded, "/openapi/v2", http.Header{"Accept": {"application/json"}})
			index, indexErr := s.Get(bounded, "/openapi/v3", nil)
			path := "apis/" + group + "/" + version
			if err == nil && indexErr == nil && strings.Contains(string(body), `"/`+path) && strings.Contains(string(index), `"`+path+`"`) {
				return nil
			}
		}
		select {
		case <-bounded.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
	return ctx.Err()
}

// build makes the program of a peer, in a module of its own if it has one.
func (s *stage) build(ctx context.Context, name, module, path string) (string, error) {
	folder, err := build.Folder()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(folder, name)
	return binary, build.One(ctx, build.Package{Path: path, Tree: module, Binary: binary})
}

// check starts a peer and runs the kit over its resources.
func (s *stage) check(ctx context.Context, p peer) (results []result, err error) {
	targets, stop, err := p.start(ctx, s)
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return nil, err
	}
	for _, t := range targets {
		resource := t.Resource
		t.Config = s.admin()
		t.Second = s.admin()
		t.Second.Impersonate = rest.ImpersonationConfig{UserName: second}
		t.Name = "peers-" + strings.ReplaceAll(strings.ReplaceAll(resource.Resource, "/", "-")+"-"+resource.Version, ".", "-")
		t.Only, t.Slow = s.options.only, t.Slow && s.options.slow
		bounded, cancel := context.WithTimeout(ctx, checkLimit)
		summary := conformance.Run(bounded, t, nil)
		cancel()
		r := result{peer: p.name, resource: resource, summary: summary}
		fmt.Fprintf(os.Stderr, "%-18s %-44s %s\n", p.name, r.name(), r.verdict())
		results = append(results, r)
		if ctx.Err() != nil {
			return results, ctx.Err()
		}
	}
	return results, nil
}
