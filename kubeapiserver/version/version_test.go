package version_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"

	apiversion "k8s.io/apimachinery/pkg/version"
	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/apiserver/pkg/server/routes"
	"k8s.io/apiserver/pkg/util/compatibility"
	basecompatibility "k8s.io/component-base/compatibility"
	baseversion "k8s.io/component-base/version"

	"github.com/emicklei/go-restful/v3"

	"github.com/annex-api/annex/kubeapiserver/version"
)

func TestReportedVersion(t *testing.T) {
	got := baseversion.Get()
	if got.GitVersion != "v1.37.2+annex.0.1.0" || got.Major != "1" || got.Minor != "37" {
		t.Errorf("version.Get() = %s, major %s, minor %s", got.GitVersion, got.Major, got.Minor)
	}
	if got.GitTreeState != "clean" && got.GitTreeState != "dirty" {
		t.Errorf("gitTreeState = %q, want clean or dirty", got.GitTreeState)
	}
	if got.GitCommit == "" || strings.Contains(got.GitCommit, "$") {
		t.Errorf("gitCommit = %q, want a commit or unknown", got.GitCommit)
	}
}

// The registry is filled while packages are initialised: it shows that the version was set before.
func TestEffectiveVersionIsSetBeforeTheRegistry(t *testing.T) {
	ev := compatibility.DefaultComponentGlobalsRegistry.EffectiveVersionFor(basecompatibility.DefaultKubeComponent)
	if got := ev.BinaryVersion().String(); got != strings.TrimPrefix(version.GitVersion, "v") {
		t.Errorf("binary version = %s, want that of %s", got, version.GitVersion)
	}
	if got := ev.EmulationVersion().String(); got != "1.37" {
		t.Errorf("emulation version = %s, want 1.37", got)
	}
	if got := ev.MinCompatibilityVersion().String(); got != "1.36" {
		t.Errorf("minimum compatibility version = %s, want 1.36", got)
	}
	if errs := ev.Validate(); len(errs) != 0 {
		t.Errorf("Validate() = %v", errs)
	}
}

func TestServedVersion(t *testing.T) {
	ev := compatibility.DefaultComponentGlobalsRegistry.EffectiveVersionFor(basecompatibility.DefaultKubeComponent)
	container := restful.NewContainer()
	routes.Version{Version: ev.Info()}.Install(container)
	m := mux.NewPathRecorderMux("version")
	m.UnlistedHandlePrefix("/", container)
	srv := httptest.NewServer(m)
	defer srv.Close()

	resp, err := http.Get(srv.URL + "/version")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var info apiversion.Info
	if err := json.NewDecoder(resp.Body).Decode(&info); err != nil {
		t.Fatal(err)
	}
	if info.GitVersion != version.GitVersion || info.Major != "1" || info.Minor != "37" || info.EmulationMinor != "37" {
		t.Errorf("/version = %+v", info)
	}
}

func TestVersionFlagAcceptsOnlyTheSamePatchRelease(t *testing.T) {
	if err := baseversion.ValidateDynamicVersion(version.Kubernetes + "-eks-1"); err != nil {
		t.Error(err)
	}
	if err := baseversion.ValidateDynamicVersion("v1.35.0"); err == nil {
		t.Error("v1.35.0 was accepted")
	}
}

// The version is that of the module that is built in: the two are moved together.
func TestTheVersionIsThatOfTheModule(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	if got := strings.TrimSpace(string(out)); got != version.Kubernetes {
		t.Errorf("go.mod requires k8s.io/kubernetes %s, version.Kubernetes is %s", got, version.Kubernetes)
	}
}

// A program without build flags, the way "go run" builds it, sees the version too.
func TestGoRun(t *testing.T) {
	dir := "testdata/print"
	if _, err := os.Stat(dir); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "run", "./"+dir).CombinedOutput()
	if err != nil {
		t.Fatalf("go run: %v\n%s", err, out)
	}
	if got := strings.TrimSpace(string(out)); got != version.GitVersion {
		t.Errorf("go run printed %q, want %q", got, version.GitVersion)
	}
}

func TestVCS(t *testing.T) {
	commit, state, date := version.VCS([]debug.BuildSetting{
		{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}, {Key: "vcs.modified", Value: "true"},
	})
	if commit != "abc" || state != "dirty" || date != "2026-01-02T03:04:05Z" {
		t.Errorf("got %q %q %q", commit, state, date)
	}
	if commit, state, date = version.VCS(nil); commit != "unknown" || state != "clean" || date != "" {
		t.Errorf("without build information: %q %q %q", commit, state, date)
	}
}
