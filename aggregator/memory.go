package aggregator

import (
	"context"
	"encoding/json"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

const (
	// recallTimeout bounds how long a start waits for what was remembered.
	recallTimeout = 2 * time.Second
	// rememberAfter gathers changes before they are written.
	rememberAfter = time.Second
	// rememberAgain is the pause of a server that does not write, or that could
	// not write all.
	rememberAgain = 5 * time.Second
)

// Memory keeps the last known discovery documents over a restart, so that a
// server that starts while an extension server is dead does not take its
// resources for gone. Until a download confirms them they are listed as Stale.
//
// It is used by one goroutine at a time. Where several servers share it, the one
// that writes conditions writes it too.
type Memory interface {
	// Load returns what was saved, by APIService name. It is called once, before
	// the Source runs, and has 2 s; an error is as good as nothing saved.
	Load(ctx context.Context) (map[string][]byte, error)
	// Save replaces the document of one APIService. An error is logged, and the
	// document saved again 5 s later.
	Save(ctx context.Context, apiService string, document []byte) error
	// Forget removes the document of an APIService that is gone. An error is as
	// that of Save.
	Forget(ctx context.Context, apiService string) error
}

// recall seeds the documents with what was remembered. They are Stale until a
// download confirms them.
func (a *Aggregator) recall(ctx context.Context) map[string]*apidiscoveryv2.APIVersionDiscovery {
	ctx, cancel := context.WithTimeout(ctx, recallTimeout)
	defer cancel()
	saved, err := a.config.Memory.Load(ctx)
	if err != nil {
		klog.FromContext(ctx).V(1).Info("No last known discovery documents", "err", err)
		return nil
	}
	recalled := map[string]*apidiscoveryv2.APIVersionDiscovery{}
	for name, data := range saved {
		d := &apidiscoveryv2.APIVersionDiscovery{}
		if err := json.Unmarshal(data, d); err != nil {
			klog.FromContext(ctx).V(1).Info("A remembered discovery document does not parse", "apiService", name, "err", err)
			continue
		}
		recalled[name] = d
		a.fetcher.Seed(name, catalog.Document{Discovery: d, Stale: true, Problem: "not confirmed since this server started"})
	}
	return recalled
}

// remember saves discovery documents as they change, while this server is the
// one that reports.
func (a *Aggregator) remember(ctx context.Context) {
	saved := a.recall(ctx)
	close(a.recalled)
	if saved == nil {
		saved = map[string]*apidiscoveryv2.APIVersionDiscovery{}
	}
	timer := time.NewTimer(rememberAfter)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if a.writer != nil && !a.writer.Leading() || !a.saveChanges(ctx, a.snapshot.Load(), saved) {
			timer.Reset(rememberAgain)
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-a.newer:
			timer.Reset(rememberAfter)
		}
	}
}

// saveChanges writes what differs from saved, and says whether all was written.
func (a *Aggregator) saveChanges(ctx context.Context, snapshot *catalog.Snapshot, saved map[string]*apidiscoveryv2.APIVersionDiscovery) bool {
	done := true
	note := func(name string, err error) bool {
		if err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).V(1).Info("Remembering a discovery document failed", "apiService", name, "err", err)
		}
		done = done && err == nil
		return err == nil
	}
	select {
	case <-a.routes:
	default:
		return false // nothing is known to be gone yet
	}
	remote := map[string]bool{}
	for _, s := range snapshot.Remotes() {
		remote[s.Name] = true
		d := s.Document
		if d.Discovery == nil || d.Stale || saved[s.Name] == d.Discovery {
			continue
		}
		data, err := json.Marshal(d.Discovery)
		if note(s.Name, err) && note(s.Name, a.config.Memory.Save(ctx, s.Name, data)) {
			saved[s.Name] = d.Discovery
		}
	}
	for name := range saved {
		if !remote[name] && note(name, a.config.Memory.Forget(ctx, name)) {
			delete(saved, name)
		}
	}
	return done
}
