// Package host runs one API server of the comparison, with an etcd of its own,
// and registers the extension server with it.
package host

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/annex-api/annex/bench/internal/pki"
	"github.com/annex-api/annex/bench/internal/process"
)

const (
	startLimit = 2 * time.Minute
	stopGrace  = 15 * time.Second
	sendLimit  = 30 * time.Second
	// ReadyInterval is the resolution of start to ready.
	ReadyInterval = 10 * time.Millisecond
)

// Config is what a host is started with. Dir must exist and be empty; paths
// below it hold Unix sockets and must stay short.
type Config struct {
	Name    string
	Command []string // the API server: binary and leading arguments
	Etcd    string   // the etcd binary
	// Storage is the socket of an etcd that runs already, in place of one of the host's own.
	Storage string
	Dir     string
	Files   pki.Files
	Flags   []string // of the API server, after those that every server gets
}

// Host is a running API server, or a proxy in its place.
type Host struct {
	URL     string
	Client  *http.Client // HTTP/2, as a member of system:masters
	Server  *process.Process
	Startup time.Duration // from start to the first good answer of /readyz
	// EmptyIdle is the processor time in ms/s while idle, before any APIService
	// was registered; 0 if it was not measured.
	EmptyIdle float64

	config Config
	port   int
	etcd   *process.Process

	namespace bool // of the Services: it is there
}

// Start starts etcd, then the API server, and waits until it is ready.
func Start(ctx context.Context, c Config) (_ *Host, err error) {
	h := &Host{config: c}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Stop())
		}
	}()
	if c.Storage == "" {
		if h.etcd, err = StartEtcd(ctx, c.Etcd, c.Dir, h.EtcdSocket()); err != nil {
			return nil, err
		}
	}
	if h.port, err = FreePort(); err != nil {
		return nil, err
	}
	h.URL = "https://127.0.0.1:" + strconv.Itoa(h.port)
	if h.Client, err = newClient(c.Files); err != nil {
		return nil, err
	}
	return h, h.start(ctx)
}

// Restart ends the API server, starts it anew on what is stored, and waits until
// it is ready; Startup is then of this start.
func (h *Host) Restart(ctx context.Context) error {
	h.Client.CloseIdleConnections()
	if err := h.Server.Stop(stopGrace); err != nil {
		return err
	}
	return h.start(ctx)
}

// RestartWith is Restart with other flags than those of the config.
func (h *Host) RestartWith(ctx context.Context, flags []string) error {
	h.config.Flags = flags
	return h.Restart(ctx)
}

// EtcdSocket is where its etcd listens.
func (h *Host) EtcdSocket() string {
	return cmp.Or(h.config.Storage, filepath.Join(h.config.Dir, "etcd.sock"))
}

func (h *Host) start(ctx context.Context) error {
	c := h.config
	began := time.Now()
	server, err := process.Start(process.Command{
		Name: c.Name, Path: c.Command[0], Args: slices.Concat(c.Command[1:], flags(c.Files, h.EtcdSocket(), h.port), c.Flags),
		Log: filepath.Join(c.Dir, "server.log"),
	})
	if err != nil {
		return err
	}
	h.Server = server
	err = h.Server.Until(ctx, c.Name+" to be ready", startLimit, ReadyInterval, func(ctx context.Context) (bool, error) {
		status, err := h.status(ctx, "/readyz")
		return err == nil && status == http.StatusOK, nil
	})
	h.Startup = time.Since(began)
	return err
}

// Stop ends the API server, then its etcd.
func (h *Host) Stop() error {
	var errs []error
	if h.Client != nil {
		h.Client.CloseIdleConnections()
	}
	if h.Server != nil {
		errs = append(errs, h.Server.Stop(stopGrace))
	}
	if h.etcd != nil {
		errs = append(errs, h.etcd.Stop(stopGrace))
	}
	return errors.Join(errs...)
}

// flags are kube-apiserver's, the same for every server that is compared.
func flags(f pki.Files, socket string, port int) []string {
	return []string{
		"--etcd-servers=unix://" + socket,
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(port),
		// Endpoints of the service "kubernetes" must not be loopback addresses: none are written.
		"--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=10.96.0.0/16",
		"--authorization-mode=Node,RBAC",
		"--client-ca-file=" + f.CA,
		"--tls-cert-file=" + f.Server,
		"--tls-private-key-file=" + f.ServerKey,
		"--requestheader-client-ca-file=" + f.ProxyCA,
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + f.Proxy,
		"--proxy-client-key-file=" + f.ProxyKey,
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + f.ServiceAccountKey,
		"--service-account-signing-key-file=" + f.ServiceAccountKey,
	}
}

// StartEtcd runs an etcd on what is below dir and waits until it is ready. It listens at a
// Unix socket.
func StartEtcd(ctx context.Context, path, dir, socket string) (*process.Process, error) {
	p, err := process.Start(process.Command{
		Name: "etcd", Path: path, Log: filepath.Join(dir, "etcd.log"),
		Args: []string{
			"--data-dir=" + filepath.Join(dir, "etcd"),
			"--listen-client-urls=unix://" + socket,
			// No one reads what is advertised, but it must look like an address.
			"--advertise-client-urls=http://127.0.0.1:1",
			"--listen-peer-urls=http://127.0.0.1:0",
			"--log-level=warn",
		},
	})
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport}
	err = p.Until(ctx, "etcd to be ready", startLimit, ReadyInterval, func(ctx context.Context) (bool, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://etcd/readyz", nil)
		if err != nil {
			return false, err
		}
		resp, err := client.Do(r)
		if err != nil {
			return false, nil // It does not listen yet.
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK, nil
	})
	if err != nil {
		return nil, errors.Join(err, p.Stop(stopGrace))
	}
	return p, nil
}

func newClient(f pki.Files) (*http.Client, error) {
	pair, err := tls.LoadX509KeyPair(f.Admin, f.AdminKey)
	if err != nil {
		return nil, fmt.Errorf("loading the admin certificate: %w", err)
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("reading the CA: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", f.CA)
	}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:    &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{pair}},
		ForceAttemptHTTP2:  true,
		DisableCompression: true,
	}}, nil
}

// FreePort finds a port that nobody listened on a moment ago: kube-apiserver
// takes no listener from outside.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("finding a free port: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return 0, fmt.Errorf("giving back port %d: %w", port, err)
	}
	return port, nil
}

func (h *Host) status(ctx context.Context, path string) (int, error) {
	status, _, err := h.send(ctx, http.MethodGet, path, nil, nil)
	return status, err
}

// Do sends a request without a body that may take as long as the limit, and errs
// unless the answer is 200.
func (h *Host) Do(ctx context.Context, method, path string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	status, body, err := h.exchange(ctx, method, path, nil, nil)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s %s: status %d: %.200s", method, path, status, body)
	}
	return err
}

// send is exchange with a limit of sendLimit.
func (h *Host) send(ctx context.Context, method, path string, header http.Header, body io.Reader) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	return h.exchange(ctx, method, path, header, body)
}

// exchange answers with the status and at most 64 MiB of the body.
func (h *Host) exchange(ctx context.Context, method, path string, header http.Header, body io.Reader) (int, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, h.URL+path, body)
	if err != nil {
		return 0, nil, fmt.Errorf("making a request: %w", err)
	}
	for k, v := range header {
		r.Header[k] = v
	}
	resp, err := h.Client.Do(r)
	if err != nil {
		return 0, nil, fmt.Errorf("sending a request: %w", err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return 0, nil, fmt.Errorf("reading the answer to %s %s: %w", method, path, err)
	}
	return resp.StatusCode, content, nil
}
