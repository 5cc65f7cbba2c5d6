package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/annex-api/annex/bench/internal/build"
	"github.com/annex-api/annex/bench/internal/extension"
	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/bench/internal/host"
	"github.com/annex-api/annex/bench/internal/pki"
	"github.com/annex-api/annex/kubeapiserver/version"
)

// stage is the API server that all servers delegate to, whose etcd is theirs too.
type stage struct {
	options  options
	dir      string
	site     extension.Site
	binaries map[string]string // of sample, sdk, and of all storage
	versions string
}

const knownLimit = 30 * time.Second

// The namespaces of objects: each work has its own.
const (
	createdNS = "created"
	fewNS     = "few"
	changedNS = "changed"
	watchedNS = "watched"
)

// prefix is below which the servers keep their objects in etcd: the SDK's is that of its name.
var prefix = map[string]string{sample: "/registry/wardle.example.com", sdk: "/registry/wardle/"}

const module = "github.com/annex-api/annex"

// open starts the API server.
func open(ctx context.Context, o options) (_ *stage, err error) {
	s := &stage{options: o, binaries: map[string]string{}, versions: fmt.Sprintf("Kubernetes %s; sample-apiserver v0.37.2; %s; %d processors", version.Kubernetes, runtime.Version(), runtime.NumCPU())}
	programs, err := build.All(ctx, build.Config{})
	if err != nil {
		return nil, err
	}
	folder, err := build.Folder()
	if err != nil {
		return nil, err
	}
	for name, path := range map[string]string{sample: "k8s.io/sample-apiserver", sdk: module + "/bench/sdk/server", "sdk-drivers": module + "/bench/sdk/drivers"} {
		s.binaries[name] = filepath.Join(folder, name)
		if err := build.One(ctx, build.Package{Path: path, Binary: s.binaries[name]}); err != nil {
			return nil, err
		}
	}
	// Unix sockets lie below this folder: the path must be short.
	if s.dir, err = os.MkdirTemp("", "annex-sdk-"); err != nil {
		return nil, fmt.Errorf("making a temporary folder: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	files, err := pki.Write(s.dir, fixture.WildcardName)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(s.dir, "host")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the server's folder: %w", err)
	}
	h, err := host.Start(ctx, host.Config{
		Name: build.Reference, Command: programs.Servers[build.Reference], Etcd: programs.Etcd, Dir: dir, Files: files,
	})
	s.site = extension.Site{Host: h, Files: files, Dir: s.dir}
	if err != nil {
		return nil, err
	}
	for _, name := range []string{createdNS, fewNS, changedNS, watchedNS} {
		if err := h.Create(ctx, "/api/v1/namespaces", map[string]any{"metadata": map[string]any{"name": name}}); err != nil {
			return nil, err
		}
	}
	return s, s.site.WriteKubeconfig()
}

func (s *stage) close() error {
	var errs []error
	if s.site.Host != nil {
		errs = append(errs, s.site.Host.Stop())
	}
	if s.options.keep {
		fmt.Fprintln(os.Stderr, "logs and data are in", s.dir)
	} else {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

// server is one that is measured.
type server struct {
	*extension.Program
	name   string
	client *http.Client
	// profile asks it for a path below /debug/pprof/.
	profile func(ctx context.Context, path string) ([]byte, error)
	stop    func() error
}

// start starts a server with fresh data.
func (s *stage) start(ctx context.Context, name string, round int) (*server, error) {
	port, err := host.FreePort()
	if err != nil {
		return nil, err
	}
	label := name + "-" + strconv.Itoa(round)
	v := &server{name: name, client: s.site.Host.Client}
	socket := filepath.Join(s.dir, label+".sock")
	before := func() error { return nil }
	var args []string
	binary := s.binaries[name]
	if name == sample || name == sdk {
		// Rounds begin with nothing.
		if err := host.Etcd(ctx, s.site.Host.EtcdSocket(), "kv/deleterange", map[string]any{"key": []byte(prefix[name]), "range_end": []byte(prefix[name] + "~")}); err != nil {
			return nil, err
		}
	}
	switch name {
	case sample:
		args = slices.Concat(s.site.Delegated(), s.site.Serving(port), []string{
			"--kubeconfig=" + s.site.Kubeconfig(), "--etcd-servers=unix://" + s.site.Host.EtcdSocket(), "--etcd-prefix=" + prefix[sample],
		})
		v.profile = func(ctx context.Context, path string) ([]byte, error) { return get(ctx, v.client, v.URL+path) }
	default:
		storage, stop, err := s.storage(ctx, name, label)
		if err != nil {
			return nil, err
		}
		before = stop
		if name != sdk {
			binary = s.binaries["sdk-drivers"]
		}
		args = slices.Concat([]string{"--debug-socket=" + socket}, s.site.Serving(port), []string{"--kubeconfig=" + s.site.Kubeconfig(), "--storage=" + storage})
		v.profile = overSocket(socket)
	}
	if v.Program, err = s.site.Start(ctx, label, binary, port, args...); err != nil {
		return nil, errors.Join(err, before())
	}
	v.stop = func() error { return errors.Join(v.Program.Stop(), before()) }
	// Who we are it may learn a moment later.
	err = v.Until(ctx, label+" to know us", knownLimit, 100*time.Millisecond, func(ctx context.Context) (bool, error) {
		_, err := get(ctx, v.client, v.URL+collection(fewNS))
		if err != nil {
			v.client.CloseIdleConnections()
		}
		return err == nil, nil
	})
	if err != nil {
		return nil, errors.Join(err, v.stop())
	}
	return v, nil
}

// storage prepares what the SDK's server keeps its objects in.
func (s *stage) storage(ctx context.Context, name, label string) (url string, stop func() error, err error) {
	none := func() error { return nil }
	switch name {
	case sdk:
		// The host's, which sample-apiserver uses too.
		return "etcd://" + s.site.Host.EtcdSocket(), none, nil
	case memory:
		return "memory://", none, nil
	case sqlite:
		return "sqlite://" + filepath.Join(s.dir, label+".db"), none, nil
	}
	p, err := startPostgres(ctx, s.dir)
	if err != nil {
		return "", none, err
	}
	return p.url(), p.stop, nil
}

// overSocket asks for profiles by a Unix socket.
func overSocket(socket string) func(context.Context, string) ([]byte, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	return func(ctx context.Context, path string) ([]byte, error) { return get(ctx, client, "http://debug"+path) }
}

func (s *stage) progress(round int, format string, args ...any) {
	fmt.Fprintf(os.Stderr, "round %d of %d, %s\n", round, s.options.rounds, fmt.Sprintf(format, args...))
}

func since(began time.Time) time.Duration { return time.Since(began).Round(time.Millisecond) }
