package devloop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fake is a project whose builds and servers do as they are told.
type fake struct {
	mu      sync.Mutex
	build   func() (string, error)
	servers []*fakeServer
	said    []string
	silent  bool // new servers never become ready
}

func (f *fake) Build(context.Context) (string, error) { return f.build() }

func (f *fake) Start(number int) (Server, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &fakeServer{ready: make(chan struct{}), ended: make(chan struct{})}
	if !f.silent {
		close(s.ready)
	}
	f.servers = append(f.servers, s)
	if number != len(f.servers) {
		return nil, fmt.Errorf("number %d, want %d", number, len(f.servers))
	}
	return s, nil
}

func (f *fake) Say(_ bool, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said = append(f.said, text)
}

type fakeServer struct {
	ready, ended chan struct{}
	once         sync.Once
	grace        time.Duration
}

func (s *fakeServer) Ready() <-chan struct{} { return s.ready }
func (s *fakeServer) Ended() <-chan struct{} { return s.ended }
func (s *fakeServer) Err() error             { return nil }
func (s *fakeServer) Stop(grace time.Duration) error {
	s.once.Do(func() { s.grace = grace; close(s.ended) })
	return nil
}

func TestLoopDoesWhatIsDecided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		changed := make(chan struct{})
		sums := []string{"a", "", "b", "c"}
		p := &fake{}
		p.build = func() (sum string, err error) {
			if sum, sums = sums[0], sums[1:]; sum == "" {
				return "", errors.New("syntax error")
			}
			return sum, nil
		}
		done := make(chan error)
		go func() { done <- Loop{Project: p, Saved: changed}.Run(ctx) }()
		synctest.Wait()
		for range 2 { // it does not build, then a second server replaces the first
			changed <- struct{}{}
			synctest.Wait()
		}
		p.silent = true
		changed <- struct{}{}
		synctest.Wait()
		time.Sleep(DefaultPatience) // the bubble's clock
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		want := []string{
			"server 1 serves", "it does not build; server 1 goes on\nsyntax error", "server 2 serves in place of server 1",
			"server 3 is not ready in time and is given up; server 2 goes on",
		}
		if !slices.Equal(p.said, want) {
			t.Errorf("said %q, want %q", p.said, want)
		}
		for i, grace := range []time.Duration{DefaultDrain, DefaultHurry, DefaultDrain} {
			if got := p.servers[i].grace; got != grace {
				t.Errorf("server %d was given %s to end, want %s", i+1, got, grace)
			}
		}
	})
}

func TestWatchSeesWhatIsSaved(t *testing.T) {
	dir := t.TempDir()
	write := func(name string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(time.Now().String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("main.go")
	before := fingerprint(dir)
	for _, name := range []string{".annex/bin/server", ".main.go.swp", "main_test.go", "main.go~", "node_modules/x/x.js"} {
		write(name)
		if fingerprint(dir) != before {
			t.Errorf("%s counts", name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	changed, done := Watch(ctx, dir)
	for _, name := range []string{"crd/widgets.yaml", "main.go"} {
		write(name)
		select {
		case <-changed:
		case <-time.After(time.Minute):
			t.Fatalf("%s is saved and nobody notices", name)
		}
	}
	cancel()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("the watch does not end")
	}
}
