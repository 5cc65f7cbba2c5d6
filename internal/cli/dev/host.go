package dev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregatorclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"

	"github.com/annex-api/annex/internal/child"
	"github.com/annex-api/annex/internal/cli/terminal"
)

const (
	namespace = "default"
	// ours marks the Service that we made.
	ours, oursValue = "app.kubernetes.io/managed-by", "annex-dev"
	// hostWait bounds the start of a host and the wait for its view of the server, hostCall one request.
	hostWait, hostCall = 60 * time.Second, 5 * time.Second
	hostPoll           = 100 * time.Millisecond
	// withdrawal bounds what is undone at a host, hostGrace how long one that we started may take to
	// end. Who has no patience for a host that hangs presses Ctrl-C again.
	withdrawal, hostGrace = 15 * time.Second, 30 * time.Second
)

// host is the API server that the project's server is registered at.
type host struct {
	kubeconfig string
	process    *child.Process // nil where it is not ours
	service    string
	// answered is set once the host has answered.
	answered atomic.Bool
}

// openHost finds a host that runs, or starts one.
func (o *Options) openHost(ctx context.Context, p project, lines *terminal.Lines) (*host, error) {
	h := &host{kubeconfig: o.Kubeconfig, service: serviceName(p)}
	if h.kubeconfig != "" {
		return h, nil
	}
	own := p.state("host")
	for _, dir := range []string{o.HostDataDir, own} {
		if dir == "" {
			continue
		}
		h.kubeconfig = filepath.Join(dir, "admin.kubeconfig")
		if h.answers(ctx) == nil {
			return h, nil
		}
	}
	log := lines.From("host", terminal.Magenta, o.fromHost(&h.answered))
	var err error
	h.process, err = child.StartSelf([]string{"up", "--quiet", "--verbose", "--data-dir", own, "--port", "0"}, log)
	return h, err
}

// logged is the beginning of a line of klog; the letter is its severity.
var logged = regexp.MustCompile(`^[IWEF]\d{4} `)

// fromHost says which lines of a host that we started are shown: what ended its start, then
// warnings and errors. While it starts, it warns of much that is as it should be.
func (o *Options) fromHost(answered *atomic.Bool) func(line []byte) bool {
	return func(line []byte) bool {
		switch {
		case o.Verbose:
			return true
		case logged.Match(line):
			return line[0] != 'I' && (line[0] == 'F' || answered.Load())
		case bytes.HasSuffix(line, []byte("admin.kubeconfig")): // what annex up --quiet prints
			return false
		}
		return o.fromEtcd(line)
	}
}

// slow is how etcd warns of a slow disk, at once for each request.
var slow = []byte(`{"level":"warn"`)

// fromEtcd says which lines of etcd are shown.
func (o *Options) fromEtcd(line []byte) bool { return o.Verbose || !bytes.HasPrefix(line, slow) }

// serviceName is a name for the Service that tells projects apart.
func serviceName(p project) string {
	clean := strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(p.name()), "-"), "-")
	return strings.TrimSuffix("annex-dev-"+clean[:min(len(clean), 40)], "-")
}

// config reads the kubeconfig anew: a host that starts writes it.
func (h *host) config() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", h.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig %s: %w", h.kubeconfig, err)
	}
	config.Timeout = hostCall
	return config, nil
}

func (h *host) client() (*kubernetes.Clientset, error) {
	config, err := h.config()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

func (h *host) answers(ctx context.Context) error {
	client, err := h.client()
	if err != nil {
		return err
	}
	_, err = client.RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	return err
}

// expose makes the Service that leads the host to our socket, as soon as the host lets us.
func (h *host) expose(ctx context.Context) error {
	var refused *refusedError
	return h.wait(ctx, "the host does not answer", func() error {
		client, err := h.client()
		if err != nil {
			return err
		}
		services := client.CoreV1().Services(namespace)
		there, err := services.Get(ctx, h.service, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			_, err = services.Create(ctx, &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Name: h.service, Labels: map[string]string{ours: oursValue}},
				Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "localhost"},
			}, metav1.CreateOptions{FieldManager: oursValue})
			return err
		case err != nil:
			return err
		case there.Labels[ours] != oursValue:
			return &refusedError{fmt.Sprintf("Service %s/%s is there and is not ours; remove it, or choose another host", namespace, h.service)}
		}
		return nil
	}, &refused)
}

