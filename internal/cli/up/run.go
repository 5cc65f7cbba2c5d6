package up

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/internal/child"
	"github.com/annex-api/annex/internal/cli/flags"
	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/internal/etcd"
	"github.com/annex-api/annex/internal/etcd/datadir"
	"github.com/annex-api/annex/kubeapiserver/certs"
	"github.com/annex-api/annex/kubeapiserver/launch"
)

// run starts everything, in the order of what can be wrong with the input, and undoes it in reverse:
// the demo, the API server, etcd.
func (o *Options) run(ctx context.Context) (err error) {
	begin := time.Now()
	progress := terminal.NewProgress(o.IO.Err, o.Quiet)
	undo := func(f func() error) { err = errors.Join(err, f()) }
	if o.Ephemeral {
		defer undo(func() error { return os.RemoveAll(o.DataDir) })
	}

	server, err := o.server()
	if err != nil {
		return err
	}
	listener, err := launch.Listen(ctx, "", o.BindAddress, o.Port)
	if err != nil {
		return err
	}
	defer listener.Close() // the server closes it too
	o.Port = listener.Addr().(*net.TCPAddr).Port
	server.Listener = listener
	server.Server.SecureServing.BindPort = o.Port

	dir, err := datadir.Claim(o.DataDir)
	if err != nil {
		return err
	}
	defer undo(dir.Release)
	if !o.Verbose {
		log := newLogFile(o.logFile())
		defer undo(log.Close)
		server.Log = log
	}
	if err := server.Prepare(nil); err != nil {
		return err
	}

	var store *certs.Store
	err = progress.Step("certificates", func() error {
		store, err = certs.Open(certs.Options{Dir: o.pkiDir(), Hosts: o.hosts()})
		if err != nil {
			return err
		}
		return o.writeKubeconfigs(store.Files())
	})
	if err != nil {
		return err
	}
	renewing, stopRenewing := context.WithCancel(context.WithoutCancel(ctx))
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		store.Run(renewing, o.renewed(store.Files()))
	}()
	defer func() { stopRenewing(); <-renewed }()

	etcdBegin := time.Now()
	if len(server.Server.Etcd.StorageConfig.Transport.ServerList) == 0 {
		member, err := etcd.Launch(etcd.Options{Dir: filepath.Join(o.DataDir, "etcd"), Log: server.Log, OnFatal: o.Fatal})
		if err != nil {
			progress.Failed("etcd", time.Since(etcdBegin))
			return err
		}
		defer undo(member.Stop)
		server.Etcd = member
	}

	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- server.Run(serving) }()
	running := true
	defer undo(func() error {
		stopServing()
		if !running {
			return nil
		}
		return <-served
	})

	client, err := newClient(o.address(), store.Files())
	if err != nil {
		return err
	}
	serverBegin := time.Now()
	etcdReady := make(chan struct{})
	if server.Etcd != nil {
		go func() {
			defer close(etcdReady)
			if server.Etcd.Ready(serving) == nil {
				progress.Done("etcd", time.Since(etcdBegin))
			}
		}()
		defer func() { stopServing(); <-etcdReady }()
	}
	asking, stopAsking := context.WithCancel(ctx)
	answered := client.ready(asking)
	select {
	case err := <-served:
		running = false
		stopAsking()
		<-answered
		progress.Failed("API server", time.Since(serverBegin))
		return o.ended(err)
	case err := <-answered:
		stopAsking()
		if err != nil {
			return err
		}
	}
	progress.Done("API server", time.Since(serverBegin))
	ready := time.Since(begin)

	var demo *child.Process
	if o.Demo {
		var demoErr error
		demo, demoErr = o.demo(ctx, progress, client, store, server)
		if demo != nil {
			defer undo(func() error { return o.stopDemo(client, demo) })
		}
		if demoErr != nil && ctx.Err() == nil {
			fmt.Fprintf(o.IO.Err, "annex up: the demo did not start: %v; the server keeps running\n", demoErr)
		}
	}
	if ctx.Err() == nil {
		o.printReady(ready)
	}
	for demoEnded := demo.Ended(); ; {
		select {
		case <-ctx.Done():
			progress.Say("\nstopping")
			return nil
		case err := <-served:
			running = false
			return o.ended(err)
		case <-demoEnded:
			demoEnded = nil
			fmt.Fprintf(o.IO.Err, "annex up: the demo server ended (%v), see %s; the API server keeps running\n", demo.Err(), o.demoLog())
		}
	}
}

