package observe

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/backend/stats"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
)

var (
	now = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	up  = catalog.Verdict{Status: apiregistrationv1.ConditionTrue, Reason: "Passed", Message: "all checks passed"}
)

func ago(d time.Duration) time.Time { return now.Add(-d) }

// recent is a last minute with so many answers that took so long, and so many failures.
func recent(answers int, took time.Duration, failed int) *stats.Recent {
	r := &stats.Requests{}
	for range answers {
		r.Record(now, stats.Result{Took: took})
	}
	for range failed {
		r.Record(now, stats.Result{Failed: true})
	}
	return r.Recent(now)
}

func traffic(address string, state balance.State) balance.Traffic {
	return balance.Traffic{Health: balance.Health{Member: balance.Member{Address: address}, State: state, Since: ago(time.Hour)}}
}

// subject is one with which all is well.
func subject() *Subject {
	o := &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: "v1.a.example", UID: "u-1", Labels: map[string]string{"team": "storage"}, CreationTimestamp: metav1.NewTime(ago(48 * time.Hour))}}
	o.Spec.Group, o.Spec.Version = "a.example", "v1"
	o.Spec.Service = &apiregistrationv1.ServiceReference{Namespace: "ns", Name: "api"}
	fine := Download{Fetched: ago(time.Minute), Bytes: 1000}
	return &Subject{
		APIService: &catalog.APIService{
			Registration: catalog.NewRegistration(o),
			Verdict:      up,
			Target: catalog.Target{Endpoints: []catalog.Endpoint{
				{Address: "10.1.0.1:443", Zone: "z", Node: "n", Pod: "ns/api-1"}, {Address: "10.1.0.2:443"}, {Address: "10.0.0.7:443", Fallback: true},
			}},
			Document:  catalog.Document{Discovery: &apidiscoveryv2.APIVersionDiscovery{Resources: make([]apidiscoveryv2.APIResourceDiscovery, 3)}},
			WatchList: catalog.WatchListWorks,
		},
		Endpoints: []balance.Traffic{
			traffic("10.1.0.1:443", balance.Healthy), traffic("10.1.0.2:443", balance.Healthy),
			{Health: balance.Health{Member: balance.Member{Address: "10.0.0.7:443", Fallback: true}}},
		},
		Load:      Load{Max: 400, InFlight: 3, Queued: 1},
		Downloads: Downloads{fine, fine, fine},
		Certificates: Certificates{
			Serving: certificate(-24*time.Hour, 300*24*time.Hour), FrontProxy: certificate(-24*time.Hour, 300*24*time.Hour),
			CABundle: []v1alpha1.Certificate{*certificate(-24*time.Hour, 3000*24*time.Hour)},
		},
	}
}

func certificate(from, to time.Duration) *v1alpha1.Certificate {
	return &v1alpha1.Certificate{Subject: "CN=x", NotBefore: metav1.NewTime(now.Add(from)), NotAfter: metav1.NewTime(now.Add(to))}
}

