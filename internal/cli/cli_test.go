package cli_test

import (
	"net"
	"os"
	"strconv"
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
// address where nobody listens, and $PID the process that holds the port.
func TestScripts(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
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
			return closed.Close()
		},
	})
}
