package serving

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/test/bufconn"
	"k8s.io/apimachinery/pkg/types"
)

const day = 24 * time.Hour

// lives are short, so that a test sees several CAs.
func lives(o Options) Options {
	o.Name, o.Service = "widgets", types.NamespacedName{Namespace: "team", Name: "widgets"}
	o.Life, o.CALife, o.Overlap = 9*time.Hour+30*time.Minute, 3*day, time.Hour
	return o
}

func open(t *testing.T, o Options) *Certificate {
	t.Helper()
	c, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// run keeps c current until the end of the test, or until the returned function.
func run(t *testing.T, c *Certificate) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run gave %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// handshake connects to a server that shows c, as a client that trusts bundle. It gives
// the certificate that was shown.
func handshake(c *Certificate, bundle []byte, host string) (*x509.Certificate, error) {
	// A net.Pipe would hold a client that tells of an error and a server that goes on.
	listener := bufconn.Listen(64 << 10)
	defer listener.Close()
	served := make(chan error, 1)
	go func() {
		server, err := listener.Accept()
		if err != nil {
			served <- err
			return
		}
		defer server.Close()
		conn := tls.Server(server, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, err := tls.X509KeyPair(c.CurrentCertKeyContent())
			return &pair, err
		}})
		_, err = io.WriteString(conn, "hello")
		served <- err
	}()
	client, err := listener.Dial()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	conn := tls.Client(client, &tls.Config{RootCAs: roots, ServerName: host})
	err = conn.Handshake()
	var shown *x509.Certificate
	if err == nil {
		shown = conn.ConnectionState().PeerCertificates[0]
		_, err = io.ReadFull(conn, make([]byte, len("hello")))
	}
	client.Close()
	return shown, errors.Join(err, ignoreIf(err, <-served))
}

// ignoreIf drops the server's side of an error that the client has told.
func ignoreIf(told, err error) error {
	if told != nil {
		return nil
	}
	return err
}

func cas(bundle []byte) int { return bytes.Count(bundle, []byte("BEGIN CERTIFICATE")) }

// TestNoHandshakeFailsWhileCertificatesRotate: over three CAs, every client that has
// the bundle of now, or of an overlap ago, trusts what is shown.
func TestNoHandshakeFailsWhileCertificatesRotate(t *testing.T) {
	for _, kept := range []string{"memory", "folder"} {
		t.Run(kept, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "serving")
			synctest.Test(t, func(t *testing.T) {
				o := lives(Options{})
				if kept == "folder" {
					o.Folder = dir
				}
				c := open(t, o)
				stop := run(t, c)
				first, _ := c.Bundle()
				certificates, most := map[string]bool{}, 0
				var bundles [][]byte // by twenty minutes
				for range 9 * 24 * 3 {
					bundle, _ := c.Bundle()
					most = max(most, cas(bundle))
					bundles = append(bundles, bundle)
					for _, trusted := range [][]byte{bundle, bundles[max(0, len(bundles)-1-2)]} {
						shown, err := handshake(c, trusted, "widgets.team.svc")
						if err != nil {
							t.Fatalf("after %d times 20 minutes: %v", len(bundles), err)
						}
						certificates[shown.SerialNumber.String()] = true
						if left := time.Until(shown.NotAfter); left < o.Life/4 {
							t.Fatalf("after %d times 20 minutes a certificate is shown that is valid for %v", len(bundles), left)
						}
					}
					time.Sleep(20 * time.Minute)
				}
				last, _ := c.Bundle()
				if _, err := handshake(c, first, "widgets.team.svc"); err == nil {
					t.Error("the first CA is still in use after nine days, three times its life")
				}
				if len(certificates) < 9*24/10 || most != 2 || cas(last) != 1 {
					t.Errorf("%d certificates, at most %d CAs at once, %d at the end", len(certificates), most, cas(last))
				}
				stop()
			})
		})
	}
}

type listener struct{ told atomic.Int32 }

func (l *listener) Enqueue() { l.told.Add(1) }

func TestListenersAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, lives(Options{}))
		var l listener
		c.AddListener(&l)
		stop := run(t, c)
		_, changed := c.Bundle()
		before, _ := c.CurrentCertKeyContent()
		time.Sleep(6*time.Hour + 21*time.Minute)
		if after, _ := c.CurrentCertKeyContent(); bytes.Equal(before, after) || l.told.Load() != 1 {
			t.Errorf("after two thirds of its life the certificate was renewed: %v; the listener was told %d times", !bytes.Equal(before, after), l.told.Load())
		}
		select {
		case <-changed:
			t.Error("the bundle changed with the certificate")
		default:
		}
		time.Sleep(2*day - 6*time.Hour)
		select {
		case <-changed:
		default:
			t.Error("nobody was told of the new CA")
		}
		stop()
	})
}

func TestCertificateHasItsNames(t *testing.T) {
	o := lives(Options{Hosts: []string{"widgets.example.com", "10.1.2.3", "fd00::0:1"}})
	c := open(t, o)
	bundle, _ := c.Bundle()
	for host, want := range map[string]bool{
		"widgets.team.svc": true, "widgets.team.svc.cluster.local": true, "localhost": true, "127.0.0.1": true, "::1": true,
		"widgets.example.com": true, "10.1.2.3": true, "fd00::1": true, "other.team.svc": false, "widgets": false,
	} {
		if _, err := handshake(c, bundle, host); (err == nil) != want {
			t.Errorf("as %s: %v, want trust %v", host, err, want)
		}
	}
	cert, _ := c.CurrentCertKeyContent()
	leaf, err := parseCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	if leaf.IsCA || len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		t.Errorf("the certificate is for more than serving: CA %v, usage %v", leaf.IsCA, leaf.ExtKeyUsage)
	}
}

func TestFilesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(at(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		made := func() pair {
			p, err := newCA("ca", time.Now(), day)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		one, two := made(), made()
		write("tls.crt", one.cert)
		write("tls.key", one.key)
		write("ca.crt", one.cert)
		c := open(t, Options{Name: "widgets", CertFile: at("tls.crt"), KeyFile: at("tls.key"), CAFile: at("ca.crt")})
		bundle, changed := c.Bundle()
		if !bytes.Equal(bundle, one.cert) {
			t.Errorf("the bundle is %q", bundle)
		}
		stop := run(t, c)
		// Halfway the files do not fit together.
		write("tls.crt", two.cert)
		time.Sleep(filePause + retryPause)
		if cert, _ := c.CurrentCertKeyContent(); !bytes.Equal(cert, one.cert) {
			t.Error("a certificate is shown whose key is not there")
		}
		write("tls.key", two.key)
		write("ca.crt", append(bytes.Clone(one.cert), two.cert...))
		time.Sleep(filePause + retryPause)
		if cert, key := c.CurrentCertKeyContent(); !bytes.Equal(cert, two.cert) || !bytes.Equal(key, two.key) {
			t.Error("the new files are not shown")
		}
		select {
		case <-changed:
		default:
			t.Error("nobody was told of the new CA file")
		}
		if bundle, _ := c.Bundle(); cas(bundle) != 2 {
			t.Errorf("the bundle has %d CAs", cas(bundle))
		}
		stop()
		if c := open(t, Options{CertFile: at("tls.crt"), KeyFile: at("tls.key")}); c != nil {
			if bundle, _ := c.Bundle(); bundle != nil {
				t.Errorf("the bundle of a certificate without a CA file is %q", bundle)
			}
		}
	})
}

func TestWhatIsWrongWithOptionsIsNamed(t *testing.T) {
	loose := filepath.Join(t.TempDir(), "loose")
	if err := os.Mkdir(loose, 0o755); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(t.TempDir(), "foreign")
	if err := os.Mkdir(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(foreign, chainFile), []byte(`{"other":""}`), 0o600); err != nil {
		t.Fatal(err)
	}
	many := make([]string, maxHosts)
	for i := range many {
		many[i] = strings.Repeat("x", i+1)
	}
	for want, o := range map[string]Options{
		"only one of them":         {Folder: "a", CertFile: "b", KeyFile: "c"},
		"go together":              {CertFile: "b"},
		"a CA file goes with":      {CAFile: "b"},
		"a Secret needs":           {Secret: Secret{Name: "x"}},
		"at most a sixth":          {CALife: time.Hour, Overlap: time.Hour},
		"at most 64":               {Hosts: many},
		"no such file":             {CertFile: "/nowhere/tls.crt", KeyFile: "/nowhere/tls.key"},
		"chmod 700":                {Folder: loose},
		"this server has not made": {Folder: foreign},
	} {
		if _, err := New(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}
