// Command server serves shells. The README beside package shell says how to run it.
package main

import (
	"github.com/annex-api/annex/examples/shell"
	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/storage/drivers"
)

func main() {
	extension.Main("shell", shell.Shells, extension.Drivers(drivers.All()...))
}