// ended explains a server that ended on its own.
func (o *Options) ended(err error) error {
	if err == nil {
		err = errors.New("the API server ended unasked")
	}
	if o.Ephemeral || o.Verbose {
		return err
	}
	return fmt.Errorf("%w (log: %s)", err, o.logFile())
}

// renewed rewrites the kubeconfigs, which hold certificates.
func (o *Options) renewed(files certs.Files) func([]string, error) {
	return func(written []string, err error) {
		if err != nil {
			klog.ErrorS(err, "Renewing certificates failed")
		}
		if len(written) == 0 {
			return
		}
		klog.InfoS("Renewed certificates", "files", written)
		if err := o.writeKubeconfigs(files); err != nil {
			klog.ErrorS(err, "Writing the kubeconfig with the renewed certificates failed")
		}
	}
}

// server returns the launch with our flags, and the user's after them.
func (o *Options) server() (*launch.Options, error) {
	f := certs.Paths(o.pkiDir())
	args := []string{
		"--bind-address=" + o.BindAddress.String(),
		"--authorization-mode=Node,RBAC",
		"--client-ca-file=" + f.CA.Cert,
		"--tls-cert-file=" + f.Server.Cert,
		"--tls-private-key-file=" + f.Server.Key,
		"--service-cluster-ip-range=10.96.0.0/12",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + f.ServiceAccountPub,
		"--service-account-signing-key-file=" + f.ServiceAccountKey,
		"--requestheader-client-ca-file=" + f.FrontProxyCA.Cert,
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-uid-headers=X-Remote-Uid",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + f.FrontProxyClient.Cert,
		"--proxy-client-key-file=" + f.FrontProxyClient.Key,
		// Without it the end waits a minute for the watches of whoever looks on.
		"--shutdown-watch-termination-grace-period=1s",
	}
	if o.BindAddress.IsLoopback() {
		// Nobody can reach an address that endpoints could name, and loopback is none they may name.
		args = append(args, "--endpoint-reconciler-type=none", "--advertise-address="+o.BindAddress.String())
	}
	server := launch.New("annex up", o.Chain)
	server.Fatal = o.Fatal
	fs := pflag.NewFlagSet("annex up", pflag.ContinueOnError)
	fs.SetOutput(o.IO.Err)
	fs.Usage = func() {}
	server.AddFlags(fs)
	if err := fs.Parse(append(args, o.ServerArgs...)); err != nil {
		return nil, fmt.Errorf("after --: %w", flags.Explain(fs, "annex serve", err))
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("after --: unexpected argument %q; only flags of kube-apiserver go there", fs.Arg(0))
	}
	if s := server.Server.SecureServing; !s.BindAddress.Equal(o.BindAddress) || s.BindPort != defaultServerPort {
		return nil, errors.New("after --: the address is not a flag of the server here; use --bind-address and --port before --")
	}
	return server, nil
}

// defaultServerPort is kube-apiserver's own default of --secure-port.
const defaultServerPort = 6443

// hosts are the names of the server beside its usual ones.
func (o *Options) hosts() []string {
	if !o.BindAddress.IsUnspecified() {
		return []string{o.BindAddress.String()}
	}
	var hosts []string
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			hosts = append(hosts, n.IP.String())
		}
	}
	return hosts
}

// address is how a client on this machine reaches the server.
func (o *Options) address() string {
	host := o.BindAddress
	switch {
	case host.Equal(net.IPv4zero):
		host = net.IPv4(127, 0, 0, 1)
	case host.IsUnspecified():
		host = net.IPv6loopback
	}
	return "https://" + net.JoinHostPort(host.String(), strconv.Itoa(o.Port))
}

func (o *Options) printReady(d time.Duration) {
	path, _ := o.kubeconfig()
	if o.Quiet {
		fmt.Fprintln(o.IO.Out, path)
		return
	}
	w := o.IO.Out
	fmt.Fprintf(w, "\nserver ready in %.1fs at %s\n\n", d.Seconds(), o.address())
	fmt.Fprintf(w, "  export KUBECONFIG=%s\n  kubectl get apiservices\n", shellQuote(path))
	if o.Demo {
		fmt.Fprintf(w, "  kubectl get notices --all-namespaces\n")
	}
	if !o.Verbose {
		fmt.Fprintf(w, "\nlog: %s\n", o.logFile())
	}
	fmt.Fprint(w, "Ctrl-C stops it.\n")
}
