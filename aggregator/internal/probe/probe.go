// Package probe finds out whether extension servers answer, and reaches
// verdicts.
package probe

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/backend/coalesce"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// Timing of the probes of one APIService.
type Timing struct {
	// Timeout of one probe.
	Timeout time.Duration
	// Interval between probes that pass; jittered by a tenth, and up to an eighth
	// shorter: see coalesce.
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

// Check asks one APIService once; it returns within the context's deadline, and
// may go on in the background until then.
type Check func(ctx context.Context, a *catalog.APIService) catalog.Verdict

// Prober runs one loop for each APIService that has somewhere to go.
type Prober struct {
	timing Timing
	check  Check
	report func(name string, v catalog.Verdict)
	// degraded says whether an endpoint is down while the APIService is not:
	// then probes are more frequent.
	degraded func(a *catalog.APIService) bool

	mu    sync.Mutex
	loops map[string]*loop
	wait  sync.WaitGroup
}

// New returns a Prober; report gets each verdict, from several goroutines.
func New(timing Timing, check Check, report func(name string, v catalog.Verdict)) *Prober {
	return &Prober{
		timing: timing, check: check, report: report, loops: map[string]*loop{},
		degraded: func(*catalog.APIService) bool { return false },
	}
}

// Watch makes probes more frequent while one of a backend's endpoints is down.
// Call it before Sync.
func (p *Prober) Watch(backends *backend.Pool) {
	p.degraded = func(a *catalog.APIService) bool {
		return slices.ContainsFunc(backends.Get(a).Health(), func(h balance.Health) bool { return h.Down && !h.Fallback })
	}
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
	kick    chan struct{}
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
		sub := subject{a.Name, a.DiscoveryPath(), a.Backend, a.Target}
		seen[a.Name] = true
		old := p.loops[a.Name]
		if old != nil && reflect.DeepEqual(old.subject, sub) {
			continue
		}
		if old != nil {
			old.cancel()
		}
		loopCtx, cancel := context.WithCancel(ctx)
		l := &loop{subject: sub, cancel: cancel, kick: make(chan struct{}, 1)}
		p.loops[a.Name] = l
		p.wait.Go(func() { p.run(loopCtx, l, a) })
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
	l := p.loops[name]
	p.mu.Unlock()
	if l == nil {
		return
	}
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// Wait returns when all loops have ended.
func (p *Prober) Wait() { p.wait.Wait() }

func (p *Prober) run(ctx context.Context, l *loop, a *catalog.APIService) {
	var failing trouble
	before := func() {}
	defer func() { before() }()
	for {
		before() // ends what the last probe has left running
		probeCtx, cancel := context.WithTimeout(ctx, p.timing.Timeout)
		before = cancel
		verdict := p.check(probeCtx, a)
		if ctx.Err() != nil {
			return
		}
		p.report(a.Name, verdict)
		passed := verdict.Status == apiregistrationv1.ConditionTrue
		if !p.rest(ctx, l, a, passed, &failing) {
			return
		}
	}
}

// trouble is the time since which an APIService, or an endpoint of it, fails; zero
// while all is well.
type trouble struct{ since time.Time }

// pause is a tenth of that time, within bounds.
func (t *trouble) pause(least, most time.Duration) time.Duration {
	if t.since.IsZero() {
		t.since = time.Now()
	}
	return min(max(time.Since(t.since)/10, least), most)
}

// interval is the pause after a probe that passed.
func (p *Prober) interval() time.Duration {
	return coalesce.Shorten(p.timing.Interval + time.Duration((rand.Float64()-0.5)*0.2*float64(p.timing.Interval)))
}

// rest waits for the pause to end, or for a kick. That shortens the pause, but not
// below RetryMin: a flood of failing requests is not turned into a flood of
// probes. It returns false when the loop is to end.
func (p *Prober) rest(ctx context.Context, l *loop, a *catalog.APIService, passed bool, failing *trouble) bool {
	sleep := func(d time.Duration, kick <-chan struct{}) bool {
		if d <= 0 {
			return ctx.Err() == nil
		}
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return false
		case <-kick:
		case <-timer.C:
		}
		return true
	}
	began, pause := time.Now(), p.interval()
	several := len(a.Target.Endpoints) > 1
	if several && !sleep(p.timing.RetryMin, nil) { // the other ones' answers may be under way
		return false
	}
	switch {
	case !passed:
		pause = failing.pause(p.timing.RetryMin, p.timing.RetryMax)
	case several && p.degraded(a):
		pause = failing.pause(p.timing.RetryMin, pause)
	default:
		*failing = trouble{}
	}
	return sleep(pause-time.Since(began), l.kick) && sleep(p.timing.RetryMin-time.Since(began), nil)
}

// HTTP checks by a GET of the APIService's own discovery path at each
// endpoint; one endpoint that answers 2xx is enough.
func HTTP(backends *backend.Pool) Check {
	return func(ctx context.Context, a *catalog.APIService) catalog.Verdict {
		b := backends.Get(a)
		if err := b.Err(); err != nil {
			return failed(err)
		}
		endpoints, err := b.All(a.Target)
		if err != nil {
			return failed(err)
		}
		errs := make([]error, len(endpoints))
		one := func(i int) {
			errs[i] = ask(ctx, b, endpoints[i], a.DiscoveryPath())
			if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
				// Any answer shows that the endpoint lives; the verdict asks for more.
				b.Probed(endpoints[i].Address, errs[i] == nil || errors.As(errs[i], new(badStatus)))
			}
		}
		answered := make(chan int, len(endpoints))
		if len(endpoints) == 1 { // no other answer could come first
			one(0)
			answered <- 0
		} else {
			for i := range endpoints {
				go func() {
					one(i)
					answered <- i
				}()
			}
		}
		for range endpoints {
			if errs[<-answered] == nil {
				// The other endpoints' health is noted when they answer.
				return catalog.Verdict{Status: apiregistrationv1.ConditionTrue, Reason: "Passed", Message: "all checks passed"}
			}
		}
		for i, e := range endpoints {
			if !errors.As(errs[i], new(badStatus)) { // an answer came over a connection that works
				b.CloseIdle(e.Address)
			}
		}
		// The first endpoint speaks for all, whichever failed last: a verdict that
		// has not changed must read the same.
		return failed(errs[0])
	}
}

