package diagnosis

import (
	"time"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
)

// A certificate is about to expire when less than expiryNotice is left, and less than a part of the
// time for which it is valid: those that live for days are renewed late. The layer, which cannot be
// imported, judges by the same figures.
const (
	expiryNotice = 14 * 24 * time.Hour
	expiryPart   = 4
)

// expiresSoon says whether a certificate that is valid is about to end.
func expiresSoon(from, to, now time.Time) bool {
	if now.IsZero() || !now.Before(to) || now.Before(from) {
		return false
	}
	return to.Sub(now) < min(expiryNotice, to.Sub(from)/expiryPart)
}

func checkExpiry(l *look) {
	now := l.now()
	tell := func(code Code, whose, subject string, from, to time.Time) {
		if expiresSoon(from, to, now) {
			l.found(code, Certain, l.fields, "%s, %s, expires at %s, in %s", whose, subject, stamp(to), left(to.Sub(now)))
		}
	}
	if l.verified() {
		for _, s := range l.chains() {
			tell(ServingCertificateExpiring, "the certificate of endpoint "+s.address, s.chain[0].Subject.String(), s.chain[0].NotBefore, s.chain[0].NotAfter)
		}
		if all := l.bundle(); len(all) == 1 { // of several, old ones may run out
			tell(ServingCertificateExpiring, "the authority in caBundle", all[0].Subject.String(), all[0].NotBefore, all[0].NotAfter)
		}
	}
	if chain := l.f.Cluster.FrontProxy.Value; len(chain) > 0 && chain[0] != nil {
		tell(FrontProxyCertificateExpiring, "the API server's proxy certificate", chain[0].Subject.String(), chain[0].NotBefore, chain[0].NotAfter)
	}
	r := l.remote()
	if r == nil {
		return
	}
	ofRemote := func(code Code, whose string, c *v1alpha1.Certificate) {
		if c != nil {
			tell(code, whose, c.Subject, c.NotBefore.Time, c.NotAfter.Time)
		}
	}
	if l.verified() {
		ofRemote(ServingCertificateExpiring, "the serving certificate", r.Certificates.Serving)
	}
	ofRemote(FrontProxyCertificateExpiring, "the API server's proxy certificate", r.Certificates.FrontProxy)
}

// left is a time to come in days or hours.
func left(d time.Duration) string {
	if d >= 48*time.Hour {
		return plural(int(d/(24*time.Hour)), "day")
	}
	return plural(int(d/time.Hour), "hour")
}
