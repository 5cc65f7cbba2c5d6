// Command server serves tickets. The README beside package tickets says how to run it.
package main

import (
	"github.com/annex-api/annex/examples/tickets"
	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/storage/drivers"
)

func main() {
	extension.Main("tickets", tickets.Tickets, extension.Drivers(drivers.All()...))
}
