package watchlist

import (
	"context"
	"slices"
	"sync"
	"time"

	"k8s.io/klog/v2"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"

	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/pace"
)

// Timing of the watches that are tried at the extension server of one APIService.
type Timing struct {
	// Timeout of one watch.
	Timeout time.Duration
	// Soon is the least time from the begin of one watch to that of the next.
	Soon time.Duration
	// Pause is the pause after a watch that showed nothing. It grows to UnknownMax,
	// doubling each time. It begins with Soon while clients are refused what the server may
	// do by now.
	Pause, UnknownMax time.Duration
	// Interval is the pause after one that showed something: the server may have become
	// another without a sign.
	Interval time.Duration
}

// Watches that are tried at one extension server: some at once where several things change,
// as while it is restarted, and in the long run as many again in each period.
const (
	triesAtOnce = 6
	triesPeriod = 4 * time.Minute
)

// DefaultTiming finds a server that hangs informers within seconds of its discovery, and
// one that was mended within seconds too. It costs next to nothing afterwards.
func DefaultTiming() Timing {
	return Timing{Timeout: 3 * time.Second, Soon: time.Second, Pause: 30 * time.Second, UnknownMax: 10 * time.Minute, Interval: time.Hour}
}

// Try opens one watch, of Path, and says what it shows, which may be Silent. It returns
// when ctx ends.
type Try func(ctx context.Context, a *catalog.APIService) catalog.WatchListSupport

// Config of a Finder.
type Config struct {
	Timing Timing
	Try    Try
	// Report gets what a watch has shown, from several goroutines. What shows nothing
	// is not reported: what was known before stays.
	Report func(a *catalog.APIService, support catalog.WatchListSupport)
}

// Finder tries watches: one at a time for each APIService that has a resource to
// watch, when it is first available, and when its endpoints or discovery are others.
type Finder struct {
	config  Config
	running sync.WaitGroup

	mu    sync.Mutex // no other lock is taken while it is held
	loops map[string]*loop
}

// New returns a Finder that tries nothing until Sync.
func New(config Config) *Finder { return &Finder{config: config, loops: map[string]*loop{}} }

// loop tries watches at the extension server of one APIService.
type loop struct {
	cancel context.CancelFunc
	wake   chan struct{} // one slot

	// The Finder's lock guards this one.
	apiService *catalog.APIService
}

// Sync starts, keeps and stops loops so that they fit the snapshot. Loops end with
// ctx; Wait waits for them.
func (f *Finder) Sync(ctx context.Context, s *catalog.Snapshot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	wanted := map[string]bool{}
	for _, a := range s.Remotes() {
		l := f.loops[a.Name]
		if l == nil && !ready(a) || a.Settings.WatchList != catalog.WatchListAuto {
			continue
		}
		wanted[a.Name] = true
		if l != nil {
			before := l.apiService
			l.apiService = a
			if !sameSubject(before, a) {
				wake(l.wake)
			}
			continue
		}
		loopCtx, cancel := context.WithCancel(ctx)
		l = &loop{cancel: cancel, wake: make(chan struct{}, 1), apiService: a}
		f.loops[a.Name] = l
		f.running.Go(func() { f.run(loopCtx, l) })
	}
	for name, l := range f.loops {
		if !wanted[name] {
			l.cancel()
			delete(f.loops, name)
		}
	}
}

// ready says whether there is something to watch, at a server that answers.
func ready(a *catalog.APIService) bool {
	_, found := Path(a)
	return found && a.Verdict.Status == apiregistrationv1.ConditionTrue
}

// sameSubject says whether what is known of one is as good for the other.
func sameSubject(a, b *catalog.APIService) bool {
	return a.Backend == b.Backend && ready(a) == ready(b) && slices.Equal(a.Target.Endpoints, b.Target.Endpoints) &&
		sameResources(a.Document.Discovery, b.Document.Discovery)
}

// sameResources goes by the pointer: a download that finds the same resources keeps it.
func sameResources(a, b *apidiscoveryv2.APIVersionDiscovery) bool { return a == b }

// Again has the extension server tried again, because it ended a connection: it may
// come back as another one.
func (f *Finder) Again(id catalog.BackendID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.loops {
		if l.apiService.Backend == id {
			wake(l.wake)
		}
	}
}

// Wait returns when all loops have ended.
func (f *Finder) Wait() { f.running.Wait() }

func (f *Finder) run(ctx context.Context, l *loop) {
	timing, budget := f.config.Timing, pace.NewBudget(triesAtOnce, triesPeriod)
	var seen history
	last, unknown := catalog.WatchListUnknown, 0
	for before := (*catalog.APIService)(nil); ; {
		f.mu.Lock()
		a := l.apiService
		f.mu.Unlock()
		if before != nil && !sameSubject(before, a) {
			unknown = 0
		}
		if before != nil && before.Backend != a.Backend {
			seen = history{}
		}
		before = a
		began := time.Now()
		support := f.try(ctx, a, &budget)
		if ctx.Err() != nil {
			return
		}
		support = seen.settle(support)
		pause := pace.Regular(timing.Interval)
		if support == catalog.WatchListUnknown {
			first := timing.Pause
			if seen.known == catalog.WatchListMissing {
				first = timing.Soon
			}
			pause = pace.Doubled(first, timing.UnknownMax, unknown)
			unknown = min(unknown+1, 16)
		} else {
			unknown = 0
			f.config.Report(a, support)
			logChange(ctx, a, last, support)
			last = support
		}
		if !pace.Wait(ctx, pause-time.Since(began), l.wake) || !pace.Wait(ctx, timing.Soon-time.Since(began), nil) ||
			!pace.Wait(ctx, budget.Wait(time.Now()), nil) {
			return
		}
	}
}

// history is what watches have shown of an extension server so far.
type history struct {
	known  catalog.WatchListSupport
	missed int // how many in a row had no bookmark in time
}

// settle is what is known after one more watch; WatchListUnknown where it is to be tried
// again soon. A server whose bookmarks came may be slow once, and one without an answer
// may be: they get a second try before their clients list. No silence takes back what a
// bookmark has proved.
func (h *history) settle(shown catalog.WatchListSupport) catalog.WatchListSupport {
	switch shown {
	case catalog.WatchListUnknown:
		h.missed = 0
		return shown
	case catalog.WatchListMissing, Silent:
		if shown == Silent && h.known == catalog.WatchListWorks {
			return catalog.WatchListUnknown
		}
		if h.missed++; h.missed < 2 && (shown == Silent || h.known == catalog.WatchListWorks) {
			return catalog.WatchListUnknown
		}
		h.known = catalog.WatchListMissing
	default:
		h.known, h.missed = shown, 0
	}
	return h.known
}

func logChange(ctx context.Context, a *catalog.APIService, before, after catalog.WatchListSupport) {
	switch {
	case before == after:
	case after == catalog.WatchListMissing:
		klog.FromContext(ctx).Info("An extension server takes watches with sendInitialEvents and does not end their initial events; "+
			"clients are told to list", "apiService", a.Name)
	case before == catalog.WatchListMissing:
		klog.FromContext(ctx).Info("Watches with sendInitialEvents are passed on to an extension server again", "apiService", a.Name)
	}
}

func (f *Finder) try(ctx context.Context, a *catalog.APIService, budget *pace.Budget) catalog.WatchListSupport {
	if !ready(a) {
		return catalog.WatchListUnknown
	}
	budget.Spend(time.Now(), 1)
	ctx, cancel := context.WithTimeout(ctx, f.config.Timing.Timeout)
	defer cancel()
	return f.config.Try(ctx, a)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
