package doctor

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/internal/testcerts"
)

// renewed is what an issuer does when the Secret is deleted, or a Pod starts: a new certificate of the
// same authority, which the server shows.
func renewed(ctx context.Context, s *site) error {
	if err := s.rolledOut(ctx); err != nil {
		return err
	}
	s.server.show(s.issue(testcerts.Subject{}))
	return nil
}

func tlsFaults() []fault {
	other := func(s *site) { // an authority that has not signed anything
		s.apiService.Spec.CABundle = testcerts.New("an-older-ca").PEM
	}
	return []fault{
		{
			name: "other-authority", code: diagnosis.CABundleMismatch, short: true,
			how: "caBundle is that of an authority which was replaced", plan: other,
			run: []string{"kubectl patch apiservice"},
		},
		{
			name: "overwritten", code: diagnosis.CABundleOverwritten, also: []diagnosis.Code{diagnosis.CABundleMismatch},
			how:  "a GitOps tool writes the caBundle of its manifest, which is an old one",
			plan: func(s *site) { other(s); s.manager = "argocd-controller" },
			run:  []string{"kubectl patch apiservice"}, by: "the tool leaves the field alone",
		},
		{
			name: "stripped", code: diagnosis.CABundleOverwritten, also: []diagnosis.Code{diagnosis.CABundleMismatch},
			how: "a tool takes away the caBundle that cert-manager is to fill in",
			plan: func(s *site) {
				s.apiService.Spec.CABundle, s.manager = nil, "kapp"
				s.apiService.Annotations = map[string]string{"cert-manager.io/inject-ca-from": s.namespace + "/server"}
			},
			run: []string{"kubectl patch apiservice"}, by: "the tool leaves the field alone",
		},
		{
			name: "expired", code: diagnosis.ServingCertificateExpired,
			how: "the serving certificate expired a minute ago",
			plan: func(s *site) {
				s.certificate = s.issue(testcerts.Subject{NotBefore: time.Now().Add(-50 * time.Minute), NotAfter: time.Now().Add(-time.Minute)})
			},
			run: []string{"delete secret", "rollout restart"}, mend: renewed,
		},
		{
			name: "not-yet-valid", code: diagnosis.ServingCertificateExpired,
			how: "the serving certificate is valid from tomorrow on",
			plan: func(s *site) {
				s.certificate = s.issue(testcerts.Subject{NotBefore: time.Now().Add(20 * time.Hour)})
			},
			run: []string{"rollout restart"}, mend: renewed,
		},
		{
			name: "wrong-names", code: diagnosis.ServingCertificateNames,
			how: "the serving certificate is for the Service's name before it was renamed",
			plan: func(s *site) {
				s.certificate = s.issue(testcerts.Subject{Hosts: []string{"before." + s.namespace + ".svc"}})
			},
			inject: func(ctx context.Context, s *site) error { // the old Service is there still
				before := s.service.DeepCopy()
				before.Name, before.ResourceVersion = "before", ""
				if _, err := s.kube.CoreV1().Services(s.namespace).Create(ctx, before, metav1.CreateOptions{}); err != nil {
					return err
				}
				_, err := s.kube.DiscoveryV1().EndpointSlices(s.namespace).Create(ctx, s.sliceOf("before", "https", s.port), metav1.CreateOptions{})
				return err
			},
			run: []string{"kubectl patch apiservice"},
		},
		{
			name: "common-name-only", needs: "openssl", code: diagnosis.ServingCertificateLacksNames,
			how:  "the serving certificate has the name as its common name only",
			plan: func(s *site) { s.certificate = s.issue(testcerts.Subject{Name: s.host(), Hosts: []string{}}) },
			run:  []string{"openssl req"}, by: "server and caBundle get what openssl made",
			mend: func(ctx context.Context, s *site) error {
				cert, err := os.ReadFile(filepath.Join(s.folder, "tls.crt"))
				key, keyErr := os.ReadFile(filepath.Join(s.folder, "tls.key"))
				if err := errors.Join(err, keyErr); err != nil {
					return err
				}
				s.server.show(testcerts.Pair{Cert: cert, Key: key})
				return s.patchAPIService(ctx, object{"spec": object{"caBundle": cert}})
			},
		},
		{
			name: "expires-soon", code: diagnosis.ServingCertificateExpiring, available: true,
			how: "a tenth of the serving certificate's life is left",
			plan: func(s *site) {
				s.certificate = s.issue(testcerts.Subject{NotBefore: time.Now().Add(-55 * time.Minute), NotAfter: time.Now().Add(6 * time.Minute)})
			},
			run: []string{"rollout restart"}, mend: renewed,
		},
		{
			name: "expired-authority", needs: "openssl", code: diagnosis.CABundleExpired,
			how: "the authority in caBundle expired, and the certificate that it signed did not",
			plan: func(s *site) {
				old := expiredAuthority()
				s.certificate = old.Issue(testcerts.Subject{Name: "server", Hosts: []string{s.host()}})
				s.apiService.Spec.CABundle = old.PEM
			},
			run: []string{"openssl x509", "kubectl patch apiservice"}, by: "the server shows the certificate of the new authority",
			mend: func(_ context.Context, s *site) error { s.server.show(s.issue(testcerts.Subject{})); return nil },
		},
		{
			name: "no-pem", code: diagnosis.InvalidCABundle, unjudged: true,
			how:  "caBundle is no PEM",
			plan: func(s *site) { s.apiService.Spec.CABundle = []byte("TFMwdExTMUNSVWRKVGlCRFJWSlVTVVpKUTBGVVJTMHRMUzB0") },
			run:  []string{"kubectl patch apiservice"},
		},
		{
			name: "plain-http", code: diagnosis.NotTLS,
			how:  "the server speaks plain HTTP at that port",
			plan: func(s *site) { s.manner.plain = true },
			run:  []string{"get service", "get pod"}, by: "the server is started with its certificate",
			mend: func(_ context.Context, s *site) error {
				s.server.change(func(m *manner) { m.plain = false })
				return nil
			},
		},
		{
			name: "not-verified", code: diagnosis.TLSNotVerified, available: true,
			how:  "the APIService has insecureSkipTLSVerify",
			plan: func(s *site) { s.apiService.Spec.InsecureSkipTLSVerify, s.apiService.Spec.CABundle = true, nil },
			run:  []string{"kubectl explain"}, by: "caBundle is set in its place",
			mend: func(ctx context.Context, s *site) error {
				return s.patchAPIService(ctx, object{"spec": object{"insecureSkipTLSVerify": nil, "caBundle": s.authority}})
			},
		},
	}
}

