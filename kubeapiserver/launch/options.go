// Package launch runs the server chain as kube-apiserver's flags ask.
package launch

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"
	"k8s.io/apiserver/pkg/server/flagz"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/component-base/cli/globalflag"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/component-base/version/verflag"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"

	"github.com/annex-api/annex/internal/etcd"
	"github.com/annex-api/annex/kubeapiserver"
)

// Chain builds the server from a completed configuration, and options for what the configuration has
// no word for.
type Chain func(app.CompletedConfig, ...kubeapiserver.Option) (Runner, error)

// Runner serves until ctx ends, and returns when it has shut down gracefully.
type Runner interface {
	Run(ctx context.Context) error
}

// Options are the flags, and what else a launch needs. Only one launch may happen in a process: the
// reference keeps feature gates and logging in globals.
type Options struct {
	// Server has kube-apiserver's own options.
	Server *options.ServerRunOptions
	// DataDir holds the embedded etcd, in the folder etcd; it is used when Server names no etcd.
	DataDir string
	// Etcd is a running member to use in place of one that Run starts; its owner stops it after Run.
	Etcd *etcd.Server
	// Plain leaves kube-apiserver's own parts as they are; see kubeapiserver.Plain.
	Plain bool
	// Chain builds the server.
	Chain Chain
	// Listener is served on in place of the address and port of Server, where it is not nil.
	Listener net.Listener
	// Log receives klog's output and etcd's warnings; nil means standard error.
	Log io.Writer
	// Fatal ends the process when the embedded etcd cannot go on; nil means a panic.
	Fatal func(error)

	sections cliflag.NamedFlagSets
}

// New returns kube-apiserver's defaults. Program names the process in the help of --help.
func New(program string, chain Chain) *Options {
	o := &Options{Server: options.NewServerRunOptions(), DataDir: DefaultDataDir(), Chain: chain}
	o.sections = o.Server.Flags()
	o.Server.Flagz = flagz.NamedFlagSetsReader{FlagSets: o.sections}
	global := o.sections.FlagSet("global")
	verflag.AddFlags(global)
	globalflag.AddGlobalFlags(global, program, logs.SkipLoggingConfigurationFlags())
	fs := o.sections.FlagSet("embedded etcd")
	fs.StringVar(&o.DataDir, "data-dir", o.DataDir, "Folder of the embedded etcd, which runs when --etcd-servers is absent. It is made with mode 0700, and used by one process at a time.")
	fs = o.sections.FlagSet("annex")
	fs.BoolVar(&o.Plain, "annex-plain-kube-apiserver", false, "Leave kube-apiserver's own parts around the aggregation layer as they are: its handler chain, authentication, priority and fairness, OpenAPI documents and identity Lease. It costs time and memory; use it to find out whether what Annex changes there is at fault.")
	return o
}

// Sections returns the flags by section, for help texts.
func (o *Options) Sections() cliflag.NamedFlagSets { return o.sections }

// AddFlags adds every flag to fs. Underscores in names are read as hyphens.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	fs.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	for _, section := range o.sections.FlagSets {
		fs.AddFlagSet(section)
	}
}

// DefaultDataDir is $XDG_DATA_HOME/annex, or else ~/.local/share/annex. It is empty, and one has to be
// named, where there is no home directory: a folder of a known name elsewhere may be anybody's.
func DefaultDataDir() string {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "annex")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "share", "annex")
	}
	return ""
}

// routingFlag is about endpoints and cluster IPs.
const routingFlag = "enable-aggregator-routing"

// chainOptions are what flags say beyond the configuration: whether one was given at all. Without
// --enable-aggregator-routing Services are reached by what works; with =false, at their cluster IP.
func (o *Options) chainOptions() []kubeapiserver.Option {
	var options []kubeapiserver.Option
	if o.Plain {
		options = append(options, kubeapiserver.Plain())
	}
	for _, section := range o.sections.FlagSets {
		if f := section.Lookup(routingFlag); f != nil && f.Changed && !o.Server.EnableAggregatorRouting {
			options = append(options, kubeapiserver.ClusterIPOnly())
		}
	}
	return options
}

func (o *Options) loggingOptions() *logsapi.LoggingOptions {
	if o.Log == nil {
		return nil
	}
	return &logsapi.LoggingOptions{ErrorStream: o.Log, InfoStream: o.Log}
}
