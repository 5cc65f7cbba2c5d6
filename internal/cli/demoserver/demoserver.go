// Package demoserver is the hidden command annex demo-server: the extension API server that annex up
// --demo runs as a child.
package demoserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/examples/bulletin"
	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/storage"
)

// Name is the command's name.
const Name = "demo-server"

type options struct {
	fd                        uint
	kubeconfig                string
	etcd                      []string
	etcdCert, etcdKey, etcdCA string
	cert, key                 string
}

// New returns the command.
func New() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:    Name,
		Short:  "Run the demo extension API server",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.UintVar(&o.fd, "listen-fd", 0, "File descriptor of a listening TCP socket to serve on.")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "Kubeconfig file of the host API server.")
	f.StringSliceVar(&o.etcd, "etcd-servers", nil, "URLs of etcd, comma separated: http://, https:// or unix://.")
	f.StringVar(&o.etcdCert, "etcd-certfile", "", "Client certificate for etcd.")
	f.StringVar(&o.etcdKey, "etcd-keyfile", "", "Key of the client certificate for etcd.")
	f.StringVar(&o.etcdCA, "etcd-cafile", "", "Certificate authority of etcd.")
	f.StringVar(&o.cert, "tls-cert-file", "", "Serving certificate.")
	f.StringVar(&o.key, "tls-private-key-file", "", "Key of the serving certificate.")
	for _, name := range []string{"listen-fd", "kubeconfig", "etcd-servers", "tls-cert-file", "tls-private-key-file"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is not there
		}
	}
	return cmd
}

func (o *options) run(ctx context.Context) error {
	host, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return fmt.Errorf("read the kubeconfig %s: %w", o.kubeconfig, err)
	}
	listener, err := inherited(uintptr(o.fd))
	if err != nil {
		return err
	}
	defer listener.Close()
	server, err := extension.New(ctx, extension.Config{
		Name:     "bulletin",
		Storage:  "host-etcd:///",
		Drivers:  []storage.Driver{{Scheme: "host-etcd", Example: "host-etcd:///", Open: o.openEtcd}},
		Prefix:   "/registry/demo.annex.dev",
		Host:     host,
		Listener: listener,
		Serving:  extension.Serving{CertFile: o.cert, KeyFile: o.key},
		Log:      klog.Background(),
		// The host ends together with it.
		ShutdownDelay: -1,
	}, bulletin.Notices)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	return server.Run(ctx)
}

// openEtcd is the etcd of the host, which the demo shares.
func (o *options) openEtcd(context.Context, *url.URL, logr.Logger) (*storage.Endpoint, error) {
	e := &storage.Endpoint{Name: "the host's etcd", Targets: o.etcd}
	if o.etcdCA == "" {
		return e, nil
	}
	ca, err := os.ReadFile(o.etcdCA)
	if err != nil {
		return nil, fmt.Errorf("read the CA of etcd: %w", err)
	}
	e.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
	if !e.TLS.RootCAs.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s has no certificate", o.etcdCA)
	}
	if o.etcdCert != "" {
		pair, err := tls.LoadX509KeyPair(o.etcdCert, o.etcdKey)
		if err != nil {
			return nil, fmt.Errorf("read the client certificate for etcd: %w", err)
		}
		e.TLS.Certificates = []tls.Certificate{pair}
	}
	return e, nil
}

// inherited takes over a listening socket that the parent opened.
func inherited(fd uintptr) (net.Listener, error) {
	f := os.NewFile(fd, "listener")
	if f == nil {
		return nil, fmt.Errorf("--listen-fd %d is not an open file", fd)
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("--listen-fd %d is not a listening socket: %w", fd, err), f.Close())
	}
	return l, f.Close()
}