func TestTheWholeObject(t *testing.T) {
	s := subject()
	s.Endpoints[0].Recent, s.Endpoints[0].InFlight = recent(99, 12*time.Millisecond, 1), 3
	s.Endpoints[1].State = balance.Unreachable
	s.Endpoints[1].LastError = balance.LastError{Message: "no \x1b[31mroute\nto host", Time: ago(time.Second)}
	a := Assess(now, s)
	got := RemoteAPIService(now, "host-a:6443", s, a, Standing{}.Next(now, s, a))

	at := func(d time.Duration) metav1.Time { return metav1.NewTime(ago(d)) }
	document := v1alpha1.Document{Freshness: v1alpha1.Current, Fetched: at(time.Minute), Bytes: 1000}
	message := "1 of 2 endpoints fail their probes: 10.1.0.2:443; no �[31mroute to host"
	serving := *s.Certificates.Serving
	serving.DaysLeft = 300
	ca := s.Certificates.CABundle[0]
	ca.DaysLeft = 3000
	want := v1alpha1.RemoteAPIService{
		TypeMeta:   metav1.TypeMeta{APIVersion: "aggregation.annex.dev/v1alpha1", Kind: "RemoteAPIService"},
		ObjectMeta: metav1.ObjectMeta{Name: "v1.a.example", UID: "u-1", Labels: map[string]string{"team": "storage"}, CreationTimestamp: at(48 * time.Hour)},
		Status: v1alpha1.RemoteAPIServiceStatus{
			Group: "a.example", Version: "v1", Service: "ns/api:443",
			State: v1alpha1.Degraded, Reason: "EndpointUnreachable", Message: message, Since: at(0),
			Faults:          []v1alpha1.Fault{{Reason: "EndpointUnreachable", Message: message}},
			Server:          "host-a:6443",
			Views:           []v1alpha1.View{{Server: "host-a:6443", Available: metav1.ConditionTrue, Reason: "Passed", Since: at(0)}},
			EndpointSummary: "1/2",
			Endpoints: []v1alpha1.Endpoint{
				{
					Address: "10.1.0.1:443", Kind: "endpoint", Zone: "z", Node: "n", Pod: "ns/api-1", State: v1alpha1.EndpointHealthy, Since: at(time.Hour),
					InFlight: 3, Requests: 100, Latency: &v1alpha1.Latency{P50: "12ms", P99: "13ms"}, ErrorRate: "1%",
				},
				{
					Address: "10.1.0.2:443", Kind: "endpoint", State: v1alpha1.EndpointUnreachable, Since: at(time.Hour),
					LastError: &v1alpha1.LastError{Message: "no �[31mroute to host", Time: at(time.Second)},
				},
				{Address: "10.0.0.7:443", Kind: "clusterIP", State: v1alpha1.EndpointHealthy},
			},
			Latency:   &v1alpha1.Latency{P50: "12ms", P99: "13ms"},
			ErrorRate: "1%",
			Limits:    v1alpha1.Limits{MaxInFlight: 400, InFlight: 3, Queued: 1},
			Discovery: v1alpha1.Discovery{Document: document, Resources: 3},
			OpenAPIV2: document, OpenAPIV3: document,
			WatchList:    "Works",
			Certificates: v1alpha1.Certificates{Serving: &serving, CABundle: []v1alpha1.Certificate{ca}, FrontProxy: &serving},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// Without requests, and with a resolver in place of endpoints, nothing is made up.
func TestWhatIsNotKnownIsLeftEmpty(t *testing.T) {
	s := &Subject{APIService: &catalog.APIService{Registration: catalog.Registration{Name: "v1.a.example"}, Target: catalog.Target{Resolver: true}}}
	a := Assess(now, s)
	got := RemoteAPIService(now, "", s, a, Standing{}.Next(now, s, a)).Status
	if got.State != v1alpha1.Unknown || got.Reason != "NotProbedYet" || got.Message == "" {
		t.Errorf("%s, %s: %s", got.State, got.Reason, got.Message)
	}
	if got.Latency != nil || got.ErrorRate != "" || got.EndpointSummary != "" || got.Endpoints != nil || got.Faults != nil {
		t.Errorf("%+v", got)
	}
	if got.Discovery.Freshness != v1alpha1.NeverFetched || got.OpenAPIV2.Freshness != v1alpha1.NeverFetched || !got.Discovery.Fetched.IsZero() {
		t.Errorf("%+v, %+v", got.Discovery, got.OpenAPIV2)
	}
	if got.WatchList != "Unknown" || got.Views[0].Available != metav1.ConditionUnknown || got.Certificates.Serving != nil {
		t.Errorf("%+v", got)
	}
	// Only watches were asked: there is an error rate, and no latency.
	s = subject()
	s.Endpoints[0].Recent = recent(0, 0, 0)
	s.Endpoints[1].Recent = recent(0, 0, 2)
	if got := RemoteAPIService(now, "", s, Assess(now, s), Standing{}).Status; got.ErrorRate != "100%" || got.Latency != nil || got.Endpoints[1].Latency != nil {
		t.Errorf("%q, %+v", got.ErrorRate, got.Latency)
	}
}

func TestStatesAndFaults(t *testing.T) {
	week := 7 * 24 * time.Hour
	for what, c := range map[string]struct {
		change  func(s *Subject)
		state   v1alpha1.State
		reasons string // of the faults, in order
		message string // a part of the first's
	}{
		"all is well": {func(*Subject) {}, v1alpha1.Healthy, "", ""},
		"unavailable": {func(s *Subject) {
			s.Verdict = catalog.Verdict{Status: apiregistrationv1.ConditionFalse, Reason: "MissingEndpoints", Message: "there are none"}
		}, v1alpha1.Unavailable, "MissingEndpoints", "there are none"},
		"unknown": {func(s *Subject) {
			s.Verdict = catalog.Verdict{Status: apiregistrationv1.ConditionUnknown, Reason: "ServiceAccessError", Message: "cannot be checked"}
		}, v1alpha1.Unknown, "ServiceAccessError", "cannot be checked"},
		"a probe is awaited, whatever else is wrong": {func(s *Subject) {
			s.Verdict, s.Document.Stale, s.Document.Problem = catalog.Verdict{}, true, "no"
		}, v1alpha1.Unknown, "", ""},
		"unavailable, with what goes with it": {func(s *Subject) {
			s.Verdict = catalog.Verdict{Status: apiregistrationv1.ConditionFalse, Reason: "FailedDiscoveryCheck", Message: "refused"}
			s.Endpoints[0].State, s.Endpoints[1].State = balance.Unreachable, balance.Unreachable
			s.Document.Stale, s.Document.Problem = true, "refused"
		}, v1alpha1.Unavailable, "FailedDiscoveryCheck EndpointUnreachable DiscoveryStale", "refused"},
		"an endpoint is ejected": {func(s *Subject) { s.Endpoints[1].State = balance.Ejected }, v1alpha1.Degraded, "EndpointEjected", "1 of 2 endpoints failed requests"},
		"an endpoint drains":     {func(s *Subject) { s.Endpoints[1].State = balance.Draining }, v1alpha1.Healthy, "", ""},
		"the Service's address is not reached": {func(s *Subject) {
			s.Endpoints[2].State = balance.Unreachable
		}, v1alpha1.Healthy, "", ""},
		"many endpoints": {func(s *Subject) {
			s.Endpoints = nil
			for _, address := range []string{"a:1", "b:1", "c:1", "d:1"} {
				s.Endpoints = append(s.Endpoints, traffic(address, balance.Unreachable))
			}
		}, v1alpha1.Degraded, "EndpointUnreachable", "4 of 4 endpoints fail their probes: a:1, b:1, c:1, …"},
		"stale discovery": {func(s *Subject) { s.Document.Stale, s.Document.Problem = true, "timeout" }, v1alpha1.Degraded, "DiscoveryStale", "timeout"},
		"no discovery": {func(s *Subject) {
			s.Document = catalog.Document{Stale: true, Problem: "status code 404"}
		}, v1alpha1.Degraded, "DiscoveryFailed", "status code 404"},
		"discovery is awaited": {func(s *Subject) { s.Document = catalog.Document{} }, v1alpha1.Healthy, "", ""},
		"odd discovery":        {func(s *Subject) { s.Document.Warning = "it names no kind" }, v1alpha1.Degraded, "DiscoveryWarning", "it names no kind"},
		"stale OpenAPI":        {func(s *Subject) { s.Downloads.OpenAPIV2.Problem = "status code 500" }, v1alpha1.Degraded, "OpenAPIStale", "OpenAPI v2"},
		"OpenAPI that clients refuse": {func(s *Subject) {
			s.Downloads.OpenAPIV2 = Download{Problem: "a reference", Unmergeable: true}
		}, v1alpha1.Degraded, "OpenAPIBroken", "so it is left out: a reference"},
		"OpenAPI that clients refuse by now": {func(s *Subject) {
			s.Downloads.OpenAPIV2 = Download{Problem: "a reference", Unmergeable: true, Bytes: 1}
		}, v1alpha1.Degraded, "OpenAPIBroken", "so that of an earlier download stays: a reference"},
		"and no v3": {func(s *Subject) {
			s.Downloads.OpenAPIV2, s.Downloads.OpenAPIV3 = Download{Problem: "a reference", Unmergeable: true}, Download{Problem: "malformed"}
		}, v1alpha1.Degraded, "OpenAPIBroken OpenAPIFailed", "a reference"},
		"no OpenAPI":                       {func(s *Subject) { s.Downloads.OpenAPIV3 = Download{Problem: "malformed"} }, v1alpha1.Degraded, "OpenAPIFailed", "malformed"},
		"a server without OpenAPI":         {func(s *Subject) { s.Downloads.OpenAPIV2, s.Downloads.OpenAPIV3 = Download{}, Download{} }, v1alpha1.Healthy, "", ""},
		"watches without a bookmark":       {func(s *Subject) { s.WatchList = catalog.WatchListMissing }, v1alpha1.Degraded, "WatchListMissing", "sendInitialEvents"},
		"watches with sendInitialEvents":   {func(s *Subject) { s.WatchList = catalog.WatchListRefused }, v1alpha1.Healthy, "", ""},
		"a certificate expires":            {func(s *Subject) { s.Certificates.Serving = certificate(-20*week, week) }, v1alpha1.Degraded, "ServingCertificateExpiring", "2026-12-05T12:00:00Z"},
		"one that lives for days does not": {func(s *Subject) { s.Certificates.Serving = certificate(-24*time.Hour, 24*time.Hour) }, v1alpha1.Healthy, "", ""},
		"but in the end it does":           {func(s *Subject) { s.Certificates.Serving = certificate(-24*time.Hour, time.Hour) }, v1alpha1.Degraded, "ServingCertificateExpiring", "expires at"},
		"a certificate has expired":        {func(s *Subject) { s.Certificates.Serving = certificate(-week, -time.Second) }, v1alpha1.Degraded, "ServingCertificateExpired", "expired at"},
		"a clock is wrong":                 {func(s *Subject) { s.Certificates.Serving = certificate(time.Hour, week) }, v1alpha1.Degraded, "ServingCertificateExpired", "not valid before"},
		"one that was shown before that may be another by now": {func(s *Subject) {
			s.Certificates.Serving, s.Certificates.ServingShown = certificate(-20*week, week), now.Add(-10*week)
		}, v1alpha1.Healthy, "", ""},
		"and is no other": {func(s *Subject) {
			s.Certificates.Serving, s.Certificates.ServingShown = certificate(-20*week, -time.Second), now.Add(-time.Minute)
		}, v1alpha1.Degraded, "ServingCertificateExpiring", "expires at"},
		"an authority expires": {func(s *Subject) {
			s.Certificates.CABundle = []v1alpha1.Certificate{*certificate(-20*week, week)}
		}, v1alpha1.Degraded, "ServingCertificateExpiring", "caBundle"},
		"an old one does beside a new one": {func(s *Subject) {
			s.Certificates.CABundle = []v1alpha1.Certificate{*certificate(-20*week, 20*week), *certificate(-20*week, week)}
		}, v1alpha1.Healthy, "", ""},
		"nobody minds": {func(s *Subject) {
			s.Certificates.Serving, s.InsecureSkipTLSVerify = certificate(-week, -time.Second), true
		}, v1alpha1.Healthy, "", ""},
		"the front proxy's has expired": {func(s *Subject) {
			s.Certificates.FrontProxy = certificate(-week, -time.Second)
		}, v1alpha1.Degraded, "FrontProxyCertificateExpired", "that this server shows"},
		"the front proxy's expires": {func(s *Subject) {
			s.Certificates.FrontProxy = certificate(-20*week, week)
		}, v1alpha1.Degraded, "FrontProxyCertificateExpiring", "that this server shows"},
		"an old CA beside a new one": {func(s *Subject) {
			s.Certificates.CABundle = append(s.Certificates.CABundle, *certificate(-week, -time.Second))
		}, v1alpha1.Healthy, "", ""},
		"the CA has expired": {func(s *Subject) {
			s.Certificates.CABundle = []v1alpha1.Certificate{*certificate(-week, -time.Second)}
		}, v1alpha1.Degraded, "CABundleExpired", "spec.caBundle"},
		"no CA bundle": {func(s *Subject) { s.Certificates.CABundle = nil }, v1alpha1.Healthy, "", ""},
		"others disagree": {func(s *Subject) {
			s.Dissent = []View{{"b:6443", apiregistrationv1.ConditionFalse, "FailedDiscoveryCheck"}, {"c:6443", apiregistrationv1.ConditionFalse, ""}}
		}, v1alpha1.Degraded, "ServersDisagree", "b:6443 sees it otherwise: Available is False, FailedDiscoveryCheck; and so do 1 more"},
	} {
		s := subject()
		c.change(s)
		a := Assess(now, s)
		var reasons []string
		for _, f := range a.Faults {
			reasons = append(reasons, f.Reason)
			if f.Message == "" || f.Code != "" {
				t.Errorf("%s: %+v", what, f)
			}
		}
		if a.State != c.state || strings.Join(reasons, " ") != c.reasons || !strings.Contains(a.Message, c.message) {
			t.Errorf("%s: %s of %q, %q; want %s of %q, %q", what, a.State, reasons, a.Message, c.state, c.reasons, c.message)
		}
		if len(a.Faults) > 0 && (a.Reason != a.Faults[0].Reason || a.Message != a.Faults[0].Message) || (a.Reason == "") != (a.State == v1alpha1.Healthy) {
			t.Errorf("%s: reason %q, message %q", what, a.Reason, a.Message)
		}
	}
}

// What others write is bounded and printable wherever it shows.
func TestHostileTexts(t *testing.T) {
	hostile := strings.Repeat("\x1b]0;owned\x07\u202e\xff<b>\n", 100_000)
	s := subject()
	s.Verdict = catalog.Verdict{Status: apiregistrationv1.ConditionFalse, Reason: hostile, Message: hostile}
	s.Document.Problem, s.Document.Warning, s.Document.Stale = hostile, hostile, true
	s.Downloads.OpenAPIV2.Problem = hostile
	s.Endpoints[0].LastError.Message = hostile
	s.Target.Endpoints[0] = catalog.Endpoint{Address: s.Endpoints[0].Address, Zone: hostile, Node: hostile, Pod: hostile}
	s.Dissent = []View{{hostile, apiregistrationv1.ConditionTrue, hostile}}
	a := Assess(now, s)
	got := RemoteAPIService(now, "me", s, a, Standing{}).Status
	e := got.Endpoints[0]
	texts := []struct {
		text string
		most int
	}{
		{got.Reason, 300},
		{got.Message, 1000},
		{got.Discovery.Problem, 1000},
		{got.Discovery.Warning, 1000},
		{got.OpenAPIV2.Problem, 1000},
		{e.LastError.Message, 500},
		{e.Zone, 300},
		{e.Node, 300},
		{e.Pod, 300},
		{got.Views[1].Server, 300},
		{got.Views[1].Reason, 300},
	}
	for _, f := range got.Faults {
		texts = append(texts, struct {
			text string
			most int
		}{f.Message, 1000})
	}
	for i, c := range texts {
		if c.text == "" || len(c.text) > c.most || strings.ContainsAny(c.text, "\x1b\x07\n\u202e") || !utf8.ValidString(c.text) {
			t.Errorf("%d: %d bytes, at most %d: %.60q", i, len(c.text), c.most, c.text)
		}
	}
}

func TestTwoFigures(t *testing.T) {
	for d, want := range map[time.Duration]string{
		85 * time.Microsecond: "0.085ms", 850 * time.Microsecond: "0.85ms", 1234 * time.Microsecond: "1.2ms", 12_345 * time.Microsecond: "12ms",
		996 * time.Millisecond: "1s", 123_456 * time.Microsecond: "120ms", 994 * time.Millisecond: "990ms", 1234 * time.Millisecond: "1.2s",
		12 * time.Second: "12s", 123 * time.Second: "120s",
	} {
		got := twoFigures(d)
		if got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
		if _, err := time.ParseDuration(got); err != nil {
			t.Error(err)
		}
	}
}

func TestErrorRates(t *testing.T) {
	for want, counts := range map[string][2]uint64{"0%": {7, 0}, "14%": {7, 1}, "100%": {7, 7}, "0.5%": {200, 1}, "99%": {1000, 990}, "99.8%": {1000, 998}, "0.01%": {10_000, 1}, "": {}} {
		if got := errorRate(&stats.Recent{Requests: counts[0], Failed: counts[1]}); got != want {
			t.Errorf("%d of %d is %q, want %q", counts[1], counts[0], got, want)
		}
	}
}

func TestWhenACertificateIsToBeShownAgain(t *testing.T) {
	day := 24 * time.Hour
	for what, c := range map[string]struct {
		certificate *v1alpha1.Certificate
		shown       time.Duration // ago
		again       bool
	}{
		"it lasts":                     {certificate(-20*day, 40*day), 10 * day, false},
		"it expires":                   {certificate(-80*day, 10*day), 10 * day, true},
		"it expires, and is new here":  {certificate(-80*day, 10*day), time.Minute, false},
		"it has expired since":         {certificate(-80*day, -time.Second), time.Minute, true},
		"it had expired when shown":    {certificate(-80*day, -time.Hour), time.Minute, false},
		"it had expired, long ago now": {certificate(-80*day, -3*day), 2 * day, true},
	} {
		showed := &x509.Certificate{NotBefore: c.certificate.NotBefore.Time, NotAfter: c.certificate.NotAfter.Time}
		if got := ShowAgain(now, showed, now.Add(-c.shown)); got != c.again {
			t.Errorf("%s: %v", what, got)
		}
	}
}
