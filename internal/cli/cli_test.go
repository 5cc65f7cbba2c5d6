package cli_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/annex-api/annex/internal/cli"
	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/internal/cli/tools"
	"github.com/annex-api/annex/kubeapiserver/launch"
	_ "github.com/annex-api/annex/kubeapiserver/version"
)

func TestMain(m *testing.M) {
	program := func() { os.Exit(cli.Main(os.Args, terminal.System(), launch.Server)) }
	plugin := func() { os.Exit(tools.Main(os.Args, terminal.System())) }
	testscript.Main(m, map[string]func(){"annex": program, "kube-apiserver": program, "kubectl-annex": plugin})
}

// TestScripts runs testdata/script. In them $TAKEN is a port that is in use on 127.0.0.1, $CLOSED an
// address where nobody listens, $PID the process that holds the port, and $WORK/apiserver a kubeconfig
// for an API server that knows the names of APIServices, and nothing else.
func TestScripts(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	names := httptest.NewServer(http.HandlerFunc(serveNames))
	t.Cleanup(names.Close)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			closed, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			env.Setenv("TAKEN", strconv.Itoa(taken.Addr().(*net.TCPAddr).Port))
			env.Setenv("CLOSED", closed.Addr().String())
			env.Setenv("PID", strconv.Itoa(os.Getpid()))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_DATA_HOME", "")
			config := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: here, cluster: {server: %q}}]\n"+
				"contexts: [{name: here, context: {cluster: here}}]\ncurrent-context: here\n", names.URL)
			if err := os.WriteFile(filepath.Join(env.WorkDir, "apiserver"), []byte(config), 0o600); err != nil {
				return err
			}
			return closed.Close()
		},
	})
}

// serveNames answers as an API server where three APIServices lead to extension servers.
func serveNames(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/apis/apiregistration.k8s.io/v1/apiservices" {
		http.NotFound(w, r)
		return
	}
	const meta = `"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1"`
	var items []string
	for _, name := range []string{"v1.one.example.com", "v1.two.example.com", "v2.one.example.com"} {
		items = append(items, fmt.Sprintf(`{%s,"metadata":{"name":%q}}`, meta, name))
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{},"items":[%s]}`, strings.Join(items, ","))
}
