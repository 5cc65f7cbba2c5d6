package launch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/annex-api/annex/internal/etcd"
	"github.com/annex-api/annex/kubeapiserver/certs"
)

func TestTakenPortNamesItsHolder(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	_, err = Listen(t.Context(), "", net.IPv4(127, 0, 0, 1), port)
	wantSentence(t, err, fmt.Sprintf("127.0.0.1:%d", port), "in use", "choose another port")
	if _, statErr := os.Stat("/proc/net/tcp"); statErr == nil {
		wantSentence(t, err, fmt.Sprintf("process %d", os.Getpid()))
	}
}

func TestAddressOfNobody(t *testing.T) {
	_, err := Listen(t.Context(), "", net.ParseIP("192.0.2.254"), 0)
	wantSentence(t, err, "192.0.2.254", "no interface", "choose another address")
}

func TestPairs(t *testing.T) {
	dir := t.TempDir()
	store, err := certs.Open(certs.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	f := store.Files()
	garbage := filepath.Join(dir, "garbage")
	if err := os.WriteFile(garbage, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if err := checkPair("tls-cert-file", f.Server.Cert, "tls-private-key-file", f.Server.Key, now); err != nil {
		t.Errorf("a good pair: %v", err)
	}
	for name, c := range map[string]struct {
		cert, key string
		now       time.Time
		want      string
	}{
		"garbage certificate": {garbage, f.Server.Key, now, garbage + " of --tls-cert-file does not parse"},
		"garbage key":         {f.Server.Cert, garbage, now, garbage + " of --tls-private-key-file does not belong"},
		"another's key":       {f.Server.Cert, f.Admin.Key, now, "does not belong to certificate"},
		"missing certificate": {filepath.Join(dir, "none"), f.Server.Key, now, "cannot be read (no such file or directory)"},
		"early clock":         {f.Server.Cert, f.Server.Key, time.Unix(0, 0), "set the clock right"},
	} {
		t.Run(name, func(t *testing.T) {
			wantSentence(t, checkPair("tls-cert-file", c.cert, "tls-private-key-file", c.key, c.now), c.want)
		})
	}
}

func TestReachEtcd(t *testing.T) {
	member, err := etcd.Start(t.Context(), etcd.Options{Dir: filepath.Join(t.TempDir(), "etcd")})
	if err != nil {
		t.Fatal(err)
	}
	defer member.Stop()
	closed := closedAddress(t)
	// One endpoint that answers is enough.
	if err := reachEtcd(t.Context(), []string{"http://" + closed, member.Endpoint()}, "", "", "", time.Minute); err != nil {
		t.Error(err)
	}
}

func TestUnreachableEtcdIsNamedWithItsReason(t *testing.T) {
	closed := closedAddress(t)
	err := reachEtcd(t.Context(), []string{"http://" + closed}, "", "", "", 3*time.Second)
	wantSentence(t, err, "http://"+closed, "connection refused", "--etcd-servers")

	// Something else listens there, whose certificate nobody vouches for.
	other := httptest.NewTLSServer(http.NotFoundHandler())
	defer other.Close()
	err = reachEtcd(t.Context(), []string{other.URL}, "", "", caFile(t), 3*time.Second)
	wantSentence(t, err, other.URL, "certificate")

	// It accepts and says nothing.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	err = reachEtcd(t.Context(), []string{"http://" + silent.Addr().String()}, "", "", "", 3*time.Second)
	wantSentence(t, err, silent.Addr().String(), "did not answer within 3s")
}

func TestReachEtcdEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := reachEtcd(ctx, []string{"http://" + closedAddress(t)}, "", "", "", time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

func TestDialTarget(t *testing.T) {
	for endpoint, want := range map[string]string{
		"http://127.0.0.1:2379":   "tcp 127.0.0.1:2379 false",
		"https://[::1]:2379/":     "tcp [::1]:2379 true",
		"unix:///run/etcd.sock":   "unix /run/etcd.sock false",
		"unixs:///run/etcd.sock":  "unix /run/etcd.sock true",
		"unix:relative/etcd.sock": "unix relative/etcd.sock false",
		"etcd.example:2379":       "tcp etcd.example:2379 false",
	} {
		network, address, secure := dialTarget(endpoint)
		if got := fmt.Sprintf("%s %s %v", network, address, secure); got != want {
			t.Errorf("%s: %s, want %s", endpoint, got, want)
		}
	}
}

// closedAddress is that of a client: nobody listens there, nor can.
func closedAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client.LocalAddr().String()
}

func caFile(t *testing.T) string {
	store, err := certs.Open(certs.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return store.Files().CA.Cert
}

func wantSentence(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not say %q", err, p)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error has several lines: %q", err)
	}
}
