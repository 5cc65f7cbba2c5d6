package diagnosis

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
)

// symptom is what a text of a failure tells. API servers give no more than text.
type symptom int

const (
	timedOut symptom = iota
	refused
	netUnreachable
	noRoute
	reset
	noAgent
	notAllowed
	proxied
	notResolved
	unknownAuthority
	expired
	wrongName
	legacyName
	notTLS
	badBundle
	anonymous
	nameNotAllowed
)

// wording are the texts by which symptoms are known, in lower case. The first that fits counts, so
// that what tells more stands first.
var wording = []struct {
	symptom symptom
	parts   []string
}{
	{noAgent, []string{"no agent available"}},
	{notAllowed, []string{"address is not allowed"}},
	{proxied, []string{"proxyconnect", "proxy authentication required"}},
	{notResolved, []string{"no such host", "server misbehaving", "temporary failure in name resolution", "dial tcp: lookup"}},
	{nameNotAllowed, []string{"is not in the allowed list"}},
	{expired, []string{"certificate has expired or is not yet valid"}},
	{legacyName, []string{"legacy common name"}},
	{wrongName, []string{"certificate is valid for", "certificate is not valid for any names", "doesn't contain any ip sans"}},
	{unknownAuthority, []string{"signed by unknown authority", "certificate is not trusted"}},
	{badBundle, []string{"unable to load root certificates", "unable to parse bytes as pem", "no valid certificate", "using the root certificates"}},
	{notTLS, []string{"http response to https client", "does not look like a tls handshake"}},
	{anonymous, []string{"system:anonymous"}},
	{netUnreachable, []string{"network is unreachable"}},
	{noRoute, []string{"no route to host", "host is unreachable", "host is down"}},
	{refused, []string{"connection refused"}},
	{reset, []string{"connection reset by peer", ": eof", "unexpected eof", "broken pipe", "server closed"}},
	{timedOut, []string{"i/o timeout", "deadline exceeded", "client.timeout", "timed out", "handshake timeout", "timeout awaiting"}},
}

// tell is what a text tells.
func tell(text string) (symptom, bool) {
	text = strings.ToLower(text)
	if strings.HasSuffix(text, "eof") {
		return reset, true
	}
	for _, w := range wording {
		for _, part := range w.parts {
			if strings.Contains(text, part) {
				return w.symptom, true
			}
		}
	}
	return 0, false
}

// failure is a text that tells of a failed request.
type failure struct {
	// from says who told it.
	from, text string
	// endpoint is the address that it is about; empty if it is not about one.
	endpoint string
}

// failures are the texts that say why the APIService is not available; none while it is. They come
// from whoever speaks for the API server's own view: what fails from here may be well from there.
func (l *look) failures() []failure {
	if !l.failing() {
		return nil
	}
	var all []failure
	add := func(from, text, endpoint string) {
		if text != "" {
			all = append(all, failure{from, text, endpoint})
		}
	}
	if c := l.available(); c.Message != "" {
		add("the condition Available", c.Message, "")
	}
	if r := l.remote(); r != nil {
		add("the RemoteAPIService", r.Message, "")
		for _, e := range r.Endpoints {
			if e.LastError != nil && e.State != v1alpha1.EndpointHealthy {
				add("endpoint "+e.Address, e.LastError.Message, e.Address)
			}
		}
	}
	for _, e := range l.a.Endpoints.Value {
		add("the API server's proxy to "+e.Address, e.Proxied.Value.Failure, e.Address)
		add("the API server's proxy to "+e.Address, e.Proxied.Value.TLSFailure, e.Address)
	}
	for _, answer := range []Answer{l.a.GroupVersion.Value, l.a.List.Value} {
		if answer.Code >= 400 && answer.Status != nil {
			add("GET "+answer.Path, answer.Status.Message, "")
		}
	}
	return all
}

// tells is the first failure with a symptom.
func (l *look) tells(s symptom) (failure, bool) {
	for _, f := range l.texts {
		if got, ok := tell(f.text); ok && got == s {
			return f, true
		}
	}
	return failure{}, false
}

var badStatus = regexp.MustCompile(`bad status from [^ ]+ ([0-9]{3})\b`)

// badStatus is the HTTP status that the API server's check was answered; 0 if it was none.
func (l *look) badStatus() int {
	for _, f := range l.texts {
		if m := badStatus.FindStringSubmatch(f.text); m != nil {
			code, _ := strconv.Atoi(m[1])
			return code
		}
	}
	return 0
}
