// Command seed makes tickets, as many as it is told.
//
//	go run ./examples/tickets/seed --kubeconfig /tmp/tickets/kubeconfig --count 10000
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/annex-api/annex/examples/tickets"
)

func main() {
	kubeconfig := pflag.String("kubeconfig", "", "leads to the server of tickets, or to its host")
	namespace := pflag.String("namespace", "default", "where the tickets are made")
	count := pflag.Int("count", 10_000, "how many")
	pflag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := seed(ctx, *kubeconfig, *namespace, *count)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "seed:", err)
		os.Exit(1)
	}
}

func seed(ctx context.Context, kubeconfig, namespace string, count int) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	begin := time.Now()
	if err := tickets.Seed(ctx, config, namespace, count); err != nil {
		return err
	}
	fmt.Printf("%d tickets are there after %v\n", count, time.Since(begin).Round(time.Millisecond))
	return nil
}
