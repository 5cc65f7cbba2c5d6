package bulletin

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/spf13/pflag"
)

// The defaults of Options.
const (
	DefaultEtcdPrefix  = "/registry/demo.annex.dev"
	DefaultBindAddress = "127.0.0.1"
	DefaultPort        = 8543
)

// Options says where the server finds its host and its etcd, and where it
// serves.
type Options struct {
	// Kubeconfig is the file that leads to the host API server, which decides
	// who callers are and what they may do. Empty: the service account of the
	// Pod that the server runs in.
	Kubeconfig string

	// EtcdEndpoints are the URLs of etcd: http://, https:// or unix://. At least
	// one, all of one scheme.
	EtcdEndpoints []string
	// EtcdPrefix is the key below which everything is stored; it begins with a
	// slash. Empty: DefaultEtcdPrefix.
	EtcdPrefix string
	// EtcdCertFile and EtcdKeyFile identify this server to etcd, EtcdCAFile
	// verifies etcd. The first two go together; https needs the last.
	EtcdCertFile, EtcdKeyFile, EtcdCAFile string

	// BindAddress is the IP address to serve on. Empty: DefaultBindAddress.
	BindAddress string
	// Port is the port to serve on, 0 to 65535; 0 takes a free one.
	Port int
	// Listener, if set, is served on in place of BindAddress and Port. It must
	// be a TCP listener. Run closes it in every case.
	Listener net.Listener
	// CertFile and KeyFile are the serving certificate and its key, read again
	// when they change. Both empty: one is made in memory, signed by itself.
	CertFile, KeyFile string

	// Ready, if set, is called once, with the address served on, as soon as the
	// server's /readyz passes. It must not block.
	Ready func(net.Addr)
}

// AddFlags registers a flag for each option, with the option's present value,
// or else the default, as its default. The port's default is DefaultPort.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	*o = o.withDefaults()
	if o.Port == 0 {
		o.Port = DefaultPort
	}
	fs.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "Kubeconfig file of the host API server. Empty: the service account of this Pod.")
	fs.StringSliceVar(&o.EtcdEndpoints, "etcd-servers", o.EtcdEndpoints, "URLs of etcd, comma separated: http://, https:// or unix://.")
	fs.StringVar(&o.EtcdPrefix, "etcd-prefix", o.EtcdPrefix, "Key in etcd below which everything is stored.")
	fs.StringVar(&o.EtcdCertFile, "etcd-certfile", o.EtcdCertFile, "Client certificate for etcd.")
	fs.StringVar(&o.EtcdKeyFile, "etcd-keyfile", o.EtcdKeyFile, "Key of the client certificate for etcd.")
	fs.StringVar(&o.EtcdCAFile, "etcd-cafile", o.EtcdCAFile, "Certificate authority of etcd.")
	fs.StringVar(&o.BindAddress, "bind-address", o.BindAddress, "IP address to serve on.")
	fs.IntVar(&o.Port, "secure-port", o.Port, "Port to serve on; 0 takes a free one.")
	fs.StringVar(&o.CertFile, "tls-cert-file", o.CertFile, "Serving certificate. Empty: made in memory.")
	fs.StringVar(&o.KeyFile, "tls-private-key-file", o.KeyFile, "Key of the serving certificate.")
}

func (o Options) withDefaults() Options {
	if o.EtcdPrefix == "" {
		o.EtcdPrefix = DefaultEtcdPrefix
	}
	if o.BindAddress == "" {
		o.BindAddress = DefaultBindAddress
	}
	return o
}

// Validate gives all that is wrong with the options, or nil. It reads no files.
func (o Options) Validate() error {
	o = o.withDefaults()
	var errs []error
	if len(o.EtcdEndpoints) == 0 {
		errs = append(errs, errors.New("no etcd: name at least one URL with --etcd-servers"))
	}
	schemes := map[string]bool{}
	for _, endpoint := range o.EtcdEndpoints {
		u, err := url.Parse(endpoint)
		if err != nil {
			errs = append(errs, fmt.Errorf("--etcd-servers: %w", err))
			continue
		}
		switch {
		case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "unix":
			errs = append(errs, fmt.Errorf("--etcd-servers: %q must begin with http://, https:// or unix://", endpoint))
		case u.Host == "" && u.Path == "":
			errs = append(errs, fmt.Errorf("--etcd-servers: %q names no address", endpoint))
		}
		schemes[u.Scheme] = true
	}
	if len(schemes) > 1 {
		errs = append(errs, errors.New("--etcd-servers: all URLs must have the same scheme"))
	}
	if schemes["https"] && o.EtcdCAFile == "" {
		errs = append(errs, errors.New("--etcd-cafile: needed to verify an etcd behind https"))
	}
	if (o.EtcdCertFile == "") != (o.EtcdKeyFile == "") {
		errs = append(errs, errors.New("--etcd-certfile and --etcd-keyfile go together"))
	}
	if !strings.HasPrefix(o.EtcdPrefix, "/") {
		errs = append(errs, fmt.Errorf("--etcd-prefix: %q must begin with a slash", o.EtcdPrefix))
	}
	if net.ParseIP(o.BindAddress) == nil {
		errs = append(errs, fmt.Errorf("--bind-address: %q is not an IP address", o.BindAddress))
	}
	if o.Port < 0 || o.Port > 65535 {
		errs = append(errs, fmt.Errorf("--secure-port: %d is not between 0 and 65535", o.Port))
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		errs = append(errs, errors.New("--tls-cert-file and --tls-private-key-file go together"))
	}
	if o.Listener != nil {
		if _, ok := o.Listener.Addr().(*net.TCPAddr); !ok {
			errs = append(errs, fmt.Errorf("the listener at %s is not a TCP listener", o.Listener.Addr()))
		}
	}
	return errors.Join(errs...)
}
