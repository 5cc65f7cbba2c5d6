package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/spf13/pflag"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	cliflag "k8s.io/component-base/cli/flag"
	basecompatibility "k8s.io/component-base/compatibility"
	"k8s.io/component-base/featuregate"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	utilversion "k8s.io/component-base/version"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	"k8s.io/kubernetes/pkg/controlplane/apiserver"

	"github.com/annex-api/annex/internal/etcd"
	"github.com/annex-api/annex/internal/etcd/datadir"
)

// identityRenewal is how often a server renews its identity Lease. That lasts
// an hour and is deleted at the start and the end of its server; kube-apiserver
// renews it every 10 s, which is the largest part of what it writes while idle.
const identityRenewal = time.Minute

var renewIdentitySeldom = sync.OnceFunc(func() {
	apiserver.IdentityLeaseRenewIntervalPeriod = max(apiserver.IdentityLeaseRenewIntervalPeriod, identityRenewal)
})

// Prepare sets the process's feature gates, renewal of identity Leases and logging as the flags ask.
// It is called once, before Run and before anything else logs: klog takes no new settings while it is
// in use. Flags, which may be nil, are logged.
func (o *Options) Prepare(flags *pflag.FlagSet) error {
	if !o.Plain {
		renewIdentitySeldom()
	}
	registry := o.Server.GenericServerRunOptions.ComponentGlobalsRegistry
	if err := registry.Set(); err != nil {
		return err
	}
	// The loopback clients' own warnings are of no use to anyone.
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	logs.InitLogs()
	if err := logsapi.ValidateAndApplyWithOptions(o.Server.Logs, o.loggingOptions(), registry.FeatureGateFor(basecompatibility.DefaultKubeComponent)); err != nil {
		return err
	}
	if flags != nil {
		cliflag.PrintFlags(flags)
	}
	return nil
}

// Run serves until ctx ends, then shuts down: the API server first, which drains its requests, then
// the embedded etcd. An error from before it serves is one sentence that names the thing and the
// remedy, and nothing was written when the input was wrong.
func (o *Options) Run(ctx context.Context) error {
	defer logs.FlushLogs()
	limit := memoryLimit(os.DirFS("/"))
	if limit > 0 && os.Getenv("GOMEMLIMIT") == "" && limit < debug.SetMemoryLimit(-1) { // a program's own stays
		debug.SetMemoryLimit(limit)
	}
	transport := &o.Server.Etcd.StorageConfig.Transport
	external := o.Etcd == nil && len(transport.ServerList) > 0
	switch {
	case o.Etcd != nil:
		transport.ServerList = []string{o.Etcd.Endpoint()}
	case !external:
		endpoint, err := etcd.Endpoint(o.etcdDir())
		if err != nil {
			return err
		}
		transport.ServerList = []string{endpoint}
	}
	if o.Listener != nil {
		o.Server.SecureServing.Listener = o.Listener
	}
	if err := o.preflight(ctx, external); err != nil {
		return err
	}
	completed, err := o.Server.Complete(ctx)
	if err != nil {
		return err
	}
	if errs := completed.Validate(); len(errs) != 0 {
		return utilerrors.NewAggregate(errs)
	}
	registry := o.Server.GenericServerRunOptions.ComponentGlobalsRegistry
	registry.FeatureGateFor(basecompatibility.DefaultKubeComponent).(featuregate.MutableFeatureGate).AddMetrics()
	registry.AddMetrics()

	if external || o.Etcd != nil {
		return o.serve(ctx, completed, o.Etcd)
	}
	dir, err := datadir.Claim(o.DataDir)
	if err != nil {
		return err
	}
	member, err := etcd.Launch(etcd.Options{Dir: o.etcdDir(), Log: o.Log, OnFatal: o.Fatal})
	if err != nil {
		return errors.Join(err, dir.Release())
	}
	return errors.Join(o.serve(ctx, completed, member), member.Stop(), dir.Release())
}

func (o *Options) etcdDir() string { return filepath.Join(o.DataDir, "etcd") }

// serve builds and runs the server. Member, where not nil, is the etcd that it needs.
func (o *Options) serve(ctx context.Context, opts options.CompletedOptions, member *etcd.Server) error {
	klog.Infof("Version: %+v", utilversion.Get())
	klog.InfoS("Golang settings", "GOGC", os.Getenv("GOGC"), "GOMAXPROCS", os.Getenv("GOMAXPROCS"), "GOTRACEBACK", os.Getenv("GOTRACEBACK"))

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	informers, err := cache.NewInformerName("kube-apiserver")
	if err != nil {
		return err
	}
	defer informers.Release()
	opts.InformerName = informers // a label of their metrics
	config, err := app.NewConfig(opts)
	if err != nil {
		return err
	}
	completed, err := config.Complete()
	if err != nil {
		return err
	}
	if member != nil {
		// The configuration was made while etcd started; building the chain needs it.
		if err := member.Ready(ctx); err != nil {
			return err
		}
		watching := make(chan struct{})
		go func() {
			defer close(watching)
			select {
			case err := <-member.Err():
				cancel(fmt.Errorf("embedded etcd in %s stopped: %w", o.etcdDir(), err))
			case <-ctx.Done():
			}
		}()
		defer func() { cancel(nil); <-watching }()
	}
	server, err := o.Chain(completed, o.chainOptions()...)
	if err != nil {
		return err
	}
	if err := server.Run(ctx); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
