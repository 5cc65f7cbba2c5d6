// Package probe finds out whether extension servers answer, and reaches
// verdicts.
package probe

import (
	"context"
	"reflect"
	"sync"
	"time"

	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/pace"
)

// Timing of the probes of one APIService.
type Timing struct {
	// Timeout of one probe.
	Timeout time.Duration
	// Interval between probes that pass; see pace.Regular.
	Interval time.Duration
	// RetryMin and RetryMax bound the pause after a probe that failed: a tenth of
	// the time for which probes have failed. While only some endpoints are down it
	// grows to Interval.
	RetryMin, RetryMax time.Duration
}

// DefaultTiming finds a dead extension server within Interval at the latest,
// and at once when a request to it fails. What has been down for a while is asked
// less often: it costs a connection each time.
func DefaultTiming() Timing {
	return Timing{Timeout: 5 * time.Second, Interval: 30 * time.Second, RetryMin: 250 * time.Millisecond, RetryMax: 5 * time.Second}
}

// Check asks one APIService once and returns within the context's deadline. What
// is still to be learned when the verdict is reached goes on in background until
// then, or until the context ends.
type Check func(ctx context.Context, a *catalog.APIService, background *sync.WaitGroup) catalog.Verdict

// Config of a Prober.
type Config struct {
	Timing Timing
	Check  Check
	// Degraded says whether an endpoint is down while the APIService is not: then
	// probes are more frequent.
	Degraded func(a *catalog.APIService) bool
	// Report gets each verdict, from several goroutines.
	Report func(probed *catalog.APIService, v catalog.Verdict)
}

// Prober runs one loop for each APIService that has somewhere to go.
type Prober struct {
	config  Config
	running sync.WaitGroup

	mu    sync.Mutex
	loops map[string]*loop
}

// New returns a Prober that probes nothing until Sync.
func New(config Config) *Prober {
	return &Prober{config: config, loops: map[string]*loop{}}
}

// subject is what a verdict depends on; when it changes the loop starts anew.
type subject struct {
	name    string
	path    string
	backend catalog.BackendID
	target  catalog.Target
}

type loop struct {
	subject subject
	cancel  context.CancelFunc
	wake    chan struct{} // one slot
}

// Sync starts, keeps and stops loops so that they fit the snapshot. Loops end
// with ctx; Wait waits for them.
func (p *Prober) Sync(ctx context.Context, s *catalog.Snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := map[string]bool{}
	for _, a := range s.Remotes() {
		if a.Target.Unresolved != "" {
			continue // the verdict is known without a probe
		}
		seen[a.Name] = true
		now := subject{a.Name, a.DiscoveryPath(), a.Backend, a.Target}
		old := p.loops[a.Name]
		if old != nil && reflect.DeepEqual(old.subject, now) {
			continue
		}
		if old != nil {
			old.cancel()
		}
		loopCtx, cancel := context.WithCancel(ctx)
		l := &loop{subject: now, cancel: cancel, wake: make(chan struct{}, 1)}
		p.loops[a.Name] = l
		p.running.Go(func() { p.run(loopCtx, l, a) })
	}
	for name, l := range p.loops {
		if !seen[name] {
			l.cancel()
			delete(p.loops, name)
		}
	}
}

// ProbeNow asks for a probe now, because a request failed. Many at a time
// cause one probe.
func (p *Prober) ProbeNow(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.loops[name]
	if l == nil {
		return
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Wait returns when all loops have ended.
func (p *Prober) Wait() { p.running.Wait() }

func (p *Prober) run(ctx context.Context, l *loop, a *catalog.APIService) {
	var failing pace.Failing
	for p.probe(ctx, l, a, &failing) {
	}
}

// probe checks once, reports, and waits until the next probe is due. What the
// check has left running ends by then. It returns false when the loop is to end.
func (p *Prober) probe(ctx context.Context, l *loop, a *catalog.APIService, failing *pace.Failing) bool {
	var background sync.WaitGroup
	defer background.Wait()
	checkCtx, cancel := context.WithTimeout(ctx, p.config.Timing.Timeout)
	defer cancel()
	verdict := p.config.Check(checkCtx, a, &background)
	if ctx.Err() != nil {
		return false
	}
	p.config.Report(a, verdict)
	return p.awaitNext(ctx, l, a, verdict.Status == apiregistrationv1.ConditionTrue, &background, failing)
}

// awaitNext waits until the next probe is due, or asked for. Asking shortens the
// pause, but not below RetryMin: a flood of failing requests is not turned into a
// flood of probes. It returns false when the loop is to end.
func (p *Prober) awaitNext(ctx context.Context, l *loop, a *catalog.APIService, passed bool, background *sync.WaitGroup, failing *pace.Failing) bool {
	timing := p.config.Timing
	began, pause := time.Now(), pace.Regular(timing.Interval)
	several := len(a.Target.Endpoints) > 1
	woken := false
	if several { // the other endpoints may not have answered yet
		if !pace.Wait(ctx, timing.RetryMin, nil) {
			return false
		}
		woken = p.awaitOthers(ctx, l, background)
	}
	switch {
	case !passed:
		pause = failing.Pause(time.Now(), timing.RetryMin, timing.RetryMax)
	case several && p.config.Degraded(a):
		pause = failing.Pause(time.Now(), timing.RetryMin, pause)
	default:
		failing.Over()
	}
	if woken {
		return ctx.Err() == nil
	}
	return pace.Wait(ctx, pause-time.Since(began), l.wake) && pace.Wait(ctx, timing.RetryMin-time.Since(began), nil)
}

// awaitOthers waits for what a check has left running: one that hangs is known to be down only
// when the check's time is over. It returns at once when a probe is asked for, and says so, and
// when ctx ends.
func (p *Prober) awaitOthers(ctx context.Context, l *loop, background *sync.WaitGroup) (woken bool) {
	ended := make(chan struct{})
	p.running.Go(func() { // this loop is among those that run
		background.Wait()
		close(ended)
	})
	select {
	case <-ended:
	case <-l.wake:
		return true
	case <-ctx.Done():
	}
	return false
}
