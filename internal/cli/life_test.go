package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/annex-api/annex/kubeapiserver/certs"
	"github.com/annex-api/annex/kubeapiserver/version"
)

// TestUpKeepsWhatItAcknowledged: a first start shows its demo; killed under a write load it leaves no
// child behind and loses nothing; a second start serves the same data with the same certificates.
func TestUpKeepsWhatItAcknowledged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	first := run(t, "annex", "up", "--demo", "--data-dir", dir, "--port", "0")
	out := first.until(t, "Ctrl-C stops it.")
	m := regexp.MustCompile(`(\d+) of (\d+) Available`).FindStringSubmatch(out)
	if m == nil || m[1] != m[2] {
		t.Errorf("not every APIService is available:\n%s", out)
	}
	if !strings.Contains(out, "welcome") || !strings.Contains(out, "export KUBECONFIG="+dir) {
		t.Errorf("the demo's notices or the next commands are missing:\n%s", out)
	}
	kubeconfig := filepath.Join(dir, "admin.kubeconfig")
	client := kubeClient(t, kubeconfig)
	if v, err := client.Discovery().ServerVersion(); err != nil || v.GitVersion != version.GitVersion || v.Major != "1" || v.Minor != "37" {
		t.Errorf("version %+v, error %v", v, err)
	}
	child := childOf(t, first.cmd.Process.Pid)

	code, _, errText := runToEnd(t, "annex", "up", "--data-dir", dir, "--port", "0")
	if want := fmt.Sprintf("is in use by process %d", first.cmd.Process.Pid); code != 1 || !strings.Contains(errText, want) {
		t.Errorf("a second server: exit %d, %q; want %q", code, errText, want)
	}

	acknowledged := make(chan []string)
	go func() { acknowledged <- writeUntilItFails(client) }()
	waitFor(t, "a write load", func() bool {
		list, err := client.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{LabelSelector: "load", Limit: 50})
		return err == nil && len(list.Items) == 50
	})
	first.signal(t, syscall.SIGKILL)
	first.wait(t)
	names := <-acknowledged
	waitFor(t, "the demo server's end", func() bool { return dead(child) })
	before := read(t, filepath.Join(dir, "pki", "ca.crt"))

	second := run(t, "annex", "up", "--quiet", "--data-dir", dir, "--port", "0")
	if got := second.until(t, "admin.kubeconfig"); strings.TrimSpace(got) != kubeconfig {
		t.Errorf("--quiet printed %q, want %q", got, kubeconfig)
	}
	list, err := kubeClient(t, kubeconfig).CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{LabelSelector: "load"})
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]bool{}
	for _, c := range list.Items {
		kept[c.Name] = true
	}
	for _, name := range names {
		if !kept[name] {
			t.Errorf("ConfigMap %s was acknowledged and is lost", name)
		}
	}
	if read(t, filepath.Join(dir, "pki", "ca.crt")) != before {
		t.Error("the second start made a new CA")
	}
	second.signal(t, syscall.SIGTERM)
	if code := second.wait(t); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
	for _, f := range []string{"server.log", "admin.kubeconfig", "annex.lock"} {
		if info, err := os.Stat(filepath.Join(dir, f)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v, want mode 0600", f, info.Mode(), err)
		}
	}
}

func TestUpEphemeralLeavesNothingBehind(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	p := run(t, "annex", "up", "--demo", "--ephemeral")
	p.until(t, "Ctrl-C stops it.")
	child := childOf(t, p.cmd.Process.Pid)
	p.signal(t, syscall.SIGINT)
	if code := p.wait(t); code != 0 {
		t.Errorf("exit code %d after SIGINT, want 0", code)
	}
	if !dead(child) {
		t.Errorf("the demo server, process %d, outlives us", child)
	}
	left, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "annex-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// timeout(1) signals the process and then its group: two signals that belong together end it as one does.
func TestTwoSignalsAtOnceEndItInOrder(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	p := run(t, "annex", "up", "--ephemeral")
	p.until(t, "Ctrl-C stops it.")
	p.signal(t, syscall.SIGTERM)
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

func TestKubeAPIServerWithEmbeddedEtcd(t *testing.T) {
	store, err := certs.Open(certs.Options{Dir: filepath.Join(t.TempDir(), "pki")})
	if err != nil {
		t.Fatal(err)
	}
	f := store.Files()
	port := freePort(t)
	p := run(t, "kube-apiserver",
		"--data-dir="+filepath.Join(t.TempDir(), "data"), "--bind-address=127.0.0.1", "--secure-port="+port,
		"--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/12",
		"--tls-cert-file="+f.Server.Cert, "--tls-private-key-file="+f.Server.Key, "--client-ca-file="+f.CA.Cert,
		"--authorization-mode=RBAC", "--logging-format=json", "--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+f.ServiceAccountPub, "--service-account-signing-key-file="+f.ServiceAccountKey)
	client := adminClient(t, "https://127.0.0.1:"+port, f)
	waitFor(t, "/readyz", func() bool {
		_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(t.Context())
		return err == nil
	})
	metrics, err := client.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// What the reference's main package brings along.
	for _, want := range []string{
		`kubernetes_build_info{`, `git_version="` + version.GitVersion + `"`, `rest_client_requests_total{`,
		`workqueue_adds_total{`, `informer_queued_items{`, `name="kube-apiserver"`,
	} {
		if !strings.Contains(string(metrics), want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
	if !strings.Contains(p.err.String(), `{"ts":`) {
		t.Errorf("--logging-format=json logs\n%s", p.err)
	}
}
