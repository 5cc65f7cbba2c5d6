package extension

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// Main runs a server as a program, and exits: with 0 after a stop by SIGTERM or SIGINT,
// with 1 if it could not serve, with 2 for wrong flags. A second signal ends it at once.
// name is that of its Service. Its log goes to standard error. --help lists its flags.
func Main(name string, parts ...Part) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal finds nobody who catches it
	err := Run(ctx, name, os.Args[1:], os.Stderr, parts...)
	stop()
	klog.Flush()
	switch {
	case err == nil, errors.Is(err, pflag.ErrHelp):
		os.Exit(0)
	case errors.As(err, new(usageError)):
		fmt.Fprintf(os.Stderr, "%s: %v\nRun %s --help for its flags.\n", name, err, filepath.Base(os.Args[0]))
		os.Exit(2)
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	os.Exit(1)
}

// usageError is what a user has to say otherwise.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Run is Main without the process: it runs a server as the arguments say until ctx ends.
// Help goes to out.
func Run(ctx context.Context, name string, arguments []string, out io.Writer, parts ...Part) error {
	o := defaultOptions(name)
	flags := o.flags(name)
	flags.SetOutput(out)
	flags.Usage = func() { o.usage(name, flags, out) }
	if err := flags.Parse(arguments); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return err
		}
		return usageError{err}
	}
	if flags.NArg() > 0 {
		return usageError{fmt.Errorf("%q is an argument, and there are only flags", flags.Arg(0))}
	}
	if err := o.validate(); err != nil {
		return usageError{err}
	}
	c, err := o.config(name)
	if err != nil {
		return err
	}
	defer c.Listener.Close()
	s, err := New(ctx, c, parts...)
	if err != nil {
		return err
	}
	if o.standalone != "" {
		if err := o.writeKubeconfig(c, s); err != nil {
			return errors.Join(err, s.Close())
		}
	}
	var announced sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	announced.Go(func() {
		select {
		case <-s.Ready():
			o.begin(c)
			c.Log.Info("Serving", "address", s.Address().String())
		case <-ctx.Done():
		}
	})
	err = s.Run(ctx)
	cancel()
	announced.Wait()
	return err
}

// begin lets clients in where they had to wait for readiness, and tells the parent of it.
func (o *options) begin(c Config) {
	if l, ok := c.Listener.(*sharedListener); ok {
		l.open()
	}
	if o.readyFD != 0 {
		if err := tellReady(o.readyFD); err != nil {
			c.Log.Error(err, "The parent is not told that this server is ready")
		}
	}
}

// options are the flags of Main.
type options struct {
	storage, kubeconfig, standalone string
	address                         string
	port                            uint16
	listenFD, readyFD               int
	certFile, keyFile, caFile       string
	certFolder, certSecret          string
	service                         string
	servicePort                     uint16
	register                        bool
	owner                           string
	controllerMetrics               string
	drain                           time.Duration
	verbosity                       int
}

func defaultOptions(name string) *options {
	return &options{address: "0.0.0.0", port: 8443, servicePort: 443, drain: DefaultDrain, owner: name}
}

func (o *options) flags(name string) *pflag.FlagSet {
	f := pflag.NewFlagSet(name, pflag.ContinueOnError)
	f.SortFlags = false
	f.StringVar(&o.storage, "storage", o.storage, "where objects are kept: a URL, such as sqlite:///var/lib/"+name+".db. A password in it is better in the file that PGPASSFILE names")
	f.StringVar(&o.kubeconfig, "kubeconfig", o.kubeconfig, "kubeconfig of the host API server; empty: the service account of this Pod")
	f.StringVar(&o.standalone, "standalone", o.standalone, "serve without a host, on loopback, and keep certificates and a kubeconfig in this folder")
	f.StringVar(&o.address, "bind-address", o.address, "IP address to serve on; 127.0.0.1 with --standalone")
	f.Uint16Var(&o.port, "secure-port", o.port, "port to serve on; 0 takes a free one")
	f.IntVar(&o.listenFD, "listen-fd", o.listenFD, "descriptor of a listening TCP socket to serve on, once ready, in place of an address; a parent opened it")
	f.IntVar(&o.readyFD, "ready-fd", o.readyFD, "descriptor of a file that gets a line once the server is ready")
	f.StringVar(&o.certFile, "tls-cert-file", o.certFile, "serving certificate, read again when it changes; empty: one is made")
	f.StringVar(&o.keyFile, "tls-private-key-file", o.keyFile, "its key")
	f.StringVar(&o.caFile, "tls-ca-file", o.caFile, "CA by which clients know the certificate; it goes into the APIService")
	f.StringVar(&o.certFolder, "tls-folder", o.certFolder, "folder that keeps a certificate that was made")
	f.StringVar(&o.certSecret, "tls-secret", o.certSecret, "Secret, NAMESPACE/NAME, that does so for all replicas")
	f.StringVar(&o.service, "service", o.service, "Service of this server, NAMESPACE/NAME; the certificate is made for it")
	f.Uint16Var(&o.servicePort, "service-port", o.servicePort, "port of the Service, for the APIServices")
	f.BoolVar(&o.register, "register", o.register, "keep an APIService for each group version at the host; needs --service")
	f.StringVar(&o.owner, "register-owner", o.owner, "ClusterRole whose deletion takes the APIServices along")
	f.StringVar(&o.controllerMetrics, "controller-metrics-address", o.controllerMetrics, "where the metrics of controllers are served; empty: nowhere")
	f.DurationVar(&o.drain, "drain", o.drain, "how long a stop waits for watches")
	f.IntVarP(&o.verbosity, "v", "v", o.verbosity, "how much is logged: 0 to 10")
	return f
}

