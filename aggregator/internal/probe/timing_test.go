package probe

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/pace"
)

const name = "v1.a.example"

var (
	passed = catalog.Verdict{Status: apiregistrationv1.ConditionTrue, Reason: "Passed"}
	broken = catalog.Verdict{Status: apiregistrationv1.ConditionFalse, Reason: "FailedDiscoveryCheck"}
)

// script is a Check that answers as told and remembers when it was asked.
type script struct {
	mu     sync.Mutex
	answer catalog.Verdict
	asked  []time.Time
	of     []string // the endpoints' addresses
	hang   bool
	down   atomic.Bool // an endpoint is, though the answer is another's

	background func(context.Context) // goes on after the answer; nil for nothing
}

func (s *script) check(ctx context.Context, a *catalog.APIService, background *sync.WaitGroup) catalog.Verdict {
	if s.background != nil {
		background.Go(func() { s.background(ctx) })
	}
	s.mu.Lock()
	s.asked = append(s.asked, time.Now())
	s.of = append(s.of, a.Target.Endpoints[0].Address)
	answer, hang := s.answer, s.hang
	s.mu.Unlock()
	if hang {
		<-ctx.Done()
	}
	return answer
}

func (s *script) set(v catalog.Verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = v
}

// take returns the times between the probes so far, and starts anew from the
// last one.
func (s *script) take() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var pauses []time.Duration
	for i := 1; i < len(s.asked); i++ {
		pauses = append(pauses, s.asked[i].Sub(s.asked[i-1]))
	}
	s.asked = slices.Clone(s.asked[max(0, len(s.asked)-1):])
	return pauses
}

func at(address string) *catalog.Snapshot {
	s := &backendtest.Server{Service: "api", Address: address, CA: []byte("ca")}
	return s.Snapshot(name)
}

// start runs a Prober in the bubble that holds it until the function ends.
func start(t *testing.T, s *script, body func(p *Prober, sync func(*catalog.Snapshot))) []catalog.Verdict {
	t.Helper()
	var mu sync.Mutex
	var verdicts []catalog.Verdict
	p := New(Config{
		Timing: DefaultTiming(), Check: s.check,
		Degraded: func(*catalog.APIService) bool { return s.down.Load() },
		Report: func(_ *catalog.APIService, v catalog.Verdict) {
			mu.Lock()
			defer mu.Unlock()
			verdicts = append(verdicts, v)
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	body(p, func(snapshot *catalog.Snapshot) {
		p.Sync(ctx, snapshot)
		synctest.Wait()
	})
	cancel()
	p.Wait() // the bubble fails where a goroutine is left
	return verdicts
}

func pass(d time.Duration) {
	time.Sleep(d) // the bubble's clock
	synctest.Wait()
}

func TestIntervalIsJittered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answer: passed}
		start(t, s, func(_ *Prober, sync func(*catalog.Snapshot)) {
			sync(at("192.0.2.1:443"))
			pass(time.Hour)
			pauses := s.take()
			if len(pauses) < 100 || len(pauses) > 135 {
				t.Errorf("%d probes in an hour", len(pauses))
			}
			interval := DefaultTiming().Interval
			for _, d := range pauses {
				if d < interval*9/10 || d > interval*11/10 {
					t.Errorf("a pause of %v", d)
				}
			}
			if slices.Min(pauses) == slices.Max(pauses) {
				t.Error("no jitter")
			}
		})
	})
}

// Probes of a quiet server wake it together, also those of several endpoints.
func TestProbesThatPassAreAligned(t *testing.T) {
	for _, addresses := range [][]string{{"192.0.2.1:443"}, {"192.0.2.1:443", "192.0.2.2:443"}} {
		synctest.Test(t, func(t *testing.T) {
			s := &script{answer: passed}
			start(t, s, func(_ *Prober, sync func(*catalog.Snapshot)) {
				var servers []*backendtest.Server
				for _, a := range addresses {
					servers = append(servers, &backendtest.Server{Service: "api", Address: a, CA: []byte("ca")})
				}
				time.Sleep(1234 * time.Millisecond)
				sync(catalog.Build(backendtest.Facts([]*apiregistrationv1.APIService{servers[0].APIService(name)}, servers...)))
				pass(time.Hour)
				if len(s.asked) < 100 {
					t.Fatalf("%d probes in an hour", len(s.asked))
				}
				for _, at := range s.asked[1:] {
					if off := at.UnixNano() % int64(pace.Step); off != 0 {
						t.Errorf("%d endpoints: a probe at %v, %v after the others", len(addresses), at, time.Duration(off))
					}
				}
			})
		})
	}
}

