// Command server serves CPUs.
package main

import (
	"github.com/annex-api/annex/examples/sysinfo"
	"github.com/annex-api/annex/extension"
)

func main() { extension.Main("sysinfo", sysinfo.CPUs) }
