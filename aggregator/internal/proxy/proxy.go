// Package proxy sends one request to an extension server and streams back what
// it answers.
//
// Serve is the way of a request, from the top to the bottom: package outgoing says what
// of it may be forwarded, classify what kind of request it is, admission when it may be
// sent, exchange sends it, again where that does no harm, hedge sends it twice where an
// answer is late, and copy streams the answer to the client. Upgrades are sent by
// upgrade and go on in a tunnel. Failure says whose fault it is that an attempt brought
// no answer.
package proxy

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/trace"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/util/flowcontrol"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/backend/limit"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/proxy/outgoing"
	"github.com/annex-api/annex/aggregator/internal/proxy/traffic"
	"github.com/annex-api/annex/aggregator/internal/respond"
)

// Config of a Proxy.
type Config struct {
	// Backends is required.
	Backends *backend.Pool
	// ForwardRedirects lets redirects of extension servers through.
	ForwardRedirects bool
	// DiscoveryTimeout bounds requests for one group version's resource list.
	// Zero means no bound of their own.
	DiscoveryTimeout time.Duration
	// Outgoing says what extension servers are told of users.
	Outgoing outgoing.Config
	// Interim returns how interim answers (1xx) are sent to the client of a request;
	// nil where they are left out. Without it they are sent by the ResponseWriter, if
	// that wraps no other.
	Interim func(context.Context) func(code int, header http.Header)
	// Tracer makes spans of requests whose trace is recorded. Nil makes none.
	Tracer trace.Tracer
	// ProbeNow is called when an extension server has failed a request, or lets one
	// wait; it must not block.
	ProbeNow func(*catalog.APIService)
}

// Proxy answers the requests that belong to extension servers.
type Proxy struct {
	config   Config
	outgoing *outgoing.Builder
	drainer  drainer
	served   served
	traffic  traffic.Traffic
}

// New returns a Proxy.
func New(config Config) *Proxy {
	if config.ProbeNow == nil {
		config.ProbeNow = func(*catalog.APIService) {}
	}
	return &Proxy{
		config:   config,
		outgoing: outgoing.New(config.Outgoing),
	}
}

// Traffic is what the requests are counted in.
func (p *Proxy) Traffic() *traffic.Traffic { return &p.traffic }

