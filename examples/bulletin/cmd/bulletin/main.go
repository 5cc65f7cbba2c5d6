// Command bulletin runs the example extension API server.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/examples/bulletin"
)

func main() {
	flags := pflag.NewFlagSet("bulletin", pflag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintf(os.Stderr, "bulletin serves demo.annex.dev/v1 notices as an extension API server.\n\n%s", flags.FlagUsages())
	}
	var o bulletin.Options
	o.AddFlags(flags)
	logging := flag.NewFlagSet("", flag.ContinueOnError)
	klog.InitFlags(logging)
	flags.AddGoFlag(logging.Lookup("v"))

	switch err := flags.Parse(os.Args[1:]); {
	case errors.Is(err, pflag.ErrHelp):
		return
	case err != nil:
		fail(err)
	case flags.NArg() > 0:
		fail(fmt.Errorf("unexpected argument %q: only flags are taken, see --help", flags.Arg(0)))
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The one line on standard output: whoever started the server may wait for it.
	o.Ready = func(address net.Addr) { fmt.Printf("ready https://%s\n", address) }
	if err := bulletin.Run(ctx, o); err != nil {
		stop()
		fail(err)
	}
	klog.Flush()
}

func fail(err error) {
	klog.Flush()
	fmt.Fprintln(os.Stderr, "bulletin:", err)
	os.Exit(1)
}
