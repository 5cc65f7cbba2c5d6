package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/internal/testcerts"
	"github.com/annex-api/annex/kubeapiserver/version"
)

// startEtcd runs etcd with TLS on both sides, and returns its URL.
func startEtcd(t *testing.T, dir, caFile, certFile, keyFile string) string {
	t.Helper()
	client := "https://127.0.0.1:" + port(t)
	start(t, "etcd", "--data-dir="+filepath.Join(dir, "etcd"), "--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls=http://127.0.0.1:0", "--log-level=warn", "--client-cert-auth", "--trusted-ca-file="+caFile, "--cert-file="+certFile, "--key-file="+keyFile)
	return client
}

// startReplacement runs the binary under the name kube-apiserver, with the flags of a static Pod.
func startReplacement(t *testing.T, more ...string) *cluster {
	t.Helper()
	dir := shortTemp(t)
	ca, flags := serveFlags(t, dir)
	caFile := filepath.Join(dir, "ca.crt")
	etcdCert, etcdKey := writePair(t, ca, dir, testcerts.Subject{Name: "etcd", Hosts: []string{"127.0.0.1"}})
	clientCert, clientKey := writePair(t, ca, dir, testcerts.Subject{Name: "apiserver-etcd-client"})
	kubeletCert, kubeletKey := writePair(t, ca, dir, testcerts.Subject{Name: "apiserver-kubelet-client", Groups: []string{"kubeadm:cluster-admins"}})
	at := port(t)
	args := append(flags,
		"--advertise-address=192.0.2.1", "--allow-privileged=true", "--enable-admission-plugins=NodeRestriction", "--enable-bootstrap-token-auth=true",
		"--etcd-servers="+startEtcd(t, dir, caFile, etcdCert, etcdKey), "--etcd-cafile="+caFile, "--etcd-certfile="+clientCert, "--etcd-keyfile="+clientKey,
		"--kubelet-client-certificate="+kubeletCert, "--kubelet-client-key="+kubeletKey, "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
		"--secure-port="+at,
	)
	return startServer(t, dir, ca, at, "kube-apiserver", append(args, more...)...)
}

// startServer runs a server on a port of loopback and waits until it is ready.
func startServer(t *testing.T, dir string, ca *testcerts.Authority, port, program string, args ...string) *cluster {
	t.Helper()
	c := &cluster{process: start(t, program, args...), dir: dir, kubeconfig: filepath.Join(dir, "admin.kubeconfig")}
	admin := ca.Issue(testcerts.Subject{Name: "admin", Groups: []string{"system:masters"}})
	err := writeKubeconfig(c.kubeconfig, &rest.Config{Host: "https://127.0.0.1:" + port, TLSClientConfig: rest.TLSClientConfig{CAData: ca.PEM, CertData: admin.Cert, KeyData: admin.Key}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.connect(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "readiness", func(ctx context.Context) error {
		a, err := do(ctx, c.admin, http.MethodGet, "/readyz?verbose", "")
		if err == nil && a.code != http.StatusOK {
			err = fmt.Errorf("%d %s", a.code, a.body)
		}
		return err
	})
	return c
}

// TestServe runs annex serve with its own etcd, twice on one directory.
func TestServe(t *testing.T) {
	t.Parallel()
	dir := shortTemp(t)
	ca, flags := serveFlags(t, dir)
	data := filepath.Join(dir, "data")
	at := port(t)
	args := append([]string{"serve", "--data-dir=" + data, "--secure-port=" + at}, flags...)
	c := startServer(t, dir, ca, at, "annex", args...)
	c.kubectl(t, "create", "configmap", "kept", "--from-literal=a=b")
	closedToOthers(t, data)

	other := append(append([]string{}, args...), "--secure-port="+port(t))
	refused(t, other, data, fmt.Sprintf("process %d", c.pid))
	refused(t, args, at, fmt.Sprintf("process %d", c.pid))
	if a := get(t, c.admin, "/readyz"); a.code != http.StatusOK {
		t.Errorf("after a second start the first answers %d %s", a.code, a.body)
	}
	c.signal(syscall.SIGTERM)
	if code := c.exitCode(t); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
	c = startServer(t, dir, ca, at, "annex", args...)
	expect(t, "what was kept", c.kubectl(t, "get", "configmap", "kept", "--output=jsonpath={.data.a}"), "b")
}

// slowDiscovery answers a client's discovery request after a time, and the server's own at once. It
// counts the client's requests, and those that were given up.
func slowDiscovery(group string, after time.Duration, asked, givenUp *atomic.Int32) http.Handler {
	discovery := discoveryHandler(group, "v1", "get", "list", "watch")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Remote-User") != "system:kube-aggregator" && r.URL.Path == "/apis/"+group+"/v1" {
			asked.Add(1)
			timer := time.NewTimer(after)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-r.Context().Done():
				givenUp.Add(1)
				return
			}
		}
		discovery.ServeHTTP(w, r)
	})
}

