package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	aggregatorclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
)

// TestUpDemo is the first command that a newcomer runs, and the next ones on the same directory.
func TestUpDemo(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(shortTemp(t), "data")
	c := startUp(t, dir, "--demo")

	for name, text := range map[string]string{"output": c.stdout.String(), "error": c.stderr.String()} {
		if strings.ContainsAny(text, "\x1b\r✓") {
			t.Errorf("standard %s is not plain in a pipe: %q", name, text)
		}
	}
	expect(t, "progress", c.stderr.String(), "certificates: done in", "etcd: done in", "API server: done in", "demo server: done in")
	expect(t, "the end of the start", c.stdout.String(), "export KUBECONFIG="+c.kubeconfig, "kubectl get apiservices", "welcome", "ready in")
	closedToOthers(t, dir)

	for _, line := range strings.Split(strings.TrimSpace(c.kubectl(t, "get", "apiservices", "--no-headers")), "\n") {
		if fields := strings.Fields(line); len(fields) < 3 || fields[2] != "True" {
			t.Errorf("not available: %s", line)
		}
	}
	expect(t, "notices", c.kubectl(t, "get", "notices", "--all-namespaces"), "NAMESPACE", "SEVERITY", "annex-demo", "welcome", "fire-drill")
	watch := startCommand(t, command{name: "kubectl", args: []string{"get", "notices", "--watch", "--no-headers"}, env: []string{"KUBECONFIG=" + c.kubeconfig}})
	notice := "apiVersion: demo.annex.dev/v1\nkind: Notice\nmetadata: {name: kept}\nspec: {message: Keep me., severity: info}\n"
	kubectl(t, c.kubeconfig, notice, "create")
	if _, err := watch.awaitOutput(watch.stdout, "kept"); err != nil {
		t.Error(err)
	}
	c.kubectl(t, "create", "configmap", "kept", "--from-literal=a=b")
	kept := c.kubectl(t, "get", "notice/kept", "configmap/kept", "--output=jsonpath={.items[*].metadata.uid}")
	pki := files(t, filepath.Join(dir, "pki"))

	// Two at once: the second says who holds the directory, and the first lives on.
	code, out, errOut := run(t, command{name: "annex", args: []string{"up", "--data-dir=" + dir, "--port=0"}})
	oneSentence(t, code, out, errOut, dir, fmt.Sprintf("process %d", c.pid))
	if a := get(t, c.admin, "/readyz"); a.code != 200 {
		t.Errorf("after a second start the first answers %d %s", a.code, a.body)
	}

	addresses, child := c.listening(t), demoChild(t, c)
	c.signal(syscall.SIGINT)
	if code := c.exitCode(t); code != 0 {
		t.Errorf("exit code %d after SIGINT, want 0: %s", code, c.stderr)
	}
	gone(t, child, addresses)

	c = startUp(t, dir, "--demo")
	if again := c.kubectl(t, "get", "notice/kept", "configmap/kept", "--output=jsonpath={.items[*].metadata.uid}"); again != kept {
		t.Errorf("the second start has objects %q, want %q", again, kept)
	}
	if again := files(t, filepath.Join(dir, "pki")); !maps.Equal(pki, again) {
		t.Error("the second start changed certificates")
	}
	closedToOthers(t, dir)
	addresses, child = c.listening(t), demoChild(t, c)
	c.kill()
	gone(t, child, addresses)
}

// TestUpEphemeral leaves nothing behind.
func TestUpEphemeral(t *testing.T) {
	t.Parallel()
	temp := shortTemp(t)
	p := startCommand(t, command{name: "annex", args: []string{"up", "--ephemeral", "--quiet"}, env: []string{"TMPDIR=" + temp}})
	out, err := p.awaitOutput(p.stdout, "admin.kubeconfig\n")
	if err != nil {
		t.Fatal(err)
	}
	if p.stderr.String() != "" || strings.Count(out, "\n") != 1 {
		t.Errorf("--quiet printed %q and %q, want the kubeconfig's path only", out, p.stderr)
	}
	kubectl(t, strings.TrimSpace(out), "", "get", "namespaces")
	p.signal(syscall.SIGINT)
	if code := p.exitCode(t); code != 0 {
		t.Errorf("exit code %d after SIGINT, want 0: %s", code, p.stderr)
	}
	left, err := os.ReadDir(temp)
	if err != nil || len(left) != 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}

// closedToOthers asserts that no file or folder of a data directory gives rights to others.
func closedToOthers(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // etcd renames files while it runs
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		switch {
		case d.IsDir():
			want = 0o700
		case !info.Mode().IsRegular():
			return nil // a socket in a closed folder
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// listening returns the addresses of the server and of the demo's.
func (c *cluster) listening(t *testing.T) []string {
	t.Helper()
	host, err := url.Parse(c.admin.Host)
	if err != nil {
		t.Fatal(err)
	}
	client, err := aggregatorclient.NewForConfig(c.admin)
	if err != nil {
		t.Fatal(err)
	}
	a, err := client.ApiregistrationV1().APIServices().Get(t.Context(), "v1.demo.annex.dev", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return []string{host.Host, net.JoinHostPort("127.0.0.1", strconv.Itoa(int(*a.Spec.Service.Port)))}
}

func demoChild(t *testing.T, c *cluster) int {
	t.Helper()
	pids := children(t, c.pid)
	if len(pids) != 1 {
		t.Fatalf("annex has the children %v, want one", pids)
	}
	return pids[0]
}

// gone waits until a process has ended and nothing listens at the addresses.
func gone(t *testing.T, pid int, addresses []string) {
	t.Helper()
	eventually(t, "the end of the demo server", func(context.Context) error {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("process %d: %v", pid, err)
		}
		return nil
	})
	for _, address := range addresses {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			t.Errorf("something still listens at %s", address)
		}
	}
}

// files returns the content of every regular file below dir by path.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	content := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		content[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return content
}
