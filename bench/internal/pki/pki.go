// Package pki writes the certificates of one benchmark run.
package pki

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/annex-api/annex/internal/testcerts"
)

const week = 7 * 24 * time.Hour

// Files are the paths of what Write made. A field X has its key in XKey.
type Files struct {
	CA                      string
	Server, ServerKey       string // kube-apiserver on loopback
	Admin, AdminKey         string // group system:masters
	Extension, ExtensionKey string // the extension server
	ProxyCA                 string
	Proxy, ProxyKey         string // the aggregation layer towards extension servers
	ServiceAccountKey       string
}

// Write makes two authorities and what they sign in dir, which must exist.
// extensionNames are the extension server's names.
func Write(dir string, extensionNames ...string) (Files, error) {
	f := Files{
		CA: filepath.Join(dir, "ca.crt"), ProxyCA: filepath.Join(dir, "proxy-ca.crt"),
		ServiceAccountKey: filepath.Join(dir, "service-account.key"),
	}
	ca, proxyCA := testcerts.New("bench-ca"), testcerts.New("bench-proxy-ca")
	for file, content := range map[string][]byte{
		f.CA: ca.PEM, f.ProxyCA: proxyCA.PEM, f.ServiceAccountKey: testcerts.KeyPEM(testcerts.NewKey()),
	} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			return f, fmt.Errorf("writing %s: %w", file, err)
		}
	}
	loopback := []string{"127.0.0.1", "::1"}
	servers, clients := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	serverNames := append(slices.Clone(loopback), "localhost", "kubernetes.default.svc")
	for _, leaf := range []struct {
		by        *testcerts.Authority
		name      string
		subject   testcerts.Subject
		cert, key *string
	}{
		{ca, "server", testcerts.Subject{Name: "kube-apiserver", Hosts: serverNames, Usage: servers}, &f.Server, &f.ServerKey},
		{ca, "admin", testcerts.Subject{Name: "bench-admin", Groups: []string{"system:masters"}, Usage: clients}, &f.Admin, &f.AdminKey},
		// Conformance asks for more than a day.
		{ca, "extension", testcerts.Subject{Name: "extension", Hosts: append(loopback, extensionNames...), Usage: servers, NotAfter: time.Now().Add(week)}, &f.Extension, &f.ExtensionKey},
		{proxyCA, "proxy", testcerts.Subject{Name: "front-proxy-client", Usage: clients}, &f.Proxy, &f.ProxyKey},
	} {
		var err error
		if *leaf.cert, *leaf.key, err = leaf.by.Issue(leaf.subject).Write(dir, leaf.name); err != nil {
			return f, err
		}
	}
	return f, nil
}
