// Command backend is the extension API server of the benchmark: TLS with
// HTTP/2, discovery, GET, LIST and WATCH of one made-up resource, everything
// from bytes prepared beforehand so that it costs next to nothing.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

type options struct {
	address           string
	fd                uint
	cert, key, client string
}

func main() {
	var o options
	flag.StringVar(&o.address, "addr", "127.0.0.1:0", "`address` to listen on")
	flag.UintVar(&o.fd, "listen-fd", 0, "an inherited listening socket's file `descriptor`, instead of -addr")
	flag.StringVar(&o.cert, "cert", "", "serving certificate `file`")
	flag.StringVar(&o.key, "key", "", "serving key `file`")
	flag.StringVar(&o.client, "client-ca", "", "`file` of the CA that signs the callers' certificates")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "backend:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	pair, err := tls.LoadX509KeyPair(o.cert, o.key)
	if err != nil {
		return fmt.Errorf("loading the serving certificate: %w", err)
	}
	pem, err := os.ReadFile(o.client)
	if err != nil {
		return fmt.Errorf("reading the client CA: %w", err)
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s has no certificate", o.client)
	}
	listener, err := listen(o)
	if err != nil {
		return err
	}
	fmt.Println("listening on", listener.Addr())
	server := &http.Server{
		Handler:           &handler{},
		ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{
			MinVersion:   tls.VersionTLS12,
			Certificates: []tls.Certificate{pair},
			ClientAuth:   tls.RequireAndVerifyClientCert,
			ClientCAs:    clients,
		},
	}
	ended := make(chan error, 1)
	go func() { ended <- server.ServeTLS(listener, "", "") }()
	select {
	case err := <-ended:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	if err := server.Close(); err != nil {
		return fmt.Errorf("closing: %w", err)
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

func listen(o options) (net.Listener, error) {
	if o.fd == 0 {
		return net.Listen("tcp", o.address)
	}
	file := os.NewFile(uintptr(o.fd), "listener")
	defer file.Close()
	listener, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("taking over file descriptor %d: %w", o.fd, err)
	}
	return listener, nil
}