// badStatus is an answer other than 2xx.
type badStatus struct {
	url  string
	code int
}

func (e badStatus) Error() string {
	return fmt.Sprintf("failing or missing response from %v: bad status from %v: %d", e.url, e.url, e.code)
}

func failed(err error) catalog.Verdict {
	return catalog.Verdict{Status: apiregistrationv1.ConditionFalse, Reason: "FailedDiscoveryCheck", Message: message(err)}
}

// message leaves out what is different each time: the local port, and the time
// in the complaint about an expired certificate.
func message(err error) string {
	text := err.Error()
	if invalid := (x509.CertificateInvalidError{}); errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil {
		plain := invalid
		plain.Detail = fmt.Sprintf("it is valid from %s to %s",
			invalid.Cert.NotBefore.UTC().Format(time.RFC3339), invalid.Cert.NotAfter.UTC().Format(time.RFC3339))
		text = strings.ReplaceAll(text, invalid.Error(), plain.Error())
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Source != nil {
		text = strings.ReplaceAll(text, op.Source.String()+"->", "")
	}
	return text
}

func ask(ctx context.Context, b *backend.Backend, e catalog.Endpoint, path string) error {
	call := backend.Call{As: backend.Aggregator, Path: path}
	reply, err := b.Get(ctx, e.Address, call)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("timed out waiting for %v", call.URL(e.Address))
	case err != nil:
		return fmt.Errorf("failing or missing response from %v: %w", call.URL(e.Address), err)
	case reply.StatusCode < http.StatusOK || reply.StatusCode >= http.StatusMultipleChoices:
		return badStatus{call.URL(e.Address), reply.StatusCode}
	}
	return nil
}
