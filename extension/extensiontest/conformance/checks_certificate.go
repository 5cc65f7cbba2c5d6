package conformance

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func certificateChecks() []Check {
	const source = "https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/#register-apiservice-objects"
	return []Check{
		{
			ID:      "tls/registration",
			Promise: "The APIService has a caBundle, and does not skip the verification of the server.",
			Source:  source,
			Faults:  []int{16},
			Needs:   []Need{APIService},
			Run: func(ctx context.Context, t *T) {
				spec, _, _ := unstructured.NestedMap(t.subject.apiService.Object, "spec") // empty where it is none
				if spec["insecureSkipTLSVerify"] == true {
					t.failf(nil, "APIService %s has insecureSkipTLSVerify: anybody between may be the server", t.subject.apiService.GetName())
				} else if spec["caBundle"] == nil {
					t.failf(nil, "APIService %s has no caBundle", t.subject.apiService.GetName())
				}
			},
		},
		{
			ID:      "tls/sans",
			Promise: "The server's certificate names the Service as a SAN, is signed by the caBundle, and is good for another day.",
			Source:  source,
			Faults:  []int{16},
			Needs:   []Need{APIService, Direct},
			Run:     checkCertificate,
		},
		{
			ID:      "tls/bundle-restored",
			Promise: "A caBundle that another tool strips is back within a minute, and the APIService is available again.",
			Source:  source,
			Faults:  []int{16},
			Needs:   []Need{APIService, IntrusiveAllowed},
			Within:  100 * time.Second,
			Run:     checkBundleRestored,
		},
	}
}

// serviceHost is the name that the certificate must have.
func (s *subject) serviceHost() string {
	namespace, _, _ := unstructured.NestedString(s.apiService.Object, "spec", "service", "namespace") // checked by unmet
	name, _, _ := unstructured.NestedString(s.apiService.Object, "spec", "service", "name")
	return name + "." + namespace + ".svc"
}

func checkCertificate(ctx context.Context, t *T) {
	text, _, _ := unstructured.NestedString(t.subject.apiService.Object, "spec", "caBundle") // "" has no certificate
	bundle, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.fatalf(nil, "the caBundle is no base64: %v", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(bundle) {
		t.fatalf(nil, "the caBundle of APIService %s has no certificate", t.subject.apiService.GetName())
	}
	host := t.subject.serviceHost()
	address := t.direct.base.Host
	if t.direct.base.Port() == "" {
		address = net.JoinHostPort(address, "443")
	}
	// The certificate is verified below, so that each thing that is wrong is told apart.
	dialer := &tls.Dialer{Config: &tls.Config{ServerName: host, InsecureSkipVerify: true}}
	bounded, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	conn, err := dialer.DialContext(bounded, "tcp", address)
	if err != nil {
		t.fatalf(nil, "dial %s: %v", address, err)
	}
	defer conn.Close()
	chain := conn.(*tls.Conn).ConnectionState().PeerCertificates
	leaf := chain[0]
	if len(leaf.DNSNames) == 0 && len(leaf.IPAddresses) == 0 {
		t.failf(nil, "the certificate of %s has the common name %q and no SAN at all: clients look at SANs alone", address, leaf.Subject.CommonName)
	} else if err := leaf.VerifyHostname(host); err != nil {
		t.failf(nil, "the certificate of %s does not name %s: %v", address, host, err)
	}
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, Intermediates: intermediates}); err != nil {
		t.failf(nil, "the caBundle does not verify the certificate of %s: %v", address, err)
	}
	if left := time.Until(leaf.NotAfter); left < 24*time.Hour {
		t.failf(nil, "the certificate of %s is good for another %v only", address, left.Round(time.Minute))
	}
}

func checkBundleRestored(ctx context.Context, t *T) {
	path := t.subject.apiServicePath()
	before := t.parsed(t.want(t.do(ctx, request{method: http.MethodGet, path: path}), http.StatusOK))
	bundle, ok, _ := unstructured.NestedString(before.Object, "spec", "caBundle")
	if !ok {
		t.notApplicable("the APIService has no caBundle to strip")
	}
	set := func(value any) request {
		r := request{method: http.MethodPatch, path: path, body: body(map[string]any{"spec": map[string]any{"caBundle": value}})}
		return r.with("Content-Type", mergePatch)
	}
	t.mu.Lock()
	t.undo = append(t.undo, func(ctx context.Context) error {
		var now map[string]any
		if err := t.admin.getJSON(ctx, path, &now); err == nil {
			if text, ok, _ := unstructured.NestedString(now, "spec", "caBundle"); ok && text != "" {
				return nil
			}
		}
		a, err := try(ctx, t.admin, set(bundle))
		if err == nil && a.Code != http.StatusOK {
			err = fmt.Errorf("answered %s", code(a.Code))
		}
		if err != nil {
			return fmt.Errorf("set the caBundle of %s back: %w", before.GetName(), err)
		}
		return nil
	})
	t.mu.Unlock()
	a := t.do(ctx, set(nil))
	if a.Code == http.StatusForbidden {
		t.notApplicable("the user may not change APIServices")
	}
	t.want(a, http.StatusOK)
	t.eventually(ctx, t.target.recovery(), func() (*Exchange, string) {
		a := t.do(ctx, request{method: http.MethodGet, path: path})
		o := t.parsed(t.want(a, http.StatusOK))
		if text, _, _ := unstructured.NestedString(o.Object, "spec", "caBundle"); text == "" {
			return a.Exchange, "the caBundle is not back"
		}
		if !available(o) {
			return a.Exchange, "the APIService is not available"
		}
		return nil, ""
	})
}

func available(o *unstructured.Unstructured) bool {
	list, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions") // none where it is no list
	for _, item := range list {
		if c, ok := item.(map[string]any); ok && c["type"] == "Available" {
			return c["status"] == "True"
		}
	}
	return false
}
