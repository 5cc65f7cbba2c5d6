package diagnosis

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"time"
)

// shown is what an endpoint showed in its handshake.
type shown struct {
	address string
	chain   []*x509.Certificate
}

// chains are what endpoints showed, one for each endpoint.
func (l *look) chains() []shown {
	var all []shown
	for _, e := range l.a.Endpoints.Value {
		for _, a := range []Attempt{e.Forwarded.Value, e.Direct.Value, e.ProbePod.Value} {
			if len(a.Chain) > 0 && a.Chain[0] != nil {
				all = append(all, shown{e.Address, a.Chain})
				break
			}
		}
	}
	return all
}

// verified says whether the API server verifies the serving certificate at all.
func (l *look) verified() bool {
	return l.object != nil && l.object.Spec.Service != nil && !l.object.Spec.InsecureSkipTLSVerify
}

// bundle are the certificates of spec.caBundle.
func (l *look) bundle() []*x509.Certificate {
	if l.object == nil {
		return nil
	}
	var certs []*x509.Certificate
	for rest := l.object.Spec.CABundle; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return certs
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			certs = append(certs, c)
		}
	}
}

// host is the name that the API server asks for.
func (l *look) host() string {
	return l.object.Spec.Service.Name + "." + l.object.Spec.Service.Namespace + ".svc"
}

func checkCABundle(l *look) {
	if l.object == nil || l.object.Spec.Service == nil {
		return
	}
	if l.object.Spec.InsecureSkipTLSVerify {
		l.found(TLSNotVerified, Certain, l.fields, "spec.insecureSkipTLSVerify is true")
		return
	}
	if n := len(l.object.Spec.CABundle); n > 0 && len(l.bundle()) == 0 {
		l.found(InvalidCABundle, Certain, l.fields, "spec.caBundle has %d bytes, and no PEM block in it is a certificate", n)
	} else if f, ok := l.tells(badBundle); ok {
		l.found(InvalidCABundle, Certain, l.fields, "%s says: %s", f.from, f.text)
	}
}

func checkSpeaksTLS(l *look) {
	if f, ok := l.tells(notTLS); ok {
		l.found(NotTLS, Certain, l.fields, "%s says: %s", f.from, f.text)
		return
	}
	for _, e := range l.a.Endpoints.Value {
		if s, ok := tell(e.Forwarded.Value.TLSFailure); ok && s == notTLS && l.failing() {
			l.found(NotTLS, Certain, l.fields, "endpoint %s: %s", e.Address, e.Forwarded.Value.TLSFailure)
			return
		}
	}
}

func checkServingTime(l *look) {
	if !l.verified() {
		return
	}
	now := l.now()
	for _, s := range l.chains() {
		if why := invalidAt(s.chain[0], now); why != "" {
			l.found(ServingCertificateExpired, Certain, l.fields, "endpoint %s shows a certificate of %s that %s (it is %s)", s.address, s.chain[0].Subject, why, stamp(now))
			return
		}
		// What the server sends along may be old, as long as the chain does not need it.
		invalid := x509.CertificateInvalidError{}
		if err := l.verify(l.bundle(), s.chain, now); !now.IsZero() && errors.As(err, &invalid) && invalid.Reason == x509.Expired {
			code := ServingCertificateExpired
			if slices.ContainsFunc(l.bundle(), invalid.Cert.Equal) {
				code = CABundleExpired
			}
			l.found(code, Certain, l.fields, "the certificate of endpoint %s rests on that of %s, which %s (it is %s)", s.address, invalid.Cert.Subject, invalidAt(invalid.Cert, now), stamp(now))
			return
		}
	}
	if all := l.bundle(); len(all) > 0 && !slices.ContainsFunc(all, func(c *x509.Certificate) bool { return invalidAt(c, now) == "" }) {
		l.found(CABundleExpired, Certain, l.fields, "caBundle is %s, which %s (it is %s)", authorities(all), invalidAt(all[len(all)-1], now), stamp(now))
		return
	}
	if r := l.remote(); r != nil && r.Certificates.Serving != nil && l.failing() {
		if c := r.Certificates.Serving; c.DaysLeft < 0 {
			l.found(ServingCertificateExpired, Certain, l.fields, "the API server saw a certificate of %s that expired at %s", c.Subject, stamp(c.NotAfter.Time))
			return
		}
	}
	// The same words are said of the front proxy's certificate, by the extension server.
	if f, ok := l.tells(expired); ok {
		l.found(ServingCertificateExpired, Certain, l.fields, "%s says: %s", f.from, f.text)
	}
}

// invalidAt says why a certificate is not valid at a time; empty if it is, or the time is not known.
func invalidAt(c *x509.Certificate, now time.Time) string {
	switch {
	case now.IsZero() || c == nil:
		return ""
	case now.After(c.NotAfter):
		return "expired at " + stamp(c.NotAfter)
	case now.Before(c.NotBefore):
		return "is valid from " + stamp(c.NotBefore) + " on"
	}
	return ""
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func checkServingNames(l *look) {
	if !l.verified() {
		return
	}
	x := l.fields
	for _, s := range l.chains() {
		leaf := s.chain[0]
		if len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.URIs)+len(leaf.EmailAddresses) == 0 {
			l.found(ServingCertificateLacksNames, Certain, x, "endpoint %s shows a certificate of %s without a subject alternative name", s.address, leaf.Subject)
			return
		}
		if leaf.VerifyHostname(l.host()) != nil {
			x.Other = l.otherService(leaf.DNSNames)
			l.found(ServingCertificateNames, Certain, x, "endpoint %s shows a certificate for %s, and the API server asks for %s", s.address, list(names(leaf)), l.host())
			return
		}
	}
	if f, ok := l.tells(legacyName); ok {
		l.found(ServingCertificateLacksNames, Certain, x, "%s says: %s", f.from, f.text)
	} else if f, ok := l.tells(wrongName); ok {
		l.found(ServingCertificateNames, Certain, x, "%s says: %s", f.from, f.text)
	}
}

