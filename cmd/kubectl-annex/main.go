// Command kubectl-annex has the tools of annex alone, for a cluster with any API server. On the
// PATH it is kubectl's plugin: kubectl annex doctor.
package main

import (
	"os"

	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/internal/cli/tools"
	_ "github.com/annex-api/annex/kubeapiserver/version" // before any package that reads the version
)

func main() { os.Exit(tools.Main(os.Args, terminal.System())) }
