// Command drivers serves the kinds of sample-apiserver over any storage.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/annex-api/annex/bench/sdk/wardle"
	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/storage/drivers"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	arguments, err := wardle.Arguments()
	if err == nil {
		err = extension.Run(ctx, "wardle", arguments, os.Stderr, wardle.Flunders, wardle.Fischers, extension.Drivers(drivers.All()...))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "drivers:", err)
		stop()
		os.Exit(1)
	}
}
