// Command server serves widgets.
//
//	go run ./examples/widgets/server --standalone /tmp/widgets --storage embedded:///tmp/widgets/etcd
package main

import (
	"github.com/annex-api/annex/examples/widgets"
	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/storage/embedded"
	"github.com/annex-api/annex/extension/storage/etcd"
)

func main() {
	extension.Main("widgets", widgets.Widgets, widgets.Controller, extension.Drivers(embedded.Driver(), etcd.Driver()))
}