// Serve answers r, which has a priority, on behalf of a remote APIService.
func (p *Proxy) Serve(w http.ResponseWriter, r *http.Request, a *catalog.APIService, priority limit.Priority) {
	x, release := p.prepare(w, r, a, priority)
	if x == nil { // it is answered
		return
	}
	ctx := r.Context()
	if d := p.discoveryTimeout(a); d > 0 && x.kind.discovery {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	defer x.body.endWith(ctx, w, r, release)()
	if x.kind.upgrade {
		p.upgrade(ctx, w, r, x)
		return
	}
	p.forward(ctx, w, r, x)
}

// prepare makes an exchange of a request that may be sent, and says how it gives up the
// place that it has got. It answers any other, and returns nil.
func (p *Proxy) prepare(w http.ResponseWriter, r *http.Request, a *catalog.APIService, priority limit.Priority) (x *exchange, release func()) {
	began, b := time.Now(), p.config.Backends.Get(a)
	user, ok := request.UserFrom(r.Context())
	sender := backend.Sender{Priority: priority}
	if ok {
		sender.User = user.GetName()
	}
	// No seat of priority and fairness is held for what waits here.
	flowcontrol.RequestDelegated(r.Context())
	if refusal := b.Usable(a); refusal != nil { // whatever is asked, as the reference says it
		p.refuse(w, r, a, sender, refusal)
		return nil, nil
	}
	if !ok {
		p.fail(w, r, respond.Fail{Reason: respond.NoUser, APIService: a.Name})
		return nil, nil
	}
	to, unclear := p.outgoing.Check(r, user)
	if unclear != nil {
		p.fail(w, r, respond.Fail{Reason: unclear.Reason, APIService: a.Name, Message: unclear.Message})
		return nil, nil
	}
	kind := classify(r, a)
	if kind.upgrade && kind.protocol == "" {
		p.fail(w, r, respond.Fail{Reason: respond.UpgradeRefused, APIService: a.Name})
		return nil, nil
	}
	if kind.watch && a.RefusesWatchList() && refuseWatchList(w, r) {
		p.traffic.Of(a.Name).Refused(kind.verb, http.StatusUnprocessableEntity)
		return nil, nil
	}
	body := newReplayBody(r)
	tracer := p.tracer(r.Context())
	waited := startWait(r.Context(), tracer, a.Name)
	release, late, refusal := p.admit(r, a, b, sender, kind, body)
	waited()
	if refusal != nil {
		p.refuse(w, r, a, sender, refusal)
		return nil, nil
	}
	defer func() {
		if x == nil { // after a panic too
			release()
		}
	}()
	if body.broken(false) != nil { // while it was waited for
		p.fail(w, r, respond.Fail{Reason: respond.BodyBroken, APIService: a.Name})
		return nil, release
	}
	return &exchange{
		request: p.outgoing.Request(r.Context(), r, to, user, kind.protocol),
		kind:    kind, body: body, late: late, interim: &interimAnswers{to: w, request: r, past: p.config.Interim},
		apiService: a, backend: b, probeNow: p.config.ProbeNow, counts: p.traffic.Of(a.Name), tracer: tracer, began: began,
	}, release
}

// fail answers in the place of an extension server, and counts that.
func (p *Proxy) fail(w http.ResponseWriter, r *http.Request, f respond.Fail) {
	p.traffic.Of(f.APIService).Refused(classify(r, noAPIService).verb, f.Reason.Code())
	respond.Write(w, r, f)
}

// noAPIService is one of which nothing is known.
var noAPIService = &catalog.APIService{}

// discoveryTimeout is the APIService's own or the server's; zero for none.
func (p *Proxy) discoveryTimeout(a *catalog.APIService) time.Duration {
	if a.Settings.DiscoveryTimeout > 0 {
		return a.Settings.DiscoveryTimeout
	}
	return p.config.DiscoveryTimeout
}

// forward sends a request and streams the answer back.
func (p *Proxy) forward(ctx context.Context, w http.ResponseWriter, r *http.Request, x *exchange) {
	if x.kind.watch {
		var end context.CancelCauseFunc
		ctx, end = context.WithCancelCause(ctx)
		defer end(nil)
		forget := func() {}
		x.begin = func() { forget = p.served.hold(x.place(r), &balance.Stream{End: func() { end(errMoved) }}) }
		defer func() { forget() }()
	}
	defer x.interim.end() // after a panic too
	response, err := x.run(ctx)
	x.interim.end()
	x.body.allowEarlyAnswer(w, r)
	switch refusal := x.late.refused(); {
	case err == nil:
	case refusal != nil:
		x.late.release() // the refusal may be held back
		p.refuse(w, r, x.apiService, x.late.sender, refusal)
		return
	case x.kind.longRunning && clientLeft(r):
		x.counts.Refused(x.kind.verb, traffic.NoAnswer)
		cutOff(w, r)
		return
	case x.kind.watch && errors.Is(ctx.Err(), context.Canceled):
		p.refuseEnded(w, r, x)
		return
	default:
		p.exchangeFailed(w, r, x.apiService, err)
		return
	}
	defer response.end()
	x.late.noteAnswer()
	if p.rejected(w, r, x.apiService, response) {
		return
	}
	x.counts.Answered(x.kind.verb, response.StatusCode, time.Since(x.began))
	outgoing.CleanResponse(response.Header)
	switch {
	case x.kind.watch:
		p.watch(w, r, x, response)
	case x.kind.longRunning:
		p.stream(w, r, response)
	default:
		x.counts.Sent(copyResponse(w, r, response.Response, nil))
	}
}

// watch copies the events of a watch, which may be ended from here: when this server
// shuts down, when its endpoint leaves or its APIService leads elsewhere, and at the
// longest that the APIService allows. Its client then begins a new one.
func (p *Proxy) watch(w http.ResponseWriter, r *http.Request, x *exchange, response *answer) {
	response.Request = nil // sent: no reason to hold it
	end := func() { response.cancel(nil) }
	stream := &balance.Stream{End: end}
	defer p.drainer.hold(r.Context(), stream)()
	defer response.choice.Hold(stream)()
	if d := x.apiService.Settings.MaxWatch; d > 0 {
		timer := time.AfterFunc(d, end)
		defer timer.Stop()
	}
	copyResponse(w, r, response.Response, func() bool { return true })
}

// stream copies the answer to a long-running request of which a part is not the whole,
// a log for example. It is cut off when this server shuts down, or the extension server.
func (p *Proxy) stream(w http.ResponseWriter, r *http.Request, response *answer) {
	response.Request = nil // sent: no reason to hold it
	defer p.drainer.hold(r.Context(), &balance.Stream{End: func() { response.cancel(nil) }})()
	copyResponse(w, r, response.Response, func() bool { return cutOff(w, r) })
}

// rejected answers in the place of an extension server that answers what it
// may not.
func (p *Proxy) rejected(w http.ResponseWriter, r *http.Request, a *catalog.APIService, response *answer) bool {
	if response.StatusCode == http.StatusSwitchingProtocols {
		p.fail(w, r, respond.Fail{
			Reason: respond.UpgradeInvalid, APIService: a.Name,
			Message: "invalid upgrade response: the backend switched protocols unasked",
		})
		return true
	}
	location := response.Header.Get("Location")
	if location == "" {
		return false
	}
	if response.StatusCode >= 300 && response.StatusCode <= 399 && !p.config.ForwardRedirects {
		p.fail(w, r, respond.Fail{Reason: respond.RedirectRejected, APIService: a.Name})
		return true
	}
	response.Header.Set("Location", outgoing.OwnLocation(location, response.choice.Address))
	return false
}

// exchangeFailed answers in the place of an extension server that has not. The client is
// told the APIService and where to look; what names addresses is for the log.
func (p *Proxy) exchangeFailed(w http.ResponseWriter, r *http.Request, a *catalog.APIService, err error) {
	logger := klog.FromContext(r.Context()).WithValues("apiService", a.Name)
	if none := (errUnresolved{}); errors.As(err, &none) {
		logger.V(2).Info("No endpoint for a request", "err", err)
		p.fail(w, r, respond.Fail{Reason: respond.Unresolved, APIService: a.Name})
		return
	}
	reason := respond.BackendFailed
	var failed *failure
	if errors.As(err, &failed) {
		reason = failed.reason
		if failed.fault == ofClient || failed.fault == ofRequest || r.Context().Err() != nil {
			// No word about the extension server.
			logger.V(4).Info("Request was not answered", "err", backend.ErrorText(err))
			p.fail(w, r, respond.Fail{Reason: reason, APIService: a.Name})
			return
		}
	}
	p.config.ProbeNow(a)
	logger.V(2).Info("Request to an extension server failed", "err", backend.ErrorText(err))
	p.fail(w, r, respond.Fail{Reason: reason, APIService: a.Name})
}
