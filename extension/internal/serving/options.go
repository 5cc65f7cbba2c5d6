package serving

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
)

// The defaults of Options.
const (
	DefaultLife    = 90 * 24 * time.Hour
	DefaultCALife  = 5 * 365 * 24 * time.Hour
	DefaultOverlap = time.Hour
)

// Options says where the certificate comes from: from CertFile and KeyFile, or it is
// made, and then kept in Secret, in Folder, or in memory if neither is given.
type Options struct {
	// Name is the server's. It is the common name of what is made.
	Name string

	// CertFile and KeyFile are PEM, and are read again when they change. CAFile is the
	// bundle by which clients know the certificate; without it the bundle is empty, which
	// means that somebody else looks after it.
	CertFile, KeyFile, CAFile string

	// Folder is kept at mode 0700 with files of mode 0600. It is made if it is not there.
	Folder string
	// Secret is shared by replicas. Whoever finds none, or an empty one, makes it.
	Secret Secret

	// Service is the server's own. The certificate is valid for its names, for
	// localhost and for Hosts, which are DNS names and IP addresses.
	Service types.NamespacedName
	Hosts   []string

	// Life is how long a certificate is valid, CALife the same for the CA. Both are
	// renewed after two thirds of it.
	Life, CALife time.Duration
	// Overlap is how long a new CA is in the bundle before it signs, and how long the old
	// one stays in it after that. It must be longer than a bundle takes to its clients.
	Overlap time.Duration

	Log logr.Logger
}

// Secret is where replicas share a certificate. Client is that of its namespace.
type Secret struct {
	Client corev1client.SecretInterface
	Name   string
}

// SetDefaults fills in what is not set.
func (o *Options) SetDefaults() {
	if o.Life == 0 {
		o.Life = DefaultLife
	}
	if o.CALife == 0 {
		o.CALife = DefaultCALife
	}
	if o.Overlap == 0 {
		o.Overlap = min(DefaultOverlap, o.CALife/12)
	}
}

// Validate says what is wrong with options that have their defaults.
func (o *Options) Validate() error {
	var errs []error
	places := 0
	for _, set := range []bool{o.CertFile != "" || o.KeyFile != "", o.Folder != "", o.Secret.Client != nil} {
		if set {
			places++
		}
	}
	if places > 1 {
		errs = append(errs, errors.New("the certificate comes from files, or is kept in a folder, or in a Secret: only one of them"))
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		errs = append(errs, errors.New("the files of the certificate and of its key go together"))
	}
	if o.CAFile != "" && o.CertFile == "" {
		errs = append(errs, errors.New("a CA file goes with the files of a certificate"))
	}
	if (o.Secret.Client == nil) != (o.Secret.Name == "") {
		errs = append(errs, errors.New("a Secret needs a name and a client"))
	}
	if o.Life < 0 || o.CALife < 0 || o.Overlap < 0 || o.Overlap > o.CALife/6 {
		errs = append(errs, fmt.Errorf("a CA that is valid for %v cannot overlap with the next for %v: at most a sixth", o.CALife, o.Overlap))
	}
	if len(o.hosts()) > maxHosts {
		errs = append(errs, fmt.Errorf("a certificate for %d hosts: at most %d", len(o.hosts()), maxHosts))
	}
	return errors.Join(errs...)
}

// maxHosts bounds the names of a certificate.
const maxHosts = 64

// hosts are the names and addresses of the certificate, sorted, each once.
func (o *Options) hosts() []string {
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	if o.Service.Name != "" {
		name := o.Service.Name + "." + o.Service.Namespace + ".svc"
		hosts = append(hosts, name, name+".cluster.local")
	}
	for _, host := range o.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			host = ip.String()
		}
		hosts = append(hosts, host)
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}
