package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/annex-api/annex/kubeapiserver/version"
)

// binaries is the folder of annex, kube-apiserver, kube-controller-manager, kubectl, helm, sample-apiserver,
// testserver and etcd.
var binaries string

// home is an empty home for every process: nothing of the caller's own is read or changed.
var home string

// binariesVariable names a folder where they are already; else they are built.
const binariesVariable = "ANNEX_E2E_BINARIES"

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "annex-e2e-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	// A test runs annex as another user.
	if err := os.Chmod(dir, 0o755); err != nil {
		return 0, err
	}
	defer stopShared()
	home = filepath.Join(dir, "home")
	if binaries = os.Getenv(binariesVariable); binaries != "" {
		return m.Run(), nil
	}
	binaries = filepath.Join(dir, "bin")
	// kubectl compares its version with the server's.
	const flag = " -X k8s.io/component-base/version."
	major, minor := version.MajorMinor()
	stamp := flag + "gitVersion=" + version.Kubernetes + flag + "gitMajor=" + major + flag + "gitMinor=" + minor
	for _, args := range [][]string{
		{"-ldflags=-s -w", "github.com/annex-api/annex/cmd/annex", "k8s.io/sample-apiserver", "github.com/annex-api/annex/extension/internal/testserver", "go.etcd.io/etcd/server/v3", "k8s.io/kubernetes/cmd/kube-controller-manager"},
		{"-ldflags=-s -w" + stamp, "k8s.io/kubernetes/cmd/kubectl"},
		{"-ldflags=-s -w", "-modfile=helm/go.mod", "helm.sh/helm/v4/cmd/helm"},
	} {
		build := exec.Command("go", append([]string{"build", "-o", binaries + "/"}, args...)...)
		if out, err := build.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build %v: %w\n%s", args, err, out)
		}
	}
	if err := os.Rename(binary("server"), binary("etcd")); err != nil {
		return 0, err
	}
	if err := os.Symlink("annex", binary("kube-apiserver")); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

func binary(name string) string { return filepath.Join(binaries, name) }
