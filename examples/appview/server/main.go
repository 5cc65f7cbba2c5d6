// Command server serves Apps.
package main

import (
	"github.com/annex-api/annex/examples/appview"
	"github.com/annex-api/annex/extension"
)

func main() { extension.Main("apps", appview.Apps(appview.ConfigMaps)) }