// refusedError is what waiting does not cure.
type refusedError struct{ why string }

func (e *refusedError) Error() string { return e.why }

// wait tries until it works, or cannot.
func (h *host) wait(ctx context.Context, what string, try func() error, refused any) error {
	ctx, cancel := context.WithTimeout(ctx, hostWait)
	defer cancel()
	ticker := time.NewTicker(hostPoll)
	defer ticker.Stop()
	for {
		err := try()
		if err == nil || errors.As(err, refused) {
			return err
		}
		select {
		case <-h.process.Ended():
			return fmt.Errorf("the host ended (%v)", h.process.Err())
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, err)
		case <-ticker.C:
		}
	}
}

// registered are the APIServices that lead to our Service.
func (h *host) registered(ctx context.Context, client aggregatorclient.Interface) ([]apiregistrationv1.APIService, error) {
	list, err := client.ApiregistrationV1().APIServices().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list APIServices: %w", err)
	}
	var found []apiregistrationv1.APIService
	for _, a := range list.Items {
		if s := a.Spec.Service; s != nil && s.Namespace == namespace && s.Name == h.service {
			found = append(found, a)
		}
	}
	return found, nil
}

// available waits until the host serves what the server registered, and names it.
func (h *host) available(ctx context.Context) (names []string, err error) {
	config, err := h.config()
	if err != nil {
		return nil, err
	}
	client, err := aggregatorclient.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	var never *refusedError
	err = h.wait(ctx, "the host does not serve the project's API", func() error {
		found, err := h.registered(ctx, client)
		if err != nil {
			return err
		}
		names = nil
		for _, a := range found {
			if why := unavailable(a); why != "" {
				return fmt.Errorf("APIService %s: %s", a.Name, why)
			}
			names = append(names, a.Name)
		}
		if len(names) == 0 {
			return errors.New("no APIService is registered")
		}
		return nil
	}, &never)
	return names, err
}

// unavailable says why an APIService is not available, or nothing.
func unavailable(a apiregistrationv1.APIService) string {
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

// close takes away what was registered, and ends a host that is ours.
func (h *host) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), withdrawal)
	defer cancel()
	err := h.withdraw(ctx)
	if h.process == nil {
		return err
	}
	select {
	case <-h.process.Ended():
		return nil // its end was reported
	default:
	}
	return errors.Join(err, h.process.Stop(hostGrace))
}

func (h *host) withdraw(ctx context.Context) error {
	config, err := h.config()
	if err != nil {
		return err
	}
	aggregator, err := aggregatorclient.NewForConfig(config)
	if err != nil {
		return err
	}
	core, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	found, err := h.registered(ctx, aggregator)
	if err != nil {
		return fmt.Errorf("withdraw the registration: %w", err)
	}
	var errs []error
	for _, a := range found {
		errs = append(errs, aggregator.ApiregistrationV1().APIServices().Delete(ctx, a.Name, metav1.DeleteOptions{}))
	}
	errs = append(errs, core.CoreV1().Services(namespace).Delete(ctx, h.service, metav1.DeleteOptions{}))
	for _, err := range errs {
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("withdraw the registration: %w", err)
		}
	}
	return nil
}

// args are the flags of a server at this host.
func (h *host) args(p project, address *net.TCPAddr) []string {
	return []string{
		"--kubeconfig=" + h.kubeconfig, "--tls-folder=" + p.state("tls"),
		"--service=" + namespace + "/" + h.service, fmt.Sprintf("--service-port=%d", address.Port),
		"--register", "--register-owner=",
	}
}
