package aggregator

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/fetch"
	"github.com/annex-api/annex/aggregator/internal/pace"
)

const (
	// A start waits for recallTimeout at most until what was remembered is read, and for
	// decodeTimeout until it is decoded.
	recallTimeout = 2 * time.Second
	decodeTimeout = time.Second
	// rememberAfter gathers changes before they are written.
	rememberAfter = time.Second
	// rememberAgain is the pause of a server that is not the one to write, or that
	// could not write everything.
	rememberAgain = 5 * time.Second
	// So often, and so many bytes, the document of one APIService is saved at once, and
	// as many again in each period: one that changes all the time is remembered as it
	// was some minutes ago.
	rememberWrites = 5
	rememberBytes  = 2 << 20
	rememberPeriod = 10 * time.Minute
	// maxRecalledTokens bounds what is recalled of all APIServices together, see
	// document.WellFormed. A resource has some 30.
	maxRecalledTokens = 2_000_000
)

// Memory keeps the last known discovery documents over a restart, so that a
// server that starts while an extension server is dead still lists its
// resources. Until a download confirms them they are listed as Stale.
//
// It is used by one goroutine at a time. Where several servers share it, the one
// that writes conditions writes it too. What it returns is checked as a download
// is: whoever can write where it keeps documents can do no more than an extension
// server can.
type Memory interface {
	// Load returns what was saved of these APIServices, by name. It is called once,
	// before the first of them is routed, and has 2 s. With an error it may return
	// what it has read: the layer uses that. It bounds the bytes that it returns.
	Load(ctx context.Context, apiServices []string) (map[string][]byte, error)
	// Save replaces the document of one APIService. An error is logged, and the
	// document saved again 5 s later, a few times; then less often.
	Save(ctx context.Context, apiService string, document []byte) error
	// Forget removes the document of an APIService that is gone. An error is as
	// that of Save.
	Forget(ctx context.Context, apiService string) error
	// Retain removes the documents of all other APIServices: of those that went
	// while no server ran. An error is as that of Save.
	Retain(ctx context.Context, apiServices []string) error
}

// recall gives the fetcher what was remembered of a first state's APIServices. It
// is Stale until a download confirms it.
func (a *Aggregator) recall(ctx context.Context, first State) map[string]*apidiscoveryv2.APIVersionDiscovery {
	versions := map[string]string{}
	for _, o := range first.APIServices {
		if o.Spec.Service != nil {
			versions[o.Name] = o.Spec.Version
		}
	}
	recalled := map[string]*apidiscoveryv2.APIVersionDiscovery{}
	loading, loaded := context.WithTimeout(ctx, recallTimeout)
	defer loaded()
	saved, err := a.config.Memory.Load(loading, slices.Sorted(maps.Keys(versions)))
	if err != nil {
		klog.FromContext(ctx).V(1).Info("Not all last known discovery documents could be read", "read", len(saved), "err", err)
	}
	decoding, decoded := context.WithTimeout(ctx, decodeTimeout)
	defer decoded()
	left := maxRecalledTokens
	for name, data := range saved {
		version, exists := versions[name]
		if !exists {
			continue
		}
		if decoding.Err() != nil {
			klog.FromContext(ctx).V(1).Info("Not all last known discovery documents are used: there were too many for the time", "used", len(recalled), "read", len(saved))
			break
		}
		d, tokens, err := fetch.Remembered(data, version, left)
		left -= tokens
		if err != nil {
			klog.FromContext(ctx).V(1).Info("A remembered discovery document is not used", "apiService", name, "err", err)
			continue
		}
		recalled[name] = d
		a.fetcher.Seed(name, catalog.Document{Discovery: d, Stale: true, Problem: "not confirmed since this server started"})
	}
	return recalled
}

// remembering is what is known of what the Memory holds.
type remembering struct {
	saved      map[string]*apidiscoveryv2.APIVersionDiscovery
	writes     map[string]*pace.Writes // of those that were saved since the start
	retainedIn int64                   // the last term in which others' were removed
}

// remember saves discovery documents as they change, while this server is the
// one that reports. It begins with what was recalled.
func (a *Aggregator) remember(ctx context.Context) {
	known := remembering{writes: map[string]*pace.Writes{}}
	select {
	case <-ctx.Done():
		return
	case known.saved = <-a.recalled:
	}
	timer := time.NewTimer(rememberAfter)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		term := a.term()
		if term == 0 || !a.saveChanges(ctx, a.snapshot.Load(), &known, term) {
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

// term is that in which this server is the one to write; zero while it is not.
func (a *Aggregator) term() int64 {
	if a.writer == nil {
		return 1
	}
	return a.writer.Term()
}

// saveChanges writes what differs from what was saved, and says whether all was
// written. What is remembered of others is removed once in each term: between two
// terms other servers write.
func (a *Aggregator) saveChanges(ctx context.Context, snapshot *catalog.Snapshot, known *remembering, term int64) bool {
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
		if d.Discovery == nil || d.Stale || known.saved[s.Name] == d.Discovery {
			continue
		}
		writes := known.writesOf(s.Name)
		if writes.Wait(time.Now()) > 0 {
			done = false
			continue
		}
		data, err := json.Marshal(d.Discovery)
		if !note(s.Name, err) {
			continue
		}
		writes.Spend(time.Now(), len(data)) // a failed one may have been stored
		if note(s.Name, a.config.Memory.Save(ctx, s.Name, data)) {
			known.saved[s.Name] = d.Discovery
		}
	}
	if known.retainedIn != term && note("", a.config.Memory.Retain(ctx, slices.Sorted(maps.Keys(remote)))) {
		known.retainedIn = term
	}
	for name := range known.saved {
		if !remote[name] && note(name, a.config.Memory.Forget(ctx, name)) {
			delete(known.saved, name)
		}
	}
	maps.DeleteFunc(known.writes, func(name string, _ *pace.Writes) bool { return !remote[name] })
	return done
}

// writesOf bounds the writes of one APIService's document.
func (k *remembering) writesOf(name string) *pace.Writes {
	w := k.writes[name]
	if w == nil {
		first := pace.NewWrites(rememberWrites, rememberBytes, rememberPeriod)
		w = &first
		k.writes[name] = w
	}
	return w
}
