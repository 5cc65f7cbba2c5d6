package pki

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"
)

func TestWrittenCertificatesVerify(t *testing.T) {
	f, err := Write(t.TempDir(), "*.bench.svc")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, cert, key, ca, host string
		usage                     x509.ExtKeyUsage
	}{
		{"server", f.Server, f.ServerKey, f.CA, "127.0.0.1", x509.ExtKeyUsageServerAuth},
		{"extension", f.Extension, f.ExtensionKey, f.CA, "s001.bench.svc", x509.ExtKeyUsageServerAuth},
		{"admin", f.Admin, f.AdminKey, f.CA, "", x509.ExtKeyUsageClientAuth},
		{"proxy", f.Proxy, f.ProxyKey, f.ProxyCA, "", x509.ExtKeyUsageClientAuth},
	} {
		pair, err := tls.LoadX509KeyPair(c.cert, c.key)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		options := x509.VerifyOptions{Roots: pool(t, c.ca), DNSName: c.host, KeyUsages: []x509.ExtKeyUsage{c.usage}}
		if _, err := pair.Leaf.Verify(options); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if info, err := os.Stat(c.key); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: key has mode %v, %v", c.name, info.Mode(), err)
		}
	}
}

func TestTheTwoAuthoritiesDoNotVouchForEachOther(t *testing.T) {
	f, err := Write(t.TempDir(), "*.bench.svc")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(f.Proxy, f.ProxyKey)
	if err != nil {
		t.Fatal(err)
	}
	options := x509.VerifyOptions{Roots: pool(t, f.CA), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if _, err := pair.Leaf.Verify(options); err == nil {
		t.Error("the proxy's certificate passes as a client's")
	}
}

func pool(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(pem) {
		t.Fatalf("no certificate in %s", file)
	}
	return p
}
