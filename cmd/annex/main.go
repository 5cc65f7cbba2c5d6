// Command annex is a Kubernetes API server with the Annex aggregation layer. Called as
// kube-apiserver, it takes that program's flags.
package main

import (
	"os"

	"github.com/annex-api/annex/internal/cli"
	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/kubeapiserver/launch"
	_ "github.com/annex-api/annex/kubeapiserver/version" // before any package that reads the version
)

func main() { os.Exit(cli.Main(os.Args, terminal.System(), launch.Server)) }
