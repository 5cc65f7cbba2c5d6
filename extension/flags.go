package extension

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// options are the flags of Main.
type options struct {
	storage, storageFile, prefix string
	kubeconfig, standalone       string
	address                      string
	port                         uint16
	listenFD, readyFD            int
	certFile, keyFile, caFile    string
	certFolder, certSecret       string
	service                      string
	servicePort                  uint16
	register                     bool
	owner                        string
	admission, fairness          string
	audit                        Audit
	controllersOnly, leaderElect bool
	withoutControllers           bool
	leaseNamespace, leaseName    string
	controllerMetrics            string
	controllerHealth             string
	shutdownDelay, drain         time.Duration
	verbosity                    int
}

func defaultOptions(name string) *options {
	return &options{
		port: 8443, servicePort: 443, owner: name, admission: "on", fairness: "auto", leaderElect: true, leaseName: name,
		shutdownDelay: DefaultShutdownDelay, drain: DefaultDrain,
	}
}

func (o *options) flags(name string) *pflag.FlagSet {
	f := pflag.NewFlagSet(name, pflag.ContinueOnError)
	f.SortFlags = false
	f.StringVar(&o.storage, "storage", o.storage, "where objects are kept: a URL, such as sqlite:///var/lib/"+name+".db. Everybody on the machine sees it: a password is better in --storage-file")
	f.StringVar(&o.storageFile, "storage-file", o.storageFile, "file with that URL, such as the mounted key of a Secret")
	f.StringVar(&o.prefix, "storage-prefix", o.prefix, "key below which everything is stored; empty: /registry/"+name)
	f.StringVar(&o.kubeconfig, "kubeconfig", o.kubeconfig, "kubeconfig of the host API server; empty: the service account of this Pod")
	f.StringVar(&o.standalone, "standalone", o.standalone, "serve without a host, on loopback, and keep certificates and a kubeconfig in this folder")
	f.StringVar(&o.address, "bind-address", o.address, "IP address to serve on; empty: all, and 127.0.0.1 with --standalone")
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
	f.StringVar(&o.admission, "admission", o.admission, "the host's webhooks and policies: on (not ready before this server may see them), auto (as far as it may at the start), off")
	f.StringVar(&o.fairness, "fairness", o.fairness, "the host's priority and fairness: on, auto, off")
	f.StringVar(&o.audit.PolicyFile, "audit-policy-file", o.audit.PolicyFile, "Policy of audit.k8s.io/v1; goes together with --audit-log-path")
	f.StringVar(&o.audit.LogPath, "audit-log-path", o.audit.LogPath, "file that gets audit events; - is the standard output")
	f.IntVar(&o.audit.MaxAge, "audit-log-maxage", o.audit.MaxAge, "days for which old audit logs are kept; 0: 366")
	f.IntVar(&o.audit.MaxBackups, "audit-log-maxbackup", o.audit.MaxBackups, "how many old audit logs are kept; 0: 100")
	f.IntVar(&o.audit.MaxSize, "audit-log-maxsize", o.audit.MaxSize, "megabytes of an audit log; 0: 100")
	f.BoolVar(&o.controllersOnly, "controllers-only", o.controllersOnly, "run the controllers without the server, as a Deployment of their own")
	f.BoolVar(&o.withoutControllers, "without-controllers", o.withoutControllers, "run the server without the controllers, which are a Deployment of their own")
	f.BoolVar(&o.leaderElect, "leader-elect", o.leaderElect, "run the controllers in one of the replicas; switched off, in each")
	f.StringVar(&o.leaseNamespace, "leader-elect-resource-namespace", o.leaseNamespace, "namespace of the lease; empty: that of --service, else of --tls-secret, else of this Pod")
	f.StringVar(&o.leaseName, "leader-elect-resource-name", o.leaseName, "name of the lease")
	f.StringVar(&o.controllerMetrics, "controller-metrics-address", o.controllerMetrics, "where the metrics of controllers are served, by HTTP; empty: nowhere")
	f.StringVar(&o.controllerHealth, "controller-health-address", o.controllerHealth, "where /healthz, /livez and /readyz of controllers are served, by HTTP; empty: nowhere")
	f.DurationVar(&o.shutdownDelay, "shutdown-delay-duration", o.shutdownDelay, "how long a stop goes on serving after /readyz fails; 0 unless given with --standalone and --listen-fd")
	f.DurationVar(&o.drain, "drain", o.drain, "how long a stop waits for watches, actions and streams")
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
  %[1]s --service default/%[1]s --register --tls-secret default/%[1]s-serving --storage-file /etc/%[1]s/storage

Flags:
%s`, name, flags.FlagUsages())
}

// setDefaults fills in what depends on other flags.
func (o *options) setDefaults(given *pflag.FlagSet) {
	if o.address == "" {
		o.address = "0.0.0.0"
		if o.standalone != "" {
			o.address = "127.0.0.1"
		}
	}
	// Without a host nobody sends requests here by its endpoints, and a parent with a socket
	// of its own sends them elsewhere.
	if (o.standalone != "" || o.listenFD != 0) && !given.Changed("shutdown-delay-duration") {
		o.shutdownDelay = 0
	}
}

func (o *options) validate() error {
	var errs []error
	add := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("--%s: %s", flag, fmt.Sprintf(format, args...)))
	}
	if o.storage != "" && o.storageFile != "" {
		add("storage-file", "it is given in place of --storage")
	}
	if o.controllersOnly && (o.standalone != "" || o.register || o.storage != "" || o.storageFile != "") {
		add("controllers-only", "there is no server then: --standalone, --register, --storage and --storage-file are for one")
	}
	if o.controllersOnly && o.withoutControllers {
		add("without-controllers", "with --controllers-only there is nothing to run then")
	}
	for flag, value := range map[string]string{"admission": o.admission, "fairness": o.fairness} {
		if featureOf[value] == 0 {
			add(flag, "%q is not on, auto or off", value)
		}
	}
	if (o.audit.PolicyFile == "") != (o.audit.LogPath == "") {
		add("audit-policy-file", "it goes together with --audit-log-path")
	}
	for flag, value := range map[string]int{"audit-log-maxage": o.audit.MaxAge, "audit-log-maxbackup": o.audit.MaxBackups, "audit-log-maxsize": o.audit.MaxSize} {
		if value < 0 {
			add(flag, "%d is less than nothing", value)
		}
	}
	for flag, value := range map[string]time.Duration{"drain": o.drain, "shutdown-delay-duration": o.shutdownDelay} {
		if value < 0 || value > time.Minute {
			add(flag, "%s is not between 0 and 1m", value)
		}
	}
	if o.standalone != "" {
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

// features are the values of flags that say what is on.
var featureOf = map[string]Feature{"on": On, "auto": Auto, "off": Off}

// orNone is a duration for a Config, in which zero means something else.
func orNone(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// common is what a server and controllers alone have of a configuration.
func (o *options) common(name string) Config {
	c := Config{
		Name:              name,
		LeaderElection:    LeaderElection{Off: !o.leaderElect, Namespace: o.leaseNamespace, Name: o.leaseName},
		ControllerMetrics: o.controllerMetrics, ControllerHealth: o.controllerHealth,
		Log: klog.Background(),
	}
	if c.LeaderElection.Namespace == "" {
		c.LeaderElection.Namespace = cmp.Or(named(o.service).Namespace, named(o.certSecret).Namespace)
	}
	return c
}

// storageURL is where objects are kept.
func (o *options) storageURL() (string, error) {
	if o.storageFile == "" {
		return o.storage, nil
	}
	data, err := os.ReadFile(o.storageFile)
	if err != nil {
		return "", fmt.Errorf("--storage-file: %w", err)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return "", fmt.Errorf("--storage-file: %s is empty", o.storageFile)
	}
	return string(bytes.TrimSpace(data)), nil
}

func (o *options) config(name string) (Config, error) {
	c := o.common(name)
	var err error
	if c.Storage, err = o.storageURL(); err != nil {
		return Config{}, err
	}
	o.fill(&c)
	if err := o.trust(&c); err != nil {
		return Config{}, err
	}
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

// fill sets what flags alone say.
func (o *options) fill(c *Config) {
	c.Prefix = o.prefix
	c.ShutdownDelay, c.Drain = orNone(o.shutdownDelay), orNone(o.drain)
	c.Admission, c.Fairness, c.Audit = featureOf[o.admission], featureOf[o.fairness], o.audit
	c.Serving = Serving{CertFile: o.certFile, KeyFile: o.keyFile, CAFile: o.caFile, Folder: o.certFolder, Secret: named(o.certSecret)}
	if o.register {
		c.Register = &Registration{Service: named(o.service), Port: int32(o.servicePort), Owner: o.owner}
	}
	if s := named(o.service); s.Name != "" {
		c.Serving.Hosts = []string{s.Name + "." + s.Namespace + ".svc", s.Name + "." + s.Namespace + ".svc.cluster.local"}
	}
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
