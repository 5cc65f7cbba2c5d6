// Command bare is Go's own reverse proxy, TLS with HTTP/2 on both sides and
// nothing else: the least that a proxy written in Go costs. It proxies to one
// extension server.
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
	"net/http/httputil"
	"net/http/pprof"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

type options struct {
	fd        uint
	cert, key string
	backend   backend
}

// backend is the extension server and how it is spoken to.
type backend struct {
	address    string // host:port
	serverName string
	ca         string
	cert, key  string // the proxy's own, towards it
}

func main() {
	var o options
	flag.UintVar(&o.fd, "listen-fd", 3, "an inherited listening socket's file `descriptor`")
	flag.StringVar(&o.cert, "cert", "", "serving certificate `file`")
	flag.StringVar(&o.key, "key", "", "serving key `file`")
	flag.StringVar(&o.backend.address, "backend", "", "`host:port` of the extension server")
	flag.StringVar(&o.backend.serverName, "backend-name", "", "the extension server's TLS server `name`")
	flag.StringVar(&o.backend.ca, "backend-ca", "", "`file` of the CA that signs the extension server's certificate")
	flag.StringVar(&o.backend.cert, "backend-cert", "", "client certificate `file` towards the extension server")
	flag.StringVar(&o.backend.key, "backend-key", "", "client key `file` towards the extension server")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bare:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	pair, err := tls.LoadX509KeyPair(o.cert, o.key)
	if err != nil {
		return fmt.Errorf("loading the serving certificate: %w", err)
	}
	proxy, err := newProxy(o.backend)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(o.fd), "listener")
	listener, err := net.FileListener(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("taking over file descriptor %d: %w", o.fd, err)
	}
	server := &http.Server{
		Handler:           withProfiles(proxy),
		ReadHeaderTimeout: 10 * time.Second,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}},
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

// newProxy leaves everything at its default: no buffer pool, and a flush after
// each write only where the length of the answer is unknown, as of watches.
func newProxy(b backend) (*httputil.ReverseProxy, error) {
	pair, err := tls.LoadX509KeyPair(b.cert, b.key)
	if err != nil {
		return nil, fmt.Errorf("loading the client certificate: %w", err)
	}
	pem, err := os.ReadFile(b.ca)
	if err != nil {
		return nil, fmt.Errorf("reading the extension server's CA: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", b.ca)
	}
	target := &url.URL{Scheme: "https", Host: b.address}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{
				MinVersion: tls.VersionTLS12, ServerName: b.serverName, RootCAs: roots, Certificates: []tls.Certificate{pair},
			},
			ForceAttemptHTTP2:  true,
			DisableCompression: true,
		},
	}, nil
}

// withProfiles serves what memory is measured with beside the proxy.
func withProfiles(proxy http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !strings.HasPrefix(r.URL.Path, "/debug/pprof/"):
			proxy.ServeHTTP(w, r)
		case r.URL.Path == "/debug/pprof/profile":
			pprof.Profile(w, r)
		default:
			pprof.Index(w, r)
		}
	})
}
