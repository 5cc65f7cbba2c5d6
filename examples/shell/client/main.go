// Command client opens a session at a Shell, as kubectl exec does at a Pod.
//
//	go run ./examples/shell/client --kubeconfig /tmp/shell/kubeconfig sh
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/spf13/pflag"
	"golang.org/x/term"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"
)

func main() {
	kubeconfig := pflag.String("kubeconfig", "", "leads to the server of shells, or to its host")
	namespace := pflag.String("namespace", "default", "of the Shell")
	pflag.Parse()
	if pflag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "client: one argument is needed, the name of a Shell")
		os.Exit(2)
	}
	err := attach(context.Background(), *kubeconfig, *namespace, pflag.Arg(0))
	if exit := (exec.CodeExitError{}); errors.As(err, &exit) {
		os.Exit(exit.Code)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}

// attach talks to a Shell by WebSocket, or by SPDY where something in between has no WebSocket.
func attach(ctx context.Context, kubeconfig, namespace, name string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	stdin := int(os.Stdin.Fd())
	o := remotecommand.StreamOptions{Stdin: os.Stdin, Stdout: os.Stdout, Tty: term.IsTerminal(stdin)}
	if !o.Tty {
		o.Stderr = os.Stderr
	}
	at, err := url.Parse(config.Host)
	if err != nil {
		return fmt.Errorf("read the server's address: %w", err)
	}
	at = at.JoinPath("apis/shell.example.com/v1/namespaces", namespace, "shells", name, "attach")
	at.RawQuery = url.Values{"stdin": {"true"}, "stdout": {"true"}, "stderr": {strconv.FormatBool(!o.Tty)}, "tty": {strconv.FormatBool(o.Tty)}}.Encode()
	webSocket, err := remotecommand.NewWebSocketExecutor(config, http.MethodGet, at.String())
	if err != nil {
		return err
	}
	spdy, err := remotecommand.NewSPDYExecutor(config, http.MethodPost, at)
	if err != nil {
		return err
	}
	either, err := remotecommand.NewFallbackExecutor(webSocket, spdy, httpstream.IsUpgradeFailure)
	if err != nil {
		return err
	}
	if !o.Tty {
		return either.StreamWithContext(ctx, o)
	}
	before, err := term.MakeRaw(stdin)
	if err != nil {
		return fmt.Errorf("hand keys to the Shell as they are: %w", err)
	}
	defer func() { _ = term.Restore(stdin, before) }()
	sizes := newSizes(stdin)
	defer sizes.stop()
	o.TerminalSizeQueue = sizes
	return either.StreamWithContext(ctx, o)
}

// sizes are those of the terminal: the first, and each that it gets.
type sizes struct {
	terminal int
	changed  chan os.Signal
}

func newSizes(terminal int) *sizes {
	s := &sizes{terminal, make(chan os.Signal, 1)}
	s.changed <- syscall.SIGWINCH // the first
	signal.Notify(s.changed, syscall.SIGWINCH)
	return s
}

func (s *sizes) stop() {
	signal.Stop(s.changed)
	close(s.changed)
}

// Next implements remotecommand.TerminalSizeQueue.
func (s *sizes) Next() *remotecommand.TerminalSize {
	if _, ok := <-s.changed; !ok {
		return nil
	}
	width, height, err := term.GetSize(s.terminal)
	if err != nil {
		return nil
	}
	return &remotecommand.TerminalSize{Width: uint16(width), Height: uint16(height)}
}
