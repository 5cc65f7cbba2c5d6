// Command server serves the kinds of sample-apiserver over etcd.
package main

import (
	"github.com/annex-api/annex/bench/sdk/wardle"
	"github.com/annex-api/annex/extension/storage/etcd"
)

func main() { wardle.Main(etcd.Driver()) }
