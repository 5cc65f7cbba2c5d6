// Command bulletin is the demo extension API server. See the README beside
// package bulletin.
package main

import (
	"github.com/annex-api/annex/examples/bulletin"
	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/storage/drivers"
)

func main() {
	extension.Main("bulletin", bulletin.Notices, extension.Drivers(drivers.All()...))
}
