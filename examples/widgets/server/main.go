// Command server serves widgets.
//
//	go run ./examples/widgets/server --standalone /tmp/widgets --storage sqlite:///tmp/widgets/widgets.db
//	kubectl --kubeconfig /tmp/widgets/kubeconfig get widgets
package main

import (
	"github.com/annex-api/annex/examples/widgets"
	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/storage/drivers"
)

func main() {
	extension.Main("widgets", widgets.Widgets, widgets.Controller, extension.Drivers(drivers.All()...))
}
