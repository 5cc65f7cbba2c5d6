package extension

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/extension/storage"
)

// The defaults of Config.
const (
	DefaultRequestTimeout = 60 * time.Second
	DefaultDrain          = 5 * time.Second
	DefaultShutdownDelay  = 5 * time.Second
)

// Config is the setting of a server.
type Config struct {
	// Name is the server's: that of its Service, part of certificates, leases and user
	// agents. It is a DNS label.
	Name string
	// Storage is a URL such as etcd://host:2379, embedded:///dir, sqlite:///file,
	// postgres://user@host/database or memory://. It is needed if any kind is stored.
	Storage string
	// Drivers open the storage that URLs name. A program links those that it lists here
	// or by the part [Drivers].
	Drivers []storage.Driver
	// Prefix is the key below which everything is stored; empty: "/registry/" and Name.
	Prefix string
	// Host leads to the host API server, which decides who callers are and what they may
	// do. Either Host or Standalone is set.
	Host *rest.Config
	// Standalone serves without a host.
	Standalone *Standalone
	// Listener is what the server serves on, with TLS. New takes it over, also where it
	// fails, and the server closes it. Nil: in process alone.
	Listener net.Listener
	// Serving says where the certificate comes from that Listener shows.
	Serving Serving
	// Register keeps an APIService at the host for each group version; nil registers
	// nothing.
	Register *Registration
	// Admission are the host's webhooks and policies; zero: On, as what they forbid would
	// pass otherwise. Fairness are its flow schemas; zero: Auto.
	Admission, Fairness Feature
	// Audit says what is written down of requests.
	Audit Audit
	// LeaderElection says by which lease one of several replicas runs the controllers.
	LeaderElection LeaderElection
	// ControllerMetrics is the address on which the metrics of controllers are served,
	// such as 127.0.0.1:8080, and ControllerHealth that of their health, by plain HTTP:
	// /healthz and /readyz fail while they do not run. Empty: nowhere. The server's own
	// /healthz has a check controllers.
	ControllerMetrics, ControllerHealth string
	// RequestTimeout bounds requests that are neither watches nor actions nor streams, 1 s
	// to 10 m; zero: DefaultRequestTimeout. k8s.io/apiserver bounds create, update, patch
	// and delete at 34 s in any case.
	RequestTimeout time.Duration
	// ShutdownDelay is how long a stop goes on serving after /readyz fails, so that others
	// send no more requests here, up to 1 m. Zero: DefaultShutdownDelay where there are a
	// Host and a Listener. Negative: none.
	ShutdownDelay time.Duration
	// Drain is how long a stop waits for watches, and for actions and streams, whose
	// contexts have ended, up to 1 m; zero: DefaultDrain. Negative: not at all.
	Drain time.Duration
	// Log gets what a server says of itself: rights that are missing, policies that are
	// off, its certificate, its registration, its storage. The zero value is klog.
	Log logr.Logger
}

// Standalone is a server without a host. It decides itself: members of the groups admin
// and system:masters may do everything, those of view may get, list and watch.
type Standalone struct {
	// Tokens are bearer tokens and whose they are.
	Tokens map[string]Caller
}

// Feature says whether something is on.
type Feature int

// Auto means: as far as the host has it, and lets this server see it at the start. On
// means: as far as the host has it; a server that may not see it is not ready until it
// may.
const (
	Auto Feature = iota + 1
	On
	Off
)

// Audit says what is written down of requests. There is no audit without it.
type Audit struct {
	// PolicyFile is a Policy of audit.k8s.io/v1, and LogPath the file that gets the events;
	// - is the standard output. They go together.
	PolicyFile, LogPath string
	// MaxAge, in days, MaxBackups and MaxSize, in megabytes, bound old files; zero: 366,
	// 100, 100, as a kube-apiserver has them.
	MaxAge, MaxBackups, MaxSize int
}

// LeaderElection says by which lease, at the Host, one of several replicas runs the
// controllers. The others wait, and serve.
type LeaderElection struct {
	// Off has every replica run them, which is right for one.
	Off bool
	// Namespace is the lease's: empty, that of the Service that is registered, else of
	// the Secret of the certificate, else of this Pod. Name is the server's if empty.
	Namespace, Name string
}

// Serving says where the serving certificate comes from. With nothing set, it is made in
// memory, and is another one after a restart.
type Serving struct {
	// CertFile and KeyFile are PEM files, which are read again when they change. CAFile is
	// the bundle that clients know the certificate by; without it somebody else has to see
	// to the caBundle of APIServices.
	CertFile, KeyFile, CAFile string
	// Folder keeps a certificate that the server makes and renews.
	Folder string
	// Secret, at the host, does the same for replicas that share one certificate.
	Secret types.NamespacedName
	// Hosts are further DNS names and IP addresses that a made certificate is valid for.
	Hosts []string
}

// Registration says how a server is registered at its host.
type Registration struct {
	// Service is the server's own.
	Service types.NamespacedName
	// Port is the Service's; zero means 443.
	Port int32
	// GroupPriorityMinimum and VersionPriority order groups and versions in discovery;
	// zero means 1000 and 15.
	GroupPriorityMinimum, VersionPriority int32
	// Owner is a ClusterRole whose deletion takes the APIServices along.
	Owner string
}

