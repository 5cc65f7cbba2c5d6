package extensiontest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregatorclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"

	"github.com/annex-api/annex/extension"
)

// The variables of the environment that say where [StartHost] has a host from.
const (
	// HostKubeconfig names the kubeconfig of a host that runs already. It reaches this
	// machine as localhost, and its user may do everything.
	HostKubeconfig = "ANNEX_TEST_KUBECONFIG"
	// HostBinary is the path of annex. Without it annex is looked for in PATH.
	HostBinary = "ANNEX_TEST_BINARY"
)

const (
	// hostTimeout bounds the start of a host, and what a server there waits for.
	hostTimeout = 2 * time.Minute
	// hostPoll is between two looks at what a host does, and hostCall bounds one request.
	hostPoll, hostCall = 50 * time.Millisecond, 10 * time.Second
	// hostNamespace is of the Services that lead a host to a test's servers. It is always there.
	hostNamespace = metav1.NamespaceDefault
)

// Host is a host API server for tests: it decides who callers are and what they may do, it
// has namespaces, admission webhooks and policies, and it leads requests to the servers
// that are registered with it.
type Host struct {
	// Config reaches it as a user who may do everything, and Kubeconfig is a file by which
	// other programs do.
	Config     *rest.Config
	Kubeconfig string
}

// StartHost gives the host that the environment names by ANNEX_TEST_KUBECONFIG, or runs an
// installed annex as one until the test ends, which takes some seconds and leaves nothing
// behind. It has no controllers of Kubernetes: a namespace that is deleted stays. Subtests
// may share one. It is a program of its own, so that tests require nothing of it.
func StartHost(t testing.TB) *Host {
	t.Helper()
	path := os.Getenv(HostKubeconfig)
	if path == "" {
		path = startAnnex(t)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatalf("read the kubeconfig of the host: %v", err)
	}
	config.QPS = -1 // the host's own priority and fairness is the limit
	return &Host{Config: config, Kubeconfig: path}
}

// Start runs a server of parts, as [Start] does, but with TLS and a port, registered with
// the host, which reaches it by a Service of its own. It is available there, or the test
// has failed; Running.Config is the host's. After the test its registration is withdrawn.
// change may change its configuration before, but for Host, Listener and Register. Two
// servers of one group at one host would be in each other's way.
func (h *Host) Start(t testing.TB, change func(*extension.Config), parts ...extension.Part) *Running {
	t.Helper()
	config := rest.CopyConfig(h.Config)
	config.Timeout = hostCall
	core, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	aggregator, err := aggregatorclient.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := registered{core: core, aggregator: aggregator}
	if r.service, err = expose(t.Context(), core); err != nil {
		_ = listener.Close() // nobody has used it
		t.Fatal(err)
	}
	// It runs once the server has ended, which would come back otherwise.
	t.Cleanup(func() {
		if err := r.withdraw(); err != nil {
			t.Errorf("withdraw the registration: %v", err)
		}
	})
	c := extension.Config{
		Name:           "test",
		Storage:        "memory://",
		Host:           rest.CopyConfig(h.Config),
		Listener:       listener,
		Register:       &extension.Registration{Service: r.service, Port: int32(listener.Addr().(*net.TCPAddr).Port)},
		LeaderElection: extension.LeaderElection{Off: true}, // there is one replica
		ShutdownDelay:  -1,                                  // nobody else serves it
	}
	if change != nil {
		change(&c)
	}
	s := serve(t, c, hostTimeout, parts)
	groups, err := groupVersions(asAdmin(t, s))
	if err != nil {
		t.Fatalf("ask the server for its groups: %v", err)
	}
	if err := r.available(t.Context(), groups); err != nil {
		t.Fatalf("the host does not serve what is registered after %v: %v", hostTimeout, err)
	}
	return &Running{Server: s, Config: rest.CopyConfig(h.Config)}
}

// groupVersions are the names of the APIServices that a server has to have.
func groupVersions(config *rest.Config) ([]string, error) {
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	list, err := client.ServerGroups()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, g := range list.Groups {
		for _, v := range g.Versions {
			names = append(names, v.Version+"."+g.Name)
		}
	}
	if len(names) == 0 {
		return nil, errors.New("it has none")
	}
	return names, nil
}

// expose makes a Service that leads to this machine, as soon as the host lets us: one that
// has just started may not have its namespaces yet.
func expose(ctx context.Context, core kubernetes.Interface) (service types.NamespacedName, err error) {
	err = eventually(ctx, func(ctx context.Context) error {
		made, err := core.CoreV1().Services(hostNamespace).Create(ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "extensiontest-"},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "localhost"},
		}, metav1.CreateOptions{FieldManager: "extensiontest"})
		if err != nil {
			return fmt.Errorf("make a Service at the host: %w", err)
		}
		service = types.NamespacedName{Namespace: hostNamespace, Name: made.Name}
		return nil
	})
	return service, err
}

// registered is what the host knows of one server.
type registered struct {
	core       kubernetes.Interface
	aggregator aggregatorclient.Interface
	service    types.NamespacedName
}

// available waits until the host serves all of what is named by our Service.
func (r registered) available(ctx context.Context, names []string) error {
	return eventually(ctx, func(ctx context.Context) error {
		for _, name := range names {
			a, err := r.aggregator.ApiregistrationV1().APIServices().Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if !r.leadsHere(a) {
				return fmt.Errorf("APIService %s leads elsewhere", name)
			}
			if why := unavailable(a); why != "" {
				return fmt.Errorf("APIService %s is not available: %s", name, why)
			}
		}
		return nil
	})
}

func (r registered) leadsHere(a *apiregistrationv1.APIService) bool {
	s := a.Spec.Service
	return s != nil && s.Namespace == r.service.Namespace && s.Name == r.service.Name
}

// unavailable says why an APIService is not available, or nothing.
func unavailable(a *apiregistrationv1.APIService) string {
	for _, c := range a.Status.Conditions {
		if c.Type == apiregistrationv1.Available {
			if c.Status == apiregistrationv1.ConditionTrue {
				return ""
			}
			return c.Reason + ": " + c.Message
		}
	}
	return "it has no condition yet"
}

// withdraw takes away the APIServices that lead to our Service, and that.
func (r registered) withdraw() error {
	ctx, cancel := context.WithTimeout(context.Background(), hostTimeout)
	defer cancel()
	list, err := r.aggregator.ApiregistrationV1().APIServices().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var errs []error
	for i := range list.Items {
		if a := &list.Items[i]; r.leadsHere(a) {
			errs = append(errs, r.aggregator.ApiregistrationV1().APIServices().Delete(ctx, a.Name, metav1.DeleteOptions{}))
		}
	}
	errs = append(errs, r.core.CoreV1().Services(r.service.Namespace).Delete(ctx, r.service.Name, metav1.DeleteOptions{}))
	for i, err := range errs {
		if apierrors.IsNotFound(err) {
			errs[i] = nil
		}
	}
	return errors.Join(errs...)
}

// eventually tries until it works, for hostTimeout. The error is that of the last try.
func eventually(ctx context.Context, try func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, hostTimeout)
	defer cancel()
	ticker := time.NewTicker(hostPoll)
	defer ticker.Stop()
	var last error
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return last
		case <-ticker.C:
		}
	}
}
