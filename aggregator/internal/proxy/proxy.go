// Package proxy sends one request to an extension server and streams back what
// it answers.
package proxy

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/util/flowcontrol"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backend/balance"
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

// Serve answers r on behalf of a remote APIService.
func (p *Proxy) Serve(w http.ResponseWriter, r *http.Request, a *catalog.APIService) {
	fail := func(reason respond.Reason, message string) {
		respond.Write(w, r, respond.Fail{Reason: reason, APIService: a.Name, Message: message})
	}
	b := p.config.Backends.Get(a)
	if !a.Routable() {
		respond.Write(w, r, respond.Fail{
			Reason: respond.Unavailable, APIService: a.Name, Cause: a.Verdict.Reason, RetryAfter: b.Refused.Refuse(time.Now()),
		})
		return
	}
	if err := b.Err(); err != nil {
		fail(respond.TransportInvalid, err.Error())
		return
	}
	user, ok := request.UserFrom(r.Context())
	if !ok {
		fail(respond.NoUser, "")
		return
	}
	if ambiguous(r.URL.Path) || !utf8.ValidString(r.URL.Path) {
		fail(respond.PathRefused, "")
		return
	}
	protocol, upgrade := upgradeProtocol(r.Header)
	if upgrade && protocol == "" {
		fail(respond.UpgradeRefused, "")
		return
	}
	release, err := admit(r, b, user.GetName(), upgrade)
	if err != nil {
		respond.Write(w, r, respond.Fail{Reason: respond.TooMany, APIService: a.Name, RetryAfter: b.Dropped.Add()})
		return
	}
	defer release()

	ctx := r.Context()
	if d := p.discoveryTimeout(a); d > 0 && isDiscovery(r) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	out := p.outgoing(ctx, r, user, protocol)
	flowcontrol.RequestDelegated(r.Context())
	if upgrade {
		p.upgrade(w, r, out.WithContext(ctx), a, b)
		return
	}
	p.forward(ctx, w, r, out, a, b)
}

// admit waits for the extension server's leave to send it one more request.
func admit(r *http.Request, b *backend.Backend, user string, upgrade bool) (release func(), err error) {
	if upgrade || isLongRunning(r) {
		return b.Streams.Acquire(r.Context(), user)
	}
	return b.Limiter.Acquire(r.Context(), user)
}

// isWatch says whether a long-running request is a watch: a list of events each of
// which is whole, that its client continues elsewhere.
func isWatch(r *http.Request) bool {
	if info, ok := request.RequestInfoFrom(r.Context()); ok && info.IsResourceRequest {
		return info.Verb == "watch"
	}
	return true // see isLongRunning
}

// isLongRunning says whether a request lasts as long as its client wants.
func isLongRunning(r *http.Request) bool {
	if info, ok := request.RequestInfoFrom(r.Context()); ok && info.IsResourceRequest {
		switch info.Subresource {
		case "attach", "exec", "proxy", "log", "portforward":
			return true
		}
		return info.Verb == "watch" || info.Verb == "proxy"
	}
	watch := r.URL.Query().Get("watch")
	return r.Method == http.MethodGet && (watch == "true" || watch == "1")
}

// discoveryTimeout is the APIService's own or the server's; zero for none.
func (p *Proxy) discoveryTimeout(a *catalog.APIService) time.Duration {
	if a.Settings.DiscoveryTimeout > 0 {
		return a.Settings.DiscoveryTimeout
	}
	return p.config.DiscoveryTimeout
}

// isDiscovery tells /apis/<group>/<version> and the like from the rest.
func isDiscovery(r *http.Request) bool {
	info, ok := request.RequestInfoFrom(r.Context())
	return ok && !info.IsResourceRequest && strings.Count(strings.Trim(info.Path, "/"), "/") == 2
}

// ambiguous says whether a decoded path has empty or dot segments. The
// authorizer reads them literally and a server that cleans paths does not, so
// they are not forwarded.
func ambiguous(path string) bool {
	for rest := path[min(1, len(path)):]; rest != ""; {
		segment, after, more := strings.Cut(rest, "/")
		if segment == "." || segment == ".." || (segment == "" && more) {
			return true
		}
		rest = after
	}
	return false
}

// query returns the raw query as it may be forwarded: one that parsers read
// differently is written anew from what this server reads.
func query(u *url.URL) string {
	if strings.Contains(u.RawQuery, ";") {
		return u.Query().Encode()
	}
	for i := 0; i < len(u.RawQuery); i++ {
		if u.RawQuery[i] == '%' && (i+2 >= len(u.RawQuery) || !isHex(u.RawQuery[i+1]) || !isHex(u.RawQuery[i+2])) {
			return u.Query().Encode()
		}
	}
	return u.RawQuery
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func (p *Proxy) forward(ctx context.Context, w http.ResponseWriter, r, out *http.Request, a *catalog.APIService, b *backend.Backend) {
	longRunning := isLongRunning(r)
	watch := longRunning && isWatch(r)
	x := &exchange{proxy: p, ctx: ctx, request: out, apiService: a, backend: b, body: newReplayBody(r), watch: watch}
	run := x.run
	if longRunning {
		run = x.runApart
	}
	response, err := run()
	if err != nil {
		p.exchangeFailed(w, r, a, err)
		return
	}
	defer response.end()
	if p.rejected(w, r, a, response) {
		return
	}
	cleanResponse(response.Header)
	if !longRunning {
		copyResponse(w, r, response.Response, nil)
		return
	}
	response.Request = nil // sent: no reason to hold it
	stream := &balance.Stream{End: response.cancel}
	defer p.drainer.hold(r.Context(), stream)()
	if !watch { // a log, for example, which its client would take for whole
		copyResponse(w, r, response.Response, nil)
		return
	}
	// A watch may be ended from here: when its endpoint leaves, when this server
	// shuts down, or at the longest that the APIService allows. Its client then
	// begins a new one.
	defer response.choice.Hold(stream)()
	if d := a.Settings.MaxWatch; d > 0 {
		timer := time.AfterFunc(d, response.cancel)
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

// ownLocation rewrites a Location at the extension server itself to the same
// path here; others are left as they are.
func ownLocation(location, backendHost string) string {
	u, err := url.Parse(location)
	if err != nil || u.Host != backendHost {
		return location
	}
	u.Scheme, u.Host, u.User = "", "", nil
	return u.String()
}
