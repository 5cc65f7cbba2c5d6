// Command backend is the extension API server of the benchmark: TLS with
// HTTP/2, discovery, GET, LIST, POST and WATCH of one made-up resource, everything
// from bytes prepared beforehand so that it costs next to nothing. A POST is
// answered with what was sent, and nothing is kept.
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
	behaviour
}

// behaviour is what makes this extension server unlike a good one, and what it
// tells of the requests it got.
type behaviour struct {
	journal  string
	takes    time.Duration // of a POST
	grace    time.Duration
	overload bool
	reset    bool
	hostile  bool
}

func main() {
	var o options
	flag.StringVar(&o.address, "addr", "127.0.0.1:0", "`address` to listen on")
	flag.UintVar(&o.fd, "listen-fd", 0, "an inherited listening socket's file `descriptor`, instead of -addr")
	flag.StringVar(&o.cert, "cert", "", "serving certificate `file`")
	flag.StringVar(&o.key, "key", "", "serving key `file`")
	flag.StringVar(&o.client, "client-ca", "", "`file` of the CA that signs the callers' certificates")
	flag.StringVar(&o.journal, "journal", "", "add a line for each request for an object to this `file`")
	flag.DurationVar(&o.takes, "create-takes", 0, "how long a POST takes")
	flag.DurationVar(&o.grace, "grace", 0, "when told to end, end the watches and finish all else within this time")
	flag.BoolVar(&o.overload, "overload", false, "answer 503 to requests for objects")
	flag.BoolVar(&o.reset, "reset", false, "reset each connection as soon as it is made, and note it in the journal")
	flag.BoolVar(&o.hostile, "hostile", false, "answer with hostile documents for the groups that stand for them")
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
	var notes *journal
	if o.journal != "" {
		if notes, err = openJournal(o.journal); err != nil {
			return err
		}
	}
	leaving := make(chan struct{})
	var h http.Handler = &handler{createTakes: o.takes, leaving: leaving}
	if o.overload {
		h = failing(h)
	}
	h = noting(notes, h)
	if o.hostile {
		if h, err = newHostile(h); err != nil {
			return err
		}
	}
	fmt.Println("listening on", listener.Addr())
	if o.reset {
		return errors.Join(resetAll(ctx, listener, notes), notes.close())
	}
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{
			MinVersion:   tls.VersionTLS12,
			Certificates: []tls.Certificate{pair},
			ClientAuth:   tls.RequireAndVerifyClientCert,
			ClientCAs:    clients,
		},
	}
	if o.hostile {
		server.TLSConfig = hostileTLS(server.TLSConfig)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.ServeTLS(listener, "", "") }()
	select {
	case err := <-ended:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	close(leaving)
	if err := end(server, o.grace); err != nil {
		return fmt.Errorf("closing: %w", err)
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return notes.close()
}

// end finishes what is under way if there is time for it.
func end(server *http.Server, grace time.Duration) error {
	if grace > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		if err := server.Shutdown(ctx); err == nil {
			return nil
		}
	}
	return server.Close()
}

// resetAll accepts connections only to reset them.
func resetAll(ctx context.Context, listener net.Listener, notes *journal) error {
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	for {
		conn, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accepting a connection: %w", err)
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // Close resets.
		}
		if err := errors.Join(notes.note("CONNECT", ""), conn.Close()); err != nil {
			return fmt.Errorf("resetting a connection: %w", err)
		}
	}
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
