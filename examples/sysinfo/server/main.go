// Command server serves the processors of its machine.
//
//	go run ./examples/sysinfo/server --standalone /tmp/sysinfo
//	kubectl --kubeconfig /tmp/sysinfo/kubeconfig get cpus --watch
package main

import (
	"github.com/annex-api/annex/examples/sysinfo"
	"github.com/annex-api/annex/extension"
)

func main() { extension.Main("sysinfo", sysinfo.CPUs) }
