package certs_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/annex-api/annex/kubeapiserver/certs"
)

func TestFilesArePrivateAndKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	open(t, dir, nil)
	before := contents(t, dir)
	open(t, dir, nil)
	if after := contents(t, dir); !equal(before, after) {
		t.Error("a second Open changed the files")
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v %v, want 0700", info.Mode(), err)
	}
}

func TestServerCertificate(t *testing.T) {
	f := open(t, t.TempDir(), nil, "annex.example", "192.0.2.7", "0.0.0.0").Files()
	c := cert(t, f.Server.Cert)
	roots := pool(t, f.CA.Cert)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		"localhost", "127.0.0.1", "::1", "10.96.0.1", "annex.example", "192.0.2.7", host,
	} {
		if _, err := c.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if slices.ContainsFunc(c.IPAddresses, net.IP.IsUnspecified) {
		t.Error("the certificate names the unspecified address")
	}
}

func TestClientCertificates(t *testing.T) {
	f := open(t, t.TempDir(), nil).Files()
	for _, c := range []struct {
		pair certs.Pair
		ca   string
		cn   string
		org  string
	}{
		{f.Admin, f.CA.Cert, "annex-admin", "system:masters"},
		{f.FrontProxyClient, f.FrontProxyCA.Cert, "front-proxy-client", ""},
	} {
		leaf := cert(t, c.pair.Cert)
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool(t, c.ca), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
			t.Errorf("%s: %v", c.cn, err)
		}
		if leaf.Subject.CommonName != c.cn || strings.Join(leaf.Subject.Organization, ",") != c.org {
			t.Errorf("subject %v, want %s %s", leaf.Subject, c.cn, c.org)
		}
		if _, err := tls.LoadX509KeyPair(c.pair.Cert, c.pair.Key); err != nil {
			t.Error(err)
		}
	}
	// The front proxy's CA must not vouch for users, nor the other for the front proxy.
	if _, err := cert(t, f.FrontProxyClient.Cert).Verify(x509.VerifyOptions{Roots: pool(t, f.CA.Cert), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
		t.Error("the front proxy's certificate verifies against the clients' CA")
	}
}

func TestRenewalAtTwoThirdsKeepsKeys(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := open(t, dir, func() time.Time { return now })
	first := contents(t, dir)

	now = now.Add(certs.LeafLife * 2 / 3).Add(-time.Hour)
	if written, err := s.Renew(); err != nil || len(written) != 0 {
		t.Fatalf("before two thirds: %v %v", written, err)
	}
	now = now.Add(time.Hour)
	written, err := s.Renew()
	if err != nil || len(written) != 3 {
		t.Fatalf("at two thirds: %v %v; want the three leaves", written, err)
	}
	second := contents(t, dir)
	for name, old := range first {
		leaf := slices.Contains(written, filepath.Join(dir, name))
		if changed := second[name] != old; changed != leaf {
			t.Errorf("%s changed: %v, want %v", name, changed, leaf)
		}
	}

	// What the old CA signed stays valid under the renewed one.
	oldLeaf := cert(t, s.Files().Server.Cert)
	now = now.Add(certs.CALife * 2 / 3)
	if written, err = s.Renew(); err != nil || len(written) != 5 {
		t.Fatalf("at two thirds of the CA's life: %v %v; want all five", written, err)
	}
	if err := oldLeaf.CheckSignatureFrom(cert(t, s.Files().CA.Cert)); err != nil {
		t.Errorf("the renewed CA disowns an old certificate: %v", err)
	}
}

func TestRunRenewsWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir(), nil)
		ctx, cancel := context.WithCancel(t.Context())
		reports := make(chan int, 100)
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Run(ctx, func(written []string, err error) {
				if err != nil {
					t.Error(err)
				}
				reports <- len(written)
			})
		}()
		begin := time.Now()
		if n := <-reports; n != 3 {
			t.Errorf("%d certificates renewed, want 3", n)
		}
		if d := time.Since(begin); d < certs.LeafLife*2/3-time.Hour || d > certs.LeafLife*2/3+time.Hour {
			t.Errorf("renewed after %v", d)
		}
		cancel()
		<-done
	})
}

