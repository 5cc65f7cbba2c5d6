package kubeapiservertest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	basecompatibility "k8s.io/component-base/compatibility"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"

	"github.com/annex-api/annex/internal/etcd"
	"github.com/annex-api/annex/internal/testcerts"
	"github.com/annex-api/annex/kubeapiserver"
	_ "github.com/annex-api/annex/kubeapiserver/version" // the server reports its own version
)

// The users of every Server, by token. Admin is of system:masters, the others
// have what a test binds to them.
const (
	Admin = "token-of-admin"
	Alice = "token-of-alice"
	Bob   = "token-of-bob"
	// Carol's requests are decided by a webhook, where one is configured.
	Carol = "token-of-carol"
	// Nobody sends no credentials.
	Nobody = ""
)

const users = Admin + `,admin,uid-admin,"system:masters"
` + Alice + `,alice,uid-alice,"developers,team-a"
` + Bob + `,bob,uid-bob
` + Carol + `,carol,uid-carol
`

// startTimeout bounds the wait for a server's readiness.
const startTimeout = time.Minute

// Server is a running API server.
type Server struct {
	// Address is host:port on loopback, URL the same with https.
	Address, URL string
	// Dir holds the server's files until Stop.
	Dir string
	// CA signs the serving certificate, FrontProxyCA that of the proxy.
	CA, FrontProxyCA *testcerts.Authority
	// Made is the configuration that the server was made of, as that has left it.
	Made app.CompletedConfig

	options []kubeapiserver.Option
	member  *etcd.Server // nil for a server that shares another's
	etcd    string
	cancel  context.CancelFunc
	done    chan error
}

// Launch starts a server with an etcd of its own, and returns when it is ready.
// flags are added to those that it needs, and win.
func Launch(flags ...string) (*Server, error) {
	dir, err := os.MkdirTemp("", "annex-test-")
	if err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
	member, err := etcd.Start(context.Background(), etcd.Options{Dir: filepath.Join(dir, "etcd"), Log: logs()})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	s := &Server{Dir: dir, member: member, etcd: member.Endpoint()}
	return s, s.launch(flags)
}

// Beside starts another server on the etcd of s, which must be stopped after
// it.
func (s *Server) Beside(flags ...string) (*Server, error) { return s.BesideWith(nil, flags...) }

// BesideWith is Beside with options of the server's chain.
func (s *Server) BesideWith(options []kubeapiserver.Option, flags ...string) (*Server, error) {
	dir, err := os.MkdirTemp("", "annex-test-")
	if err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
	other := &Server{Dir: dir, etcd: s.etcd, FrontProxyCA: s.FrontProxyCA, options: options}
	return other, other.launch(flags)
}

// featureGates makes the gates known before the first options are made.
var featureGates = sync.OnceValue(kubeapiserver.RegisterFeatureGates)

// redirectLog makes the process's log go where logs says, once.
var redirectLog = sync.OnceFunc(func() {
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	for name, value := range map[string]string{"logtostderr": "false", "alsologtostderr": "false", "stderrthreshold": "FATAL"} {
		if err := flags.Set(name, value); err != nil {
			panic(err) // a flag that klog no longer has
		}
	}
	klog.SetOutput(logs())
})

// logs is where servers log to: nowhere, unless ANNEX_TEST_LOG is set.
func logs() io.Writer {
	if os.Getenv("ANNEX_TEST_LOG") != "" {
		return os.Stderr
	}
	return io.Discard
}

func (s *Server) launch(flags []string) error {
	err := s.run(flags)
	if err == nil {
		err = s.awaitReady()
	}
	if err != nil {
		return errors.Join(err, s.Stop())
	}
	return nil
}

