package observe

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/internal/printable"
)

// Assessment is how an APIService fares, and why.
type Assessment struct {
	State   v1alpha1.State
	Reason  string
	Message string
	// Faults are what is wrong, gravest first. Their codes are left to whoever knows them.
	Faults []v1alpha1.Fault
}

// Assess judges a subject. The verdict alone says whether it is available; an available
// one is Degraded while anything else is wrong.
func Assess(now time.Time, s *Subject) Assessment {
	if s.Verdict.Status == "" {
		return Assessment{State: v1alpha1.Unknown, Reason: "NotProbedYet", Message: "no probe of the extension server has ended yet"}
	}
	var a Assessment
	for _, f := range faults {
		if message := f.find(now, s); message != "" {
			a.Faults = append(a.Faults, v1alpha1.Fault{Reason: cmp.Or(f.reason, printable.Line(s.Verdict.Reason, maxName)), Message: printable.Line(message, maxMessage)})
		}
	}
	switch {
	case s.Verdict.Status == apiregistrationv1.ConditionFalse:
		a.State = v1alpha1.Unavailable
	case s.Verdict.Status != apiregistrationv1.ConditionTrue:
		a.State = v1alpha1.Unknown
	case len(a.Faults) > 0:
		a.State = v1alpha1.Degraded
	default:
		a.State = v1alpha1.Healthy
		return a
	}
	a.Reason, a.Message = a.Faults[0].Reason, a.Faults[0].Message
	return a
}

// fault is one thing that can be wrong. Find says what was seen; empty where all is well.
type fault struct {
	reason string // empty for that of the verdict
	find   func(now time.Time, s *Subject) string
}

// faults are all that the layer can tell, gravest first: what fails requests, then what
// may soon, then what only some clients notice.
var faults = []fault{
	{"", func(_ time.Time, s *Subject) string {
		if s.Verdict.Status == apiregistrationv1.ConditionTrue {
			return ""
		}
		return cmp.Or(s.Verdict.Message, "the extension server is not available")
	}},
	{"FrontProxyCertificateExpired", func(now time.Time, s *Subject) string {
		return expired(now, s.Certificates.FrontProxy, "the certificate that this server shows to extension servers")
	}},
	{"ServingCertificateExpired", func(now time.Time, s *Subject) string {
		const what = "the extension server's certificate"
		if expired(s.servingShown(now), s.verifiedCertificate(), what) == "" {
			return "" // it may have another by now
		}
		return expired(now, s.verifiedCertificate(), what)
	}},
	{"CABundleExpired", func(now time.Time, s *Subject) string {
		bundle := s.Certificates.CABundle
		for i := range bundle {
			if expired(now, &bundle[i], "") == "" {
				return "" // others may be left of earlier keys
			}
		}
		return expired(now, s.lastAuthority(), "each certificate of spec.caBundle, the last one")
	}},
	{"ServersDisagree", dissent},
	{"EndpointUnreachable", func(_ time.Time, s *Subject) string { return leftOut(s, balance.Unreachable, "fail their probes") }},
	{"EndpointEjected", func(_ time.Time, s *Subject) string {
		return leftOut(s, balance.Ejected, "failed requests and are left out for a while")
	}},
	{"ServingCertificateExpiring", func(now time.Time, s *Subject) string {
		return cmp.Or(expiring(s.servingShown(now), s.verifiedCertificate(), "the extension server's certificate"),
			expiring(now, s.lastAuthority(), "the certificate of spec.caBundle that lasts longest"))
	}},
	{"FrontProxyCertificateExpiring", func(now time.Time, s *Subject) string {
		return expiring(now, s.Certificates.FrontProxy, "the certificate that this server shows to extension servers")
	}},
	{"DiscoveryFailed", func(_ time.Time, s *Subject) string {
		return failedDownload("its resources are not known", s.Document.Discovery == nil, s.Document.Problem)
	}},
	{"DiscoveryStale", func(_ time.Time, s *Subject) string {
		if !s.Document.Stale {
			return ""
		}
		return failedDownload("its resources are those of an earlier download", s.Document.Discovery != nil, s.Document.Problem)
	}},
	{"WatchListMissing", func(_ time.Time, s *Subject) string {
		if s.WatchList != catalog.WatchListMissing {
			return ""
		}
		return "the extension server takes watches with sendInitialEvents and does not end their initial events; clients that wait for it would hang"
	}},
	{"DiscoveryWarning", func(_ time.Time, s *Subject) string { return s.Document.Warning }},
	{"OpenAPIBroken", func(_ time.Time, s *Subject) string {
		v2 := s.Downloads.OpenAPIV2
		switch {
		case !v2.Unmergeable:
			return ""
		case v2.Bytes > 0:
			return "clients would refuse all of /openapi/v2 with its document, so that of an earlier download stays: " + v2.Problem
		}
		return "clients would refuse all of /openapi/v2 with its document, so it is left out: " + v2.Problem
	}},
	{"OpenAPIFailed", func(_ time.Time, s *Subject) string {
		v2, v3 := s.Downloads.OpenAPIV2.other(), s.Downloads.OpenAPIV3
		return cmp.Or(failedDownload("it has no OpenAPI v3", v3.Bytes == 0, v3.Problem), failedDownload("it has no OpenAPI v2", v2.Bytes == 0, v2.Problem))
	}},
	{"OpenAPIStale", func(_ time.Time, s *Subject) string {
		v2, v3 := s.Downloads.OpenAPIV2.other(), s.Downloads.OpenAPIV3
		return cmp.Or(failedDownload("its OpenAPI v3 is that of an earlier download", v3.Bytes > 0, v3.Problem),
			failedDownload("its OpenAPI v2 is that of an earlier download", v2.Bytes > 0, v2.Problem))
	}},
}