func TestNewHostIsAdded(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, nil)
	f := open(t, dir, nil, "192.0.2.9").Files()
	if err := cert(t, f.Server.Cert).VerifyHostname("192.0.2.9"); err != nil {
		t.Error(err)
	}
}

func TestServingCertificateOfAnother(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	p, err := s.Serving("demo", "bulletin.demo.svc")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cert(t, p.Cert).Verify(x509.VerifyOptions{DNSName: "bulletin.demo.svc", Roots: pool(t, s.Files().CA.Cert)}); err != nil {
		t.Error(err)
	}
}

func TestClockBeforeStart(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, nil)
	before := contents(t, dir)
	_, err := certs.Open(certs.Options{Dir: dir, Now: func() time.Time { return time.Unix(0, 0) }})
	var clock *certs.ClockError
	if !errors.As(err, &clock) || clock.File != filepath.Join(dir, "ca.crt") || !strings.Contains(err.Error(), "set the clock right") {
		t.Errorf("error %v", err)
	}
	if !equal(before, contents(t, dir)) {
		t.Error("the files were changed")
	}
}

func TestKilledFirstStartIsFinished(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, nil).Files()
	key := contents(t, dir)["apiserver.key"]
	if err := os.Remove(f.Server.Cert); err != nil {
		t.Fatal(err)
	}
	open(t, dir, nil)
	if contents(t, dir)["apiserver.key"] != key {
		t.Error("the key was replaced")
	}
	if _, err := tls.LoadX509KeyPair(f.Server.Cert, f.Server.Key); err != nil {
		t.Error(err)
	}
}

func TestBrokenFiles(t *testing.T) {
	garbage := []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	for name, damage := range map[string]struct {
		do   func(dir string) error
		want []string
	}{
		"garbage certificate": {func(d string) error { return os.WriteFile(filepath.Join(d, "apiserver.crt"), garbage, 0o600) }, []string{"apiserver.crt does not parse"}},
		"empty certificate":   {func(d string) error { return os.Truncate(filepath.Join(d, "ca.crt"), 0) }, []string{"ca.crt does not parse"}},
		"garbage key":         {func(d string) error { return os.WriteFile(filepath.Join(d, "sa.key"), []byte("x"), 0o600) }, []string{"sa.key does not parse"}},
		"missing key":         {func(d string) error { return os.Remove(filepath.Join(d, "ca.key")) }, []string{"ca.key is missing"}},
		"another's key": {func(d string) error {
			return os.Rename(filepath.Join(d, "admin.key"), filepath.Join(d, "apiserver.key"))
		}, []string{"apiserver.key does not belong to certificate"}},
		"another CA": {func(d string) error {
			return errors.Join(os.Remove(filepath.Join(d, "ca.crt")), os.Remove(filepath.Join(d, "ca.key")))
		}, []string{"apiserver.crt was not signed by"}},
		"a directory": {func(d string) error {
			return errors.Join(os.Remove(filepath.Join(d, "ca.crt")), os.Mkdir(filepath.Join(d, "ca.crt"), 0o700))
		}, []string{"ca.crt cannot be read"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			open(t, dir, nil)
			if err := damage.do(dir); err != nil {
				t.Fatal(err)
			}
			_, err := certs.Open(certs.Options{Dir: dir})
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range damage.want {
				if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

func TestWriteFileIsPrivateAndLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, data := range []string{"one", "two"} {
		if err := certs.WriteFile(path, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if got := contents(t, dir); len(got) != 1 || got["f"] != "two" {
		t.Errorf("directory holds %v", got)
	}
	if err := certs.WriteFile(filepath.Join(dir, "f", "below"), nil); err == nil || !strings.Contains(err.Error(), "cannot be written") {
		t.Errorf("error %v", err)
	}
}

func open(t *testing.T, dir string, now func() time.Time, hosts ...string) *certs.Store {
	t.Helper()
	s, err := certs.Open(certs.Options{Dir: dir, Hosts: hosts, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func cert(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func pool(t *testing.T, path string) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(cert(t, path))
	return p
}

// contents reads a directory, and checks that no file is open to others.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", path, info.Mode())
		}
		b, err := os.ReadFile(path)
		out[d.Name()] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func equal(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k := range a {
		if a[k] != b[k] {
			return false
		}
	}
	return true
}