// What fails is asked again soon at first, and less often the longer it fails.
func TestPausesGrowWithTheTimeOfFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answer: broken}
		start(t, s, func(_ *Prober, sync func(*catalog.Snapshot)) {
			sync(at("192.0.2.1:443"))
			pass(time.Hour)
			timing, failed := DefaultTiming(), time.Duration(0)
			for _, d := range s.take() {
				if want := min(max(failed/10, timing.RetryMin), timing.RetryMax); d != want {
					t.Fatalf("a pause of %v after %v, want %v", d, failed, want)
				}
				failed += d
			}
			if failed < 59*time.Minute {
				t.Errorf("probes end after %v", failed)
			}
			// A success resets the pause.
			s.set(passed)
			pass(10 * time.Second)
			s.set(broken)
			pass(33*time.Second + timing.RetryMin)
			pauses := s.take()
			if len(pauses) < 3 || pauses[2] != timing.RetryMin {
				t.Errorf("after a success: %v", pauses)
			}
		})
	})
}

// While only some endpoints are down probes come soon at first, and in the end no
// more often than without: endpoints that cannot be reached from here stay so.
func TestPausesGrowWhileAnEndpointIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answer: passed}
		s.down.Store(true)
		servers := []*backendtest.Server{
			{Service: "api", Address: "192.0.2.1:443", CA: []byte("ca")}, {Service: "api", Address: "192.0.2.2:443", CA: []byte("ca")},
		}
		snapshot := catalog.Build(backendtest.Facts([]*apiregistrationv1.APIService{servers[0].APIService(name)}, servers...))
		start(t, s, func(p *Prober, sync func(*catalog.Snapshot)) {
			sync(snapshot)
			pass(10 * time.Second)
			early := s.take()
			if len(early) < 20 || early[0] != DefaultTiming().RetryMin {
				t.Errorf("probes of the first ten seconds: %v", early)
			}
			pass(time.Hour)
			s.take()
			pass(time.Hour)
			if n := len(s.take()); n > 135 {
				t.Errorf("%d probes in an hour", n)
			}
			s.down.Store(false)
			pass(time.Minute)
			s.down.Store(true)
			s.take()
			pass(40 * time.Second)
			if again := s.take(); len(again) < 5 || !slices.Contains(again, DefaultTiming().RetryMin) {
				t.Errorf("after all endpoints were well: %v", again)
			}
		})
	})
}

// An endpoint that hangs is known to be down only when its probe is over, long after another has
// answered. Its return is not awaited for a whole interval, and suspicion is not held up.
func TestAnEndpointThatHangsIsAskedAgainSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answer: passed}
		var hangs atomic.Bool
		s.background = func(ctx context.Context) {
			if hangs.Load() {
				<-ctx.Done()
				s.down.Store(true)
			} else {
				s.down.Store(false)
			}
		}
		servers := []*backendtest.Server{
			{Service: "api", Address: "192.0.2.1:443", CA: []byte("ca")}, {Service: "api", Address: "192.0.2.2:443", CA: []byte("ca")},
		}
		start(t, s, func(p *Prober, sync func(*catalog.Snapshot)) {
			hangs.Store(true)
			sync(catalog.Build(backendtest.Facts([]*apiregistrationv1.APIService{servers[0].APIService(name)}, servers...)))
			pass(DefaultTiming().Timeout + time.Second)
			if pauses := s.take(); len(pauses) != 1 || pauses[0] != DefaultTiming().Timeout {
				t.Errorf("an endpoint hangs: probes after %v", pauses)
			}
			p.ProbeNow(name)
			pass(DefaultTiming().RetryMin)
			if pauses := s.take(); len(pauses) != 1 {
				t.Errorf("a probe is asked for: probes after %v", pauses)
			}
			hangs.Store(false)
			pass(DefaultTiming().Timeout + time.Second)
			s.take()
			pass(20 * time.Second)
			if pauses := s.take(); len(pauses) > 1 || s.down.Load() {
				t.Errorf("it answers again: probes after %v", pauses)
			}
		})
	})
}

func TestSuspicionProbesAtOnceButNotInAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answer: passed}
		start(t, s, func(p *Prober, sync func(*catalog.Snapshot)) {
			sync(at("192.0.2.1:443"))
			pass(time.Second)
			s.take()
			p.ProbeNow(name)
			synctest.Wait()
			if got := s.take(); len(got) != 1 || got[0] != time.Second {
				t.Errorf("a suspicion did not probe at once: %v", got)
			}
			p.ProbeNow("v1.unknown.example")
			// A flood: a thousand a second for ten seconds.
			for range 10_000 {
				p.ProbeNow(name)
				pass(time.Millisecond)
			}
			pauses := s.take()
			for _, d := range pauses {
				if d < DefaultTiming().RetryMin {
					t.Errorf("two probes within %v", d)
				}
			}
			if len(pauses) < 30 || len(pauses) > 40 {
				t.Errorf("%d probes in ten seconds of flood", len(pauses))
			}
		})
	})
}

func TestHungProbesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answer: broken, hang: true}
		start(t, s, func(_ *Prober, sync func(*catalog.Snapshot)) {
			sync(at("192.0.2.1:443"))
			pass(6 * time.Second)
			if got := s.take(); len(got) != 1 || got[0] != DefaultTiming().Timeout+DefaultTiming().RetryMin {
				t.Errorf("pauses %v", got)
			}
		})
	})
}

func TestSyncKeepsStartsAndStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answer: passed}
		start(t, s, func(p *Prober, sync func(*catalog.Snapshot)) {
			sync(at("192.0.2.1:443"))
			pass(time.Second)
			for range 10 {
				sync(at("192.0.2.1:443")) // built anew, the same in substance
			}
			if n := len(s.of); n != 1 {
				t.Errorf("%d probes: an unchanged APIService was started anew", n)
			}
			sync(at("192.0.2.2:443")) // leads elsewhere: asked at once
			if got := s.of[len(s.of)-1]; len(s.of) != 2 || got != "192.0.2.2:443" {
				t.Errorf("%d probes, the last of %s", len(s.of), got)
			}
			sync(catalog.Build(catalog.Facts{}))
			pass(time.Hour)
			if n := len(s.of); n != 2 || len(p.loops) != 0 {
				t.Errorf("%d probes, %d loops after the APIService went", n, len(p.loops))
			}
			sync(at("192.0.2.2:443"))
			if n := len(s.of); n != 3 {
				t.Errorf("%d probes after it came back", n)
			}
		})
	})
}

// Without an address there is nothing to ask; with one again, at once.
func TestUnresolvedTargetsAreNotProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answer: passed}
		start(t, s, func(_ *Prober, sync func(*catalog.Snapshot)) {
			sync(at("192.0.2.1:443"))
			facts := backendtest.Facts([]*apiregistrationv1.APIService{(&backendtest.Server{Service: "api", CA: []byte("ca")}).APIService(name)})
			sync(catalog.Build(facts))
			pass(time.Hour)
			if n := len(s.of); n != 1 {
				t.Errorf("%d probes", n)
			}
			sync(at("192.0.2.1:443"))
			if n := len(s.of); n != 2 {
				t.Errorf("%d probes after the endpoint came back", n)
			}
		})
	})
}

// What a check goes on with after its verdict ends before the next probe, and is
// waited for at the end.
func TestWhatGoesOnInTheBackgroundIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var underWay, most atomic.Int32
		check := func(ctx context.Context, _ *catalog.APIService, background *sync.WaitGroup) catalog.Verdict {
			most.Store(max(most.Load(), underWay.Add(1)))
			background.Go(func() {
				defer underWay.Add(-1)
				<-ctx.Done()
				time.Sleep(time.Second)
			})
			return passed
		}
		var verdicts atomic.Int32
		p := New(Config{
			Timing: DefaultTiming(), Check: check, Degraded: func(*catalog.APIService) bool { return false },
			Report: func(*catalog.APIService, catalog.Verdict) { verdicts.Add(1) },
		})
		ctx, cancel := context.WithCancel(t.Context())
		p.Sync(ctx, at("192.0.2.1:443"))
		synctest.Wait()
		if verdicts.Load() != 1 {
			t.Error("the verdict waits for what goes on")
		}
		for range 10 {
			p.ProbeNow(name)
			pass(2 * time.Second)
		}
		cancel()
		p.Wait()
		if left, most := underWay.Load(), most.Load(); left != 0 || most != 1 || verdicts.Load() < 10 {
			t.Errorf("%d checks are left, %d were under way at a time, %d verdicts", left, most, verdicts.Load())
		}
	})
}

func TestNothingIsReportedAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answer: broken, hang: true}
		verdicts := start(t, s, func(_ *Prober, sync func(*catalog.Snapshot)) { sync(at("192.0.2.1:443")) })
		if len(verdicts) != 0 {
			t.Errorf("%v: the end of the work was reported as the server's failure", verdicts)
		}
	})
}

// An endpoint that freezes where nobody asks it anything is known to be down after 38 s at
// most, as its fault's page says: the longest pause, and a probe that waits in vain.
func TestAFrozenEndpointIsFoundByTheNextProbe(t *testing.T) {
	const promised = 38 * time.Second
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			var froze, found atomic.Pointer[time.Time]
			s := &script{answer: passed, background: func(ctx context.Context) {
				if froze.Load() == nil {
					return
				}
				<-ctx.Done()
				now := time.Now()
				found.CompareAndSwap(nil, &now)
			}}
			start(t, s, func(_ *Prober, sync func(*catalog.Snapshot)) {
				sync(at("192.0.2.1:443"))
				pass(10 * time.Minute)
				for s.take(); len(s.take()) == 0; { // it freezes just after a probe
					pass(100 * time.Millisecond)
				}
				now := time.Now()
				froze.Store(&now)
				pass(promised)
				if at := found.Load(); at == nil || at.Sub(now) < DefaultTiming().Timeout {
					t.Errorf("froze at %v, found at %v", now, at)
				}
			})
		})
	}
}
