package broken

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/extension/extensiontest/conformance"
)

// The kind, its hub version and its other version.
const (
	group    = "broken.example.com"
	hub      = "v1"
	spoke    = "v1beta1"
	kind     = "Gizmo"
	resource = "gizmos"
	service  = "gizmos.default.svc"
)

// The tokens of users: one who may do everything, and one who may see what has the label public=true.
const (
	adminToken  = "admin"
	viewerToken = "viewer"
)

var hubKind = schema.GroupVersionKind{Group: group, Version: hub, Kind: kind}

// Server is one API server.
type Server struct {
	fault  Fault
	server *httptest.Server
	bundle []byte // the authority of its certificate, in PEM
	fields *managedfields.FieldManager

	mu         sync.Mutex
	objects    map[string]*unstructured.Unstructured // by namespace and name; never changed, but replaced
	changes    []change
	changed    chan struct{} // closed, and made anew, with each change
	namespaces map[string]*unstructured.Unstructured
	policies   map[string]map[string]any // by path
	made       []string                  // names of namespaces and policies, for tests
	down       bool
	stripped   bool // the caBundle of the APIService
	stops      int  // watches that ended
}

// oldest is the first resourceVersion: what is before is not known.
const oldest = 1000

// change is one event. Objects of changes are never changed.
type change struct {
	version  uint64
	key      string
	old, new *unstructured.Unstructured
}

// Start runs a server until the test ends.
func Start(t testing.TB, fault Fault) *Server {
	t.Helper()
	s := &Server{
		fault: fault, objects: map[string]*unstructured.Unstructured{}, changed: make(chan struct{}),
		namespaces: map[string]*unstructured.Unstructured{}, policies: map[string]map[string]any{},
	}
	var err error
	if s.fields, err = newFields(); err != nil {
		t.Fatal(err)
	}
	certificate, err := s.certificate()
	if err != nil {
		t.Fatal(err)
	}
	s.server = httptest.NewUnstartedServer(s)
	s.server.EnableHTTP2 = true
	s.server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	s.server.Config.ErrorLog = log.New(&bytes.Buffer{}, "", 0) // clients that look at the certificate alone hang up
	s.server.StartTLS()
	t.Cleanup(s.server.Close)
	return s
}

// Target is the server for the kit, with all that it may ask for.
func (s *Server) Target() conformance.Target {
	config := func(token string) *rest.Config {
		return &rest.Config{Host: s.server.URL, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
	}
	power := func(down bool) func(context.Context) error {
		return func(context.Context) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.down = down
			return nil
		}
	}
	return conformance.Target{
		Config: config(adminToken), Second: config(viewerToken), Direct: config(""),
		Resource:  schema.GroupVersionResource{Group: group, Version: hub, Resource: resource},
		Stream:    conformance.Stream{Path: "log?follow=true", Open: 2 * time.Second},
		Storage:   conformance.Storage{Stop: power(true), Start: power(false)},
		Intrusive: true,
	}
}

// certificate makes an authority, and the serving certificate.
func (s *Server) certificate() (tls.Certificate, error) {
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "broken-ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(72 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: service}, DNSNames: []string{service},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	switch s.fault {
	case CommonNameOnly:
		leaf.DNSNames, leaf.IPAddresses = nil, nil
	case CertificateSoonOver:
		leaf.NotAfter = time.Now().Add(time.Hour)
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	root, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("sign the authority: %w", err)
	}
	s.bundle = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root})
	der, err := x509.CreateCertificate(rand.Reader, leaf, authority, key.Public(), authorityKey)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("sign the certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// ServeHTTP finds who asks, and for what.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 3<<20)
	user := ""
	switch r.Header.Get("Authorization") {
	case "Bearer " + adminToken:
		user = adminToken
	case "Bearer " + viewerToken:
		user = viewerToken
	}
	if s.fault == NoAuthentication && user == "" {
		user = adminToken
	}
	s.route(w, r, user)
}

// Made are the names of namespaces and policies that clients have made so far.
func (s *Server) Made() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.made)
}

// Left are the namespaces, policies and objects that are there.
func (s *Server) Left() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Concat(slices.Sorted(maps.Keys(s.namespaces)), slices.Sorted(maps.Keys(s.policies)), slices.Sorted(maps.Keys(s.objects)))
}