// WithDefaults is the configuration with defaults in the place of what is empty.
func (c Config) WithDefaults() Config {
	if c.Prefix == "" {
		c.Prefix = "/registry/" + c.Name
	}
	if c.RequestTimeout == 0 {
		c.RequestTimeout = DefaultRequestTimeout
	}
	if c.Drain == 0 {
		c.Drain = DefaultDrain
	}
	if c.ShutdownDelay == 0 && c.Host != nil && c.Listener != nil {
		c.ShutdownDelay = DefaultShutdownDelay
	}
	if c.Admission == 0 {
		c.Admission = On
	}
	if c.Fairness == 0 {
		c.Fairness = Auto
	}
	if c.LeaderElection.Name == "" {
		c.LeaderElection.Name = c.Name
	}
	if c.LeaderElection.Namespace == "" && c.Host != nil {
		c.LeaderElection.Namespace = c.namespace()
	}
	if c.Log.GetSink() == nil {
		c.Log = klog.Background()
	}
	return c
}

// namespace is where the server runs, as far as it is known.
func (c Config) namespace() string {
	switch {
	case c.Register != nil && c.Register.Service.Namespace != "":
		return c.Register.Service.Namespace
	case c.Serving.Secret.Namespace != "":
		return c.Serving.Secret.Namespace
	}
	data, err := os.ReadFile(podNamespace)
	if err != nil {
		return "" // this is no Pod
	}
	return strings.TrimSpace(string(data))
}

// podNamespace is where a Pod finds that of its service account.
const podNamespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// Validate gives all that is wrong with a configuration that has its defaults.
func (c Config) Validate() error {
	var errs []error
	add := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("configuration: %s: %s", field, fmt.Sprintf(format, args...)))
	}
	if problems := validation.IsDNS1035Label(c.Name); len(problems) > 0 {
		add("Name", "%q is no name of a Service: %s", c.Name, strings.Join(problems, "; "))
	}
	if !strings.HasPrefix(c.Prefix, "/") || strings.HasSuffix(c.Prefix, "/") {
		add("Prefix", "%q does not begin with a slash, or ends with one", c.Prefix)
	}
	if (c.Host == nil) == (c.Standalone == nil) {
		add("Host, Standalone", "one of them is needed: who decides what callers may do?")
	}
	if c.Standalone != nil && c.Listener != nil && !isLoopback(c.Listener.Addr()) {
		add("Listener", "a standalone server serves on loopback only, not on %s", c.Listener.Addr())
	}
	if c.Standalone != nil {
		for token, who := range c.Standalone.Tokens {
			if len(token) < minToken || who.Name == "" {
				add("Standalone.Tokens", "the token of %q has fewer than %d bytes, or its user has no name", who.Name, minToken)
			}
		}
	}
	if c.Register != nil && (c.Host == nil || c.Listener == nil || c.Register.Service.Name == "" || c.Register.Service.Namespace == "") {
		add("Register", "it needs a Host, a Listener, and the Service's name and namespace")
	}
	if c.Serving.Secret.Name != "" && c.Host == nil {
		add("Serving.Secret", "a Secret needs a Host that has it")
	}
	if (c.Serving.CertFile == "") != (c.Serving.KeyFile == "") {
		add("Serving", "CertFile and KeyFile go together")
	}
	if c.RequestTimeout < time.Second || c.RequestTimeout > 10*time.Minute {
		add("RequestTimeout", "%s is not between 1s and 10m", c.RequestTimeout)
	}
	if c.Drain > time.Minute {
		add("Drain", "%s is more than 1m", c.Drain)
	}
	if c.ShutdownDelay > time.Minute {
		add("ShutdownDelay", "%s is more than 1m", c.ShutdownDelay)
	}
	if (c.Audit.PolicyFile == "") != (c.Audit.LogPath == "") {
		add("Audit", "PolicyFile and LogPath go together: nothing is written down without either")
	}
	for field, f := range map[string]Feature{"Admission": c.Admission, "Fairness": c.Fairness} {
		if f < Auto || f > Off {
			add(field, "%d is not Auto, On or Off", f)
		}
	}
	return errors.Join(errs...)
}

// lease is the one by which one of several replicas runs the controllers; none without
// an election. That it cannot be had is an error: each replica would run them, unseen.
func (c Config) lease() (types.NamespacedName, error) {
	if c.Host == nil || c.LeaderElection.Off {
		return types.NamespacedName{}, nil
	}
	if c.LeaderElection.Namespace == "" {
		return types.NamespacedName{}, errors.New("configuration: LeaderElection: the controllers of several replicas need a lease: set its Namespace, or Off for one replica")
	}
	return types.NamespacedName{Namespace: c.LeaderElection.Namespace, Name: c.LeaderElection.Name}, nil
}

// minToken is how short a token may be, in bytes.
const minToken = 16

func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// Drivers is a part that adds storage drivers to those that URLs may name.
func Drivers(drivers ...storage.Driver) Part { return driversPart(drivers) }

type driversPart []storage.Driver

func (d driversPart) addTo(a *assembly) error {
	a.drivers = append(a.drivers, d...)
	return nil
}
