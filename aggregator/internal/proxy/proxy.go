// Package proxy sends one request to an extension server and streams back what
// it answers.
//
// Serve is the way of a request, from the top to the bottom: classify says what kind
// of request it is, admission when it may be sent, clean what of it may be forwarded,
// exchange sends it, again where that does no harm, hedge sends it twice where an
// answer is late, and copy streams the answer to the client. Upgrades are sent by
// upgrade and go on in a tunnel.
package proxy

import (
	"context"
	"errors"
	"net/http"
	"time"

	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/util/flowcontrol"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/backend/limit"
	"github.com/annex-api/annex/aggregator/internal/catalog"
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
	// IdentityHeaders and IdentityPrefixes are names, besides X-Remote-*, that
	// extension servers take an identity from; clients may not send them.
	IdentityHeaders, IdentityPrefixes []string
	// SendUID passes the user's UID on.
	SendUID bool
	// ProbeNow is called when an extension server has failed a request, or lets one
	// wait; it must not block.
	ProbeNow func(*catalog.APIService)
}

// Proxy answers the requests that belong to extension servers.
type Proxy struct {
	config   Config
	strip    stripper
	identity identity
	drainer  drainer
}

// New returns a Proxy.
func New(config Config) *Proxy {
	if config.ProbeNow == nil {
		config.ProbeNow = func(*catalog.APIService) {}
	}
	return &Proxy{
		config:   config,
		strip:    newStripper(config.IdentityHeaders, config.IdentityPrefixes),
		identity: identity{sendUID: config.SendUID},
	}
}

// Serve answers r, which has a priority, on behalf of a remote APIService.
func (p *Proxy) Serve(w http.ResponseWriter, r *http.Request, a *catalog.APIService, priority limit.Priority) {
	b := p.config.Backends.Get(a)
	user, ok := request.UserFrom(r.Context())
	sender := backend.Sender{Priority: priority}
	if ok {
		sender.User = user.GetName()
	}
	// No seat of priority and fairness is held for what waits here.
	flowcontrol.RequestDelegated(r.Context())
	if refusal := b.Usable(a); refusal != nil { // whatever is asked, as the reference says it
		p.refuse(w, r, a, sender, refusal)
		return
	}
	kind := classify(r)
	switch {
	case !ok:
		respond.Write(w, r, respond.Fail{Reason: respond.NoUser, APIService: a.Name})
		return
	case ambiguous(r.URL.Path):
		respond.Write(w, r, respond.Fail{Reason: respond.PathRefused, APIService: a.Name})
		return
	case kind.upgrade && kind.protocol == "":
		respond.Write(w, r, respond.Fail{Reason: respond.UpgradeRefused, APIService: a.Name})
		return
	}
	body := newReplayBody(r)
	release, late, refusal := p.admit(r, a, b, sender, kind, body)
	if refusal != nil {
		p.refuse(w, r, a, sender, refusal)
		return
	}
	defer release()

	ctx := r.Context()
	if d := p.discoveryTimeout(a); d > 0 && kind.discovery {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	out := p.outgoing(ctx, r, user, kind.protocol)
	if kind.upgrade {
		p.upgrade(w, r, out.WithContext(ctx), a, b)
		return
	}
	p.forward(ctx, w, r, &exchange{
		request: out, kind: kind, body: body, late: late,
		apiService: a, backend: b, probeNow: p.config.ProbeNow,
	})
}

// discoveryTimeout is the APIService's own or the server's; zero for none.
func (p *Proxy) discoveryTimeout(a *catalog.APIService) time.Duration {
	if a.Settings.DiscoveryTimeout > 0 {
		return a.Settings.DiscoveryTimeout
	}
	return p.config.DiscoveryTimeout
}

// forward sends a request and streams the answer back.
func (p *Proxy) forward(ctx context.Context, w http.ResponseWriter, r *http.Request, x *exchange) {
	response, err := x.run(ctx)
	if refusal := x.late.refused(); err != nil && refusal != nil {
		x.late.release() // the refusal may be held back
		p.refuse(w, r, x.apiService, x.late.sender, refusal)
		return
	}
	if err != nil {
		p.exchangeFailed(w, r, x.apiService, err)
		return
	}
	defer response.end()
	x.late.noteAnswer()
	if p.rejected(w, r, x.apiService, response) {
		return
	}
	cleanResponse(response.Header)
	if x.kind.longRunning {
		p.stream(w, r, x, response)
		return
	}
	copyResponse(w, r, response.Response, nil)
}

// stream copies the answer to a long-running request, which may be ended from here.
// All are when this server shuts down. A watch is also when its endpoint leaves, and
// at the longest that the APIService allows: its client then begins a new one, while
// that of a log, for example, would take it for whole.
func (p *Proxy) stream(w http.ResponseWriter, r *http.Request, x *exchange, response *answer) {
	response.Request = nil // sent: no reason to hold it
	end := func() { response.cancel(nil) }
	stream := &balance.Stream{End: end}
	defer p.drainer.hold(r.Context(), stream)()
	if !x.kind.watch {
		copyResponse(w, r, response.Response, nil)
		return
	}
	defer response.choice.Hold(stream)()
	if d := x.apiService.Settings.MaxWatch; d > 0 {
		timer := time.AfterFunc(d, end)
		defer timer.Stop()
	}
	copyResponse(w, r, response.Response, func() bool { return r.Context().Err() == nil })
}

// rejected answers in the place of an extension server that answers what it
// may not.
func (p *Proxy) rejected(w http.ResponseWriter, r *http.Request, a *catalog.APIService, response *answer) bool {
	if response.StatusCode == http.StatusSwitchingProtocols {
		respond.Write(w, r, respond.Fail{
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
		respond.Write(w, r, respond.Fail{Reason: respond.RedirectRejected, APIService: a.Name})
		return true
	}
	response.Header.Set("Location", ownLocation(location, response.choice.Address))
	return false
}

func (p *Proxy) exchangeFailed(w http.ResponseWriter, r *http.Request, a *catalog.APIService, err error) {
	logger := klog.FromContext(r.Context()).WithValues("apiService", a.Name)
	if r.Context().Err() != nil {
		// The client left or its own deadline passed: no word about the backend.
		respond.Write(w, r, respond.Fail{Reason: respond.BackendTimeout, APIService: a.Name})
		return
	}
	if none := (errUnresolved{}); errors.As(err, &none) {
		logger.V(2).Info("No endpoint for a request", "err", err)
		respond.Write(w, r, respond.Fail{Reason: respond.Unresolved, APIService: a.Name})
		return
	}
	p.config.ProbeNow(a)
	logger.V(2).Info("Request to an extension server failed", "err", err)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		respond.Write(w, r, respond.Fail{Reason: respond.BackendTimeout, APIService: a.Name})
		return
	}
	respond.Write(w, r, respond.Fail{
		Reason: respond.BackendFailed, APIService: a.Name,
		Message: "error trying to reach service: " + err.Error(),
	})
}