// other is d but for what OpenAPIBroken says of it.
func (d Download) other() Download {
	if d.Unmergeable {
		d.Problem = ""
	}
	return d
}

func failedDownload(effect string, is bool, problem string) string {
	if !is || problem == "" {
		return ""
	}
	return effect + ": " + problem
}

func dissent(_ time.Time, s *Subject) string {
	if len(s.Dissent) == 0 {
		return ""
	}
	d := s.Dissent[0]
	message := fmt.Sprintf("%s sees it otherwise: Available is %s", d.Server, d.Status)
	if d.Reason != "" {
		message += ", " + d.Reason
	}
	if more := len(s.Dissent) - 1; more > 0 {
		message += fmt.Sprintf("; and so do %d more", more)
	}
	return message
}

// maxNamed bounds the endpoints that a message names.
const maxNamed = 3

// leftOut names the endpoints of a state. The Service's own address does not count: it
// only stands in.
func leftOut(s *Subject, state balance.State, how string) string {
	var named []string
	count, all, last := 0, 0, ""
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if e.Fallback {
			continue
		}
		all++
		if e.State != state {
			continue
		}
		if count++; count <= maxNamed {
			named = append(named, e.Address)
		}
		last = cmp.Or(last, e.LastError.Message)
	}
	if count == 0 {
		return ""
	}
	if count > maxNamed {
		named = append(named, "…")
	}
	message := fmt.Sprintf("%d of %d endpoints %s: %s", count, all, how, strings.Join(named, ", "))
	if last != "" {
		message += "; " + last
	}
	return message
}

// A certificate is about to expire when less than expiringSoon is left, and less than a
// part of the time for which it is valid: those that live for days are renewed late.
const (
	expiringSoon = 14 * 24 * time.Hour
	expiringPart = 4
)

// lastAuthority is what of the CA bundle expires last: while an authority is replaced, its old
// certificate may expire beside the new one. It is nil where there is none.
func (s *Subject) lastAuthority() (last *v1alpha1.Certificate) {
	for i := range s.Certificates.CABundle {
		if c := &s.Certificates.CABundle[i]; last == nil || c.NotAfter.After(last.NotAfter.Time) {
			last = c
		}
	}
	return last
}

// verifiedCertificate is the extension server's if anybody minds that it expires.
func (s *Subject) verifiedCertificate() *v1alpha1.Certificate {
	if s.InsecureSkipTLSVerify {
		return nil
	}
	return s.Certificates.Serving
}

// servingShown is by when the extension server's certificate is judged: a server that has
// renewed it shows that to new connections alone, and is not at fault.
func (s *Subject) servingShown(now time.Time) time.Time {
	if shown := s.Certificates.ServingShown; !shown.IsZero() && shown.Before(now) {
		return shown
	}
	return now
}

// showAgainAfter is how old may be what is known of a certificate that expires soon.
const showAgainAfter = time.Hour

// ShowAgain says that it is time to see whether an endpoint has another certificate than the
// one that it showed.
func ShowAgain(now time.Time, showed *x509.Certificate, shown time.Time) bool {
	c := &v1alpha1.Certificate{NotBefore: metav1.NewTime(showed.NotBefore), NotAfter: metav1.NewTime(showed.NotAfter)}
	switch {
	case expired(now, c, "") == "" && expiring(now, c, "") == "":
		return false
	case expired(now, c, "") != "" && expired(shown, c, "") == "":
		return true
	}
	return now.Sub(shown) >= showAgainAfter
}

// expired says that a certificate is not valid now, or not yet: then one of two clocks is
// wrong, which looks the same to who connects.
func expired(now time.Time, c *v1alpha1.Certificate, what string) string {
	switch {
	case c == nil || now.Before(c.NotAfter.Time) && !now.Before(c.NotBefore.Time):
		return ""
	case now.Before(c.NotBefore.Time):
		return fmt.Sprintf("%s is not valid before %s", what, c.NotBefore.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("%s expired at %s", what, c.NotAfter.UTC().Format(time.RFC3339))
}

func expiring(now time.Time, c *v1alpha1.Certificate, what string) string {
	if c == nil {
		return ""
	}
	left := c.NotAfter.Sub(now)
	if left <= 0 || left >= min(expiringSoon, c.NotAfter.Sub(c.NotBefore.Time)/expiringPart) {
		return ""
	}
	return fmt.Sprintf("%s expires at %s", what, c.NotAfter.UTC().Format(time.RFC3339))
}
