// Command drivers serves the kinds of sample-apiserver over any storage.
package main

import (
	"github.com/annex-api/annex/bench/sdk/wardle"
	"github.com/annex-api/annex/extension/storage/drivers"
)

func main() { wardle.Main(drivers.All()...) }