func (o *options) usage(name string, flags *pflag.FlagSet, out io.Writer) {
	fmt.Fprintf(out, `%s is an extension API server.

Usage:
  %[1]s [flags]

Examples:
  # Try it without a cluster: then kubectl --kubeconfig /tmp/%[1]s/kubeconfig api-resources
  %[1]s --standalone /tmp/%[1]s --storage memory://

  # In a cluster, as the manifests of the project do
  %[1]s --service default/%[1]s --register --tls-secret default/%[1]s-serving --storage etcd://etcd:2379

Flags:
%s`, name, flags.FlagUsages())
}

func (o *options) validate() error {
	var errs []error
	add := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("--%s: %s", flag, fmt.Sprintf(format, args...)))
	}
	if o.standalone != "" {
		if o.address == "0.0.0.0" {
			o.address = "127.0.0.1"
		}
		if o.kubeconfig != "" || o.register || o.certSecret != "" {
			add("standalone", "there is no host then: --kubeconfig, --register and --tls-secret are for one")
		}
	}
	if ip := net.ParseIP(o.address); ip == nil {
		add("bind-address", "%q is no IP address", o.address)
	} else if o.standalone != "" && !ip.IsLoopback() {
		add("bind-address", "a standalone server serves on loopback, such as 127.0.0.1, and not on %s", o.address)
	}
	for flag, value := range map[string]string{"service": o.service, "tls-secret": o.certSecret} {
		if value != "" && named(value).Namespace == "" {
			add(flag, "%q is not of the form NAMESPACE/NAME", value)
		}
	}
	if o.register && o.service == "" {
		add("register", "it needs --service")
	}
	for flag, fd := range map[string]int{"listen-fd": o.listenFD, "ready-fd": o.readyFD} {
		if fd < 0 || fd > 0 && fd < 3 {
			add(flag, "%d is not the descriptor of an inherited file: those begin with 3", fd)
		}
	}
	if (o.certFile == "") != (o.keyFile == "") {
		add("tls-cert-file", "it goes together with --tls-private-key-file")
	}
	if o.verbosity < 0 || o.verbosity > 10 {
		add("v", "%d is not between 0 and 10", o.verbosity)
	}
	return errors.Join(errs...)
}

func named(value string) types.NamespacedName {
	namespace, name, ok := strings.Cut(value, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return types.NamespacedName{}
	}
	return types.NamespacedName{Namespace: namespace, Name: name}
}

func (o *options) config(name string) (Config, error) {
	level := klog.Level(0)
	if err := level.Set(strconv.Itoa(o.verbosity)); err != nil {
		return Config{}, err
	}
	c := Config{
		Name: name, Storage: o.storage, Drain: o.drain, ControllerMetrics: o.controllerMetrics,
		Serving: Serving{CertFile: o.certFile, KeyFile: o.keyFile, CAFile: o.caFile, Folder: o.certFolder, Secret: named(o.certSecret)},
		Log:     klog.Background(),
	}
	if o.register {
		c.Register = &Registration{Service: named(o.service), Port: int32(o.servicePort), Owner: o.owner}
	}
	if s := named(o.service); s.Name != "" {
		c.Serving.Hosts = []string{s.Name + "." + s.Namespace + ".svc", s.Name + "." + s.Namespace + ".svc.cluster.local"}
	}
	if err := o.trust(&c); err != nil {
		return Config{}, err
	}
	var err error
	if o.listenFD != 0 {
		l, err := inheritListener(o.listenFD)
		if err != nil {
			return Config{}, err
		}
		c.Listener = l
		return c, nil
	}
	at := net.JoinHostPort(o.address, strconv.Itoa(int(o.port)))
	if c.Listener, err = net.Listen("tcp", at); err != nil {
		return Config{}, fmt.Errorf("serve on %s: %w", at, err)
	}
	return c, nil
}

// trust says who decides what callers may do.
func (o *options) trust(c *Config) error {
	if o.standalone != "" {
		return o.prepareFolder(c)
	}
	var err error
	if o.kubeconfig == "" {
		if c.Host, err = rest.InClusterConfig(); err != nil {
			return usageError{fmt.Errorf("there is no --kubeconfig, and this is no Pod: name the host's kubeconfig, or serve --standalone: %w", err)}
		}
		return nil
	}
	if c.Host, err = clientcmd.BuildConfigFromFlags("", o.kubeconfig); err != nil {
		return fmt.Errorf("read the kubeconfig %s: %w", o.kubeconfig, err)
	}
	return nil
}
