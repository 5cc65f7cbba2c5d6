// Package etcd runs one etcd member inside the process.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/annex-api/annex/internal/etcd/datadir"
)

const (
	// DefaultQuotaBytes bounds the database: 8 GiB, the largest size that etcd recommends. When it
	// is full, writes fail with "database space exceeded" and reads go on.
	DefaultQuotaBytes = 8 << 30

	// A lone member needs no votes of others, so short ticks only shorten its own election: it
	// leads within 250 ms of its start. What is acknowledged was synced to disk regardless.
	tickMs     = 25
	electionMs = 125
)

// Options of an embedded member.
type Options struct {
	// Dir is the member's own directory, made with mode 0700 where needed.
	Dir string
	// QuotaBytes bounds the database; 0 means DefaultQuotaBytes.
	QuotaBytes int64
	// ProgressInterval is how often a watch without events tells its revision; 0 means etcd's ten
	// minutes. All members of a process have the one that was given last.
	ProgressInterval time.Duration
	// Log receives warnings and errors, one JSON object a line; nil means os.Stderr.
	Log io.Writer
	// OnFatal is told why the running member cannot go on, a full disk for example, on whatever
	// goroutine found out; it must end the process. Nil, or returning, means a panic.
	OnFatal func(error)
}

// Server is a running member. Its only listener is a Unix socket in a directory of mode 0700:
// no other user and no network reaches it. It has no peer listener.
type Server struct {
	dir      *datadir.Dir
	etcd     *embed.Etcd
	fatal    *fatalHook
	endpoint string
}

// Start runs the member and returns when it leads and serves. An error leaves nothing running and
// the data as they were; it is one sentence with its remedy.
func Start(ctx context.Context, o Options) (*Server, error) {
	s, err := Launch(o)
	if err != nil {
		return nil, err
	}
	if err := s.Ready(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// Launch runs the member and returns as soon as clients can connect; until it is Ready, their
// requests wait.
func Launch(o Options) (_ *Server, err error) {
	dir, err := datadir.Claim(o.Dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, dir.Release())
		}
	}()
	if err := inspect(dir.Path()); err != nil {
		return nil, corrupt(dir.Path(), err)
	}
	socket, err := socketPath(dir.Path())
	if err != nil {
		return nil, err
	}
	if err := ownSocketDir(dir.Path(), socket); err != nil {
		return nil, err
	}
	s := &Server{dir: dir, fatal: &fatalHook{onFatal: o.OnFatal}, endpoint: "unix://" + socket}
	if s.etcd, err = start(config(dir.Path(), socket, o, s.fatal)); err != nil {
		return nil, corrupt(dir.Path(), err)
	}
	s.fatal.running.Store(true)
	return s, nil
}

// Ready waits until the member leads and serves.
func (s *Server) Ready(ctx context.Context) error {
	select {
	case <-s.etcd.Server.ReadyNotify():
		return nil
	case err, ok := <-s.etcd.Err():
		if !ok || err == nil {
			err = errors.New("its listener was closed")
		}
		return fmt.Errorf("embedded etcd in %s stopped while starting: %w", s.dir.Path(), err)
	case <-s.etcd.Server.StopNotify():
		return fmt.Errorf("embedded etcd in %s stopped while starting", s.dir.Path())
	case <-ctx.Done():
		return fmt.Errorf("wait for embedded etcd in %s: %w", s.dir.Path(), context.Cause(ctx))
	}
}

// Endpoint returns the client URL, unix://<absolute path>.
func (s *Server) Endpoint() string { return s.endpoint }

// Err reports a listener's failure, and is closed when the member has stopped.
func (s *Server) Err() <-chan error { return s.etcd.Err() }

// Stop returns when everything is closed. Clients that are still connected are given up to about
// five seconds to end their requests. It is called once.
func (s *Server) Stop() error {
	s.fatal.stopping.Store(true)
	s.etcd.Close()
	removeSocketDir(s.dir.Path(), strings.TrimPrefix(s.endpoint, "unix://"))
	return s.dir.Release()
}

// start turns panics and fatal log entries of etcd's start, its way of reporting broken data, into
// errors.
func start(cfg *embed.Config) (*embed.Etcd, error) {
	var e *embed.Etcd
	err := inOwnGoroutine(func() (err error) {
		e, err = embed.StartEtcd(cfg)
		return err
	})
	return e, err
}

func config(dir, socket string, o Options, hook *fatalHook) *embed.Config {
	cfg := embed.NewConfig()
	cfg.Name = "annex"
	cfg.Dir = dir
	cfg.ListenClientUrls = []url.URL{{Scheme: "unix", Path: socket}}
	// Names for the membership record only, which takes no sockets: nothing listens there.
	cfg.AdvertiseClientUrls = []url.URL{{Scheme: "http", Host: "localhost:2379"}}
	peer := url.URL{Scheme: "http", Host: "localhost:2380"}
	cfg.ListenPeerUrls = nil
	cfg.AdvertisePeerUrls = []url.URL{peer}
	cfg.InitialCluster = cfg.Name + "=" + peer.String()
	cfg.InitialClusterToken = "annex"
	cfg.TickMs, cfg.ElectionMs = tickMs, electionMs
	cfg.QuotaBackendBytes = o.QuotaBytes
	if cfg.QuotaBackendBytes == 0 {
		cfg.QuotaBackendBytes = DefaultQuotaBytes
	}
	cfg.WatchProgressNotifyInterval = o.ProgressInterval
	// The API server compacts.
	cfg.AutoCompactionRetention = "0"
	cfg.WarningUnaryRequestDuration = embed.DefaultWarningUnaryRequestDuration // 0 reports every request
	cfg.UnsafeNoFsync = false
	cfg.EnableGRPCGateway = false
	cfg.EnablePprof = false
	w := o.Log
	if w == nil {
		w = os.Stderr
	}
	cfg.LogLevel = "warn"
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(newLogger(w, hook))
	return cfg
}

func corrupt(dir string, cause error) error {
	var space *noSpaceError
	if errors.As(cause, &space) {
		return fmt.Errorf("embedded etcd cannot write to %s (%w); free some space", dir, cause)
	}
	return fmt.Errorf("etcd's data in %s cannot be used (%w); restore %s from a backup, or move it away to start empty",
		dir, cause, filepath.Join(dir, "member"))
}