func (s *Server) run(flags []string) error {
	own, err := s.files()
	if err != nil {
		return err
	}
	if err := featureGates(); err != nil {
		return err
	}
	logsapi.ReapplyHandling = logsapi.ReapplyHandlingIgnoreUnchanged
	redirectLog()

	o := options.NewServerRunOptions()
	set := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
	sections := o.Flags()
	for _, section := range sections.FlagSets {
		set.AddFlagSet(section)
	}
	if err := set.Parse(override(own, flags)); err != nil {
		return fmt.Errorf("parsing flags: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	s.Address = listener.Addr().String()
	s.URL = "https://" + s.Address
	o.SecureServing.Listener = listener
	o.SecureServing.BindPort = listener.Addr().(*net.TCPAddr).Port

	server, err := s.build(o)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel, s.done = cancel, make(chan error, 1)
	go func() { s.done <- server.Run(ctx) }()
	return nil
}

// override leaves out the own flags that are given again: those with lists
// would add up.
func override(own, given []string) []string {
	named := map[string]bool{}
	for _, flag := range given {
		name, _, _ := strings.Cut(flag, "=")
		named[name] = true
	}
	var out []string
	for _, flag := range own {
		if name, _, _ := strings.Cut(flag, "="); !named[name] {
			out = append(out, flag)
		}
	}
	return append(out, given...)
}

func (s *Server) build(o *options.ServerRunOptions) (kubeapiserver.PreparedServer, error) {
	none := kubeapiserver.PreparedServer{}
	registry := o.GenericServerRunOptions.ComponentGlobalsRegistry
	if err := registry.Set(); err != nil {
		return none, fmt.Errorf("setting feature gates: %w", err)
	}
	if registry.FeatureGateFor(basecompatibility.DefaultKubeComponent) == nil {
		return none, errors.New("no feature gates for kube-apiserver")
	}
	completed, err := o.Complete(context.Background())
	if err != nil {
		return none, fmt.Errorf("completing options: %w", err)
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return none, utilerrors.NewAggregate(errs)
	}
	config, err := app.NewConfig(completed)
	if err != nil {
		return none, fmt.Errorf("making the config: %w", err)
	}
	ready, err := config.Complete()
	if err != nil {
		return none, fmt.Errorf("completing the config: %w", err)
	}
	s.Made = ready
	server, err := kubeapiserver.CreateServerChain(ready, s.options...)
	if err != nil {
		return none, err
	}
	return server.PrepareRun()
}

// files writes what the server reads, and returns the flags that name it.
func (s *Server) files() ([]string, error) {
	s.CA = testcerts.New("test-ca")
	if s.FrontProxyCA == nil {
		s.FrontProxyCA = testcerts.New("test-front-proxy-ca")
	}
	serving := s.CA.Issue(testcerts.Subject{
		Name: "kube-apiserver", Hosts: []string{"localhost", "kubernetes.default.svc", "127.0.0.1"},
	})
	signer := s.CA.Issue(testcerts.Subject{Name: "service-accounts"})
	for name, data := range map[string][]byte{
		"ca.crt": s.CA.PEM, "front-proxy-ca.crt": s.FrontProxyCA.PEM,
		"serving.crt": serving.Cert, "serving.key": serving.Key,
		"sa.key": signer.Key, "users.csv": []byte(users),
	} {
		if err := os.WriteFile(filepath.Join(s.Dir, name), data, 0o600); err != nil {
			return nil, fmt.Errorf("writing %s: %w", name, err)
		}
	}
	if err := s.SetProxyClient("front-proxy-client"); err != nil {
		return nil, err
	}
	file := func(flag, name string) string { return "--" + flag + "=" + filepath.Join(s.Dir, name) }
	return []string{
		"--etcd-servers=" + s.etcd,
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none", // no endpoint may be at a loopback address
		"--service-cluster-ip-range=10.0.0.0/24",
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://issuer.test",
		file("token-auth-file", "users.csv"),
		file("client-ca-file", "ca.crt"),
		file("tls-cert-file", "serving.crt"), file("tls-private-key-file", "serving.key"),
		file("requestheader-client-ca-file", "front-proxy-ca.crt"),
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		file("proxy-client-cert-file", "proxy.crt"), file("proxy-client-key-file", "proxy.key"),
		file("service-account-key-file", "sa.key"), file("service-account-signing-key-file", "sa.key"),
	}, nil
}

// SetProxyClient replaces the files of the certificate by which extension
// servers know the server.
func (s *Server) SetProxyClient(commonName string) error {
	_, _, err := s.FrontProxyCA.Issue(testcerts.Subject{Name: commonName}).Write(s.Dir, "proxy")
	return err
}

func (s *Server) awaitReady() error {
	client := s.Client(Admin)
	deadline := time.After(startTimeout)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		response, err := client.Get(s.URL + "/readyz")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("/readyz answers %d", response.StatusCode)
		}
		select {
		case stopped := <-s.done:
			s.done <- stopped
			return fmt.Errorf("the server stopped: %w", stopped)
		case <-deadline:
			return fmt.Errorf("the server is not ready after %v: %w", startTimeout, err)
		case <-tick.C:
		}
	}
}

// Stop shuts down and removes all files.
func (s *Server) Stop() error {
	var errs []error
	if s.cancel != nil {
		s.cancel()
		errs = append(errs, <-s.done)
	}
	if s.member != nil {
		errs = append(errs, s.member.Stop())
	}
	return errors.Join(append(errs, os.RemoveAll(s.Dir))...)
}