// otherService is the Service of the same namespace that a certificate is for; empty if it is for
// none.
func (l *look) otherService(dnsNames []string) string {
	for _, n := range dnsNames {
		if service, rest, _ := strings.Cut(n, "."); rest == l.object.Spec.Service.Namespace+".svc" && service != "*" {
			return service
		}
	}
	return ""
}

func names(c *x509.Certificate) []string {
	all := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	for _, u := range c.URIs {
		all = append(all, u.String())
	}
	return all
}

func checkServingAuthority(l *look) {
	if !l.verified() {
		return
	}
	roots := l.bundle()
	if len(roots) > 0 {
		for _, s := range l.chains() {
			if leaf := s.chain[0]; !l.trusts(roots, s.chain) {
				l.mismatch(Certain, "endpoint %s shows a certificate of %s issued by %s, and caBundle is %s", s.address, withKey(leaf.Subject.String(), leaf.SubjectKeyId), withKey(leaf.Issuer.String(), leaf.AuthorityKeyId), authorities(roots))
				return
			}
		}
	}
	f, ok := l.tells(unknownAuthority)
	if !ok {
		return
	}
	have := "caBundle is empty, so that the API server trusts what its system trusts"
	if len(roots) > 0 {
		have = "caBundle is " + authorities(roots)
	}
	seen := ""
	if r := l.remote(); r != nil && r.Certificates.Serving != nil {
		seen = "; the certificate is issued by " + r.Certificates.Serving.Issuer
	} else if all := l.chains(); len(all) > 0 {
		seen = "; the certificate is issued by " + all[0].chain[0].Issuer.String()
	}
	l.mismatch(Certain, "%s%s; %s says: %s", have, seen, f.from, f.text)
}

// mismatch notes that the CA bundle is the wrong one, and who is likely to have made it so.
func (l *look) mismatch(c Confidence, format string, args ...any) {
	l.found(CABundleMismatch, c, l.fields, format, args...)
	writers := fieldOwners(l.object.ManagedFields, "f:spec", "f:caBundle")
	x := l.fields
	wanted := injected(l.object.Annotations)
	switch {
	case len(writers) > 1:
		x.Manager = writers[0].Manager
		l.found(CABundleOverwritten, Likely, x, "caBundle was written by %s", list(managers(writers)))
	case len(writers) == 1 && deploys(writers[0].Manager):
		x.Manager = writers[0].Manager
		l.found(CABundleOverwritten, Likely, x, "caBundle was last written by %s, at %s", x.Manager, when(writers[0]))
	case len(writers) == 1 && wanted != "" && !strings.Contains(writers[0].Manager, "cainjector"):
		x.Manager = writers[0].Manager
		l.found(CABundleOverwritten, Likely, x, "caBundle was last written by %s, at %s, and annotation %s has it kept by another", x.Manager, when(writers[0]), wanted)
	case len(l.object.Spec.CABundle) == 0 && wanted != "":
		l.found(CABundleOverwritten, Likely, x, "caBundle is empty, and annotation %s has it filled in", wanted)
	case len(l.object.Spec.CABundle) == 0:
		for _, m := range l.object.ManagedFields {
			if deploys(m.Manager) {
				x.Manager = m.Manager
				l.found(CABundleOverwritten, Possible, x, "caBundle is empty, and %s writes this APIService", x.Manager)
				return
			}
		}
	}
}

// trusts says whether authorities have signed a chain, its time left out: that is another fault.
func (l *look) trusts(roots, chain []*x509.Certificate) bool {
	at := l.now()
	if at.IsZero() || invalidAt(chain[0], at) != "" {
		at = chain[0].NotBefore.Add(time.Second)
	}
	err := l.verify(roots, chain, at)
	invalid := x509.CertificateInvalidError{}
	return err == nil || errors.As(err, &invalid) && invalid.Reason == x509.Expired
}

// verify is as the API server verifies, at a time that must not be zero. It passes without roots.
func (l *look) verify(roots, chain []*x509.Certificate, at time.Time) error {
	if len(roots) == 0 || at.IsZero() {
		return nil
	}
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, c := range roots {
		options.Roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		if c != nil {
			options.Intermediates.AddCert(c)
		}
	}
	_, err := chain[0].Verify(options)
	return err
}

func withKey(name string, id []byte) string {
	if len(id) == 0 {
		return name
	}
	return name + " (key " + hex.EncodeToString(id[:min(len(id), 4)]) + ")"
}

func authorities(roots []*x509.Certificate) string {
	var all []string
	for _, c := range roots {
		all = append(all, withKey(c.Subject.String(), c.SubjectKeyId))
	}
	return list(all)
}