// expiredAuthority is one whose own certificate expired a minute ago.
func expiredAuthority() *testcerts.Authority {
	key := testcerts.NewKey()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an-expired-ca"},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Minute),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err) // the end of the machine's random numbers
	}
	a, err := testcerts.Load(testcerts.Pair{Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), Key: testcerts.KeyPEM(key)})
	if err != nil {
		panic(err)
	}
	return a
}

// TestWrongClock has an API server's answers carry a clock that is a day ahead.
func TestWrongClock(t *testing.T) {
	for name, c := range running(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := c.build(t, "clock", nil)
			if err := s.register(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := s.settled(t.Context(), fault{available: true}); err != nil {
				t.Fatal(err)
			}
			target, err := url.Parse(c.URL)
			if err != nil {
				t.Fatal(err)
			}
			transport, err := rest.TransportFor(c.operator)
			if err != nil {
				t.Fatal(err)
			}
			for _, ahead := range []time.Duration{24 * time.Hour, 0} {
				proxy := httptest.NewServer(&httputil.ReverseProxy{
					Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
					ModifyResponse: func(r *http.Response) error {
						r.Header.Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
						return nil
					},
				})
				file := filepath.Join(t.TempDir(), "kubeconfig")
				if err := writeKubeconfig(file, &rest.Config{Host: proxy.URL}); err != nil {
					t.Fatal(err)
				}
				reports, err := doctor(t.Context(), file, s.name())
				proxy.Close()
				if err != nil {
					t.Fatal(err)
				}
				if r := reports[s.name()]; r.Has(diagnosis.ClockSkew) != (ahead != 0) || ahead == 0 && r.Worst() != "" {
					t.Errorf("%v ahead: %s", ahead, summary(r))
				}
			}
		})
	}
}