// TestInPlaceOfKubeAPIServer runs the binary as a static Pod would, without the limit on discovery
// requests.
func TestInPlaceOfKubeAPIServer(t *testing.T) {
	t.Parallel()
	code, out, errOut := run(t, command{name: "kube-apiserver", args: []string{"--version"}})
	if code != 0 || !strings.HasPrefix(out, "Kubernetes "+version.Kubernetes+"+annex.") || errOut != "" {
		t.Errorf("--version: exit code %d, %q, %q", code, out, errOut)
	}
	c := startReplacement(t, "--feature-gates=EnableAggregatedDiscoveryTimeout=false")
	expect(t, "/version", get(t, c.admin, "/version").body, `"gitVersion": "`+version.GitVersion, `"major": "1"`, `"minor": "37"`)
	expect(t, "kubectl version", c.kubectl(t, "version"), "Server Version: "+version.GitVersion)
	for _, line := range strings.Split(strings.TrimSpace(c.kubectl(t, "get", "apiservices", "--no-headers")), "\n") {
		if fields := strings.Fields(line); len(fields) < 3 || fields[1] != "Local" || fields[2] != "True" {
			t.Errorf("not available: %s", line)
		}
	}
	expect(t, "the published configuration", c.kubectl(t, "get", "configmap", "extension-apiserver-authentication", "--namespace=kube-system", "--output=yaml"),
		"requestheader-client-ca-file", "front-proxy-client", "X-Remote-User")

	const after = 6 * time.Second // more than the limit
	var asked, givenUp atomic.Int32
	registerServer(t, c, "slow.example.com", slowDiscovery("slow.example.com", after, &asked, &givenUp))
	begin := time.Now()
	a := get(t, c.admin, "/apis/slow.example.com/v1")
	if took := time.Since(begin); a.code != http.StatusOK || took < after || asked.Load() == 0 {
		t.Errorf("without the limit: %d after %v: %s", a.code, took, a.body)
	}
	if _, err := os.Stat(filepath.Join(c.dir, "annex")); err == nil {
		t.Error("it made a data directory beside an external etcd")
	}
	c.signal(syscall.SIGTERM)
	if code := c.exitCode(t); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
}

// TestDiscoveryTimeout is the default: five seconds.
func TestDiscoveryTimeout(t *testing.T) {
	t.Parallel()
	e := shared(t)
	// Far above the limit, so that it is the limit that ends the request.
	var asked, givenUp atomic.Int32
	registerServer(t, e.cluster, "late.example.com", slowDiscovery("late.example.com", time.Minute, &asked, &givenUp))
	begin := time.Now()
	a := get(t, e.admin, "/apis/late.example.com/v1")
	if took := time.Since(begin); a.code < 500 || took < 5*time.Second || took >= 30*time.Second || asked.Load() == 0 {
		t.Errorf("with the limit: %d after %v, want a failure after 5s: %s", a.code, took, a.body)
	}
	eventually(t, "the end of the request at the extension server", func(context.Context) error {
		if n, of := givenUp.Load(), asked.Load(); n != of {
			return fmt.Errorf("%d of %d were given up", n, of)
		}
		return nil
	})
	if took := time.Since(begin); took >= 30*time.Second {
		t.Errorf("the extension server was rid of the request after %v", took)
	}
}
