package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/bench/internal/build"
	"github.com/annex-api/annex/bench/internal/namespace"
	"github.com/annex-api/annex/bench/internal/pki"
	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/internal/testcerts"
)

const (
	// serviceRange is that of every API server here.
	serviceRange = "10.96.0.0/16"
	// shortTimeout is how long requests may take at the second API server, and slowList how long a
	// list takes that is too long for it.
	shortTimeout, slowList = 3 * time.Second, 4500 * time.Millisecond
)

// own is a control plane of its own: what is wrong with an API server itself cannot be wrong with
// those that all other faults share. Its API servers have one storage, and reach Pods by konnectivity.
type own struct {
	first, second *cluster
	// tunnels are the API servers' ways to nodes and Pods.
	tunnels [2]*konnectivity
	proxyCA *testcerts.Authority
	// ca, proxy and proxyKey are files of the front proxy.
	ca, proxy, proxyKey string
	files               pki.Files
	// configured are the flags that the first API server has now.
	configured []string
}

// The faults of a control plane, in the order in which they are made: each is what is left when the
// one before is mended.
func (o *own) noAgent() fault {
	return fault{
		name: "no-agent", code: diagnosis.NoKonnectivityAgent,
		how: "the API server reaches Pods by konnectivity, and no agent is connected",
		run: []string{"get pods -l k8s-app=konnectivity-agent", "rollout restart daemonset/konnectivity-agent"}, by: "an agent connects",
		mend: func(ctx context.Context, s *site) error {
			d, err := s.kube.AppsV1().DaemonSets(metav1.NamespaceSystem).Get(ctx, agents, metav1.GetOptions{})
			if err == nil && d.Generation < 2 {
				err = errors.New("nobody changed the DaemonSet")
			}
			o.tunnels[0].agent.Store(true)
			return err
		},
	}
}

func (o *own) noFlags() fault {
	return fault{
		name: "no-request-header", code: diagnosis.RequestHeaderNotConfigured,
		how: "the API server runs without the flags --requestheader and --proxy-client",
		run: []string{"get configmap extension-apiserver-authentication -o yaml"}, by: "the flags that are printed, with files; both servers are restarted",
	}
}

func (o *own) expired() fault {
	return fault{
		name: "expired-front-proxy", code: diagnosis.FrontProxyCertificateExpired,
		how: "the certificate in the file of --proxy-client-cert-file expired a minute ago",
		by:  "the file has a new certificate (kubeadm is not here), which the API server reads by itself",
		mend: func(ctx context.Context, s *site) error {
			return o.show(ctx, s, testcerts.Subject{}, apiregistrationv1.ConditionTrue)
		},
	}
}

func (o *own) expiring() fault {
	return fault{
		name: "expiring-front-proxy", code: diagnosis.FrontProxyCertificateExpiring, available: true,
		only: build.Annex, why: "shows its certificate to nobody but extension servers",
		how: "a tenth of the life of the certificate in the file of --proxy-client-cert-file is left",
		by:  "the file has a new certificate (kubeadm is not here), which the API server reads by itself",
		mend: func(ctx context.Context, s *site) error {
			return o.show(ctx, s, testcerts.Subject{}, apiregistrationv1.ConditionTrue)
		},
	}
}

func (o *own) noSuchHost() fault {
	return fault{
		name: "no-such-host", code: diagnosis.HostNotResolved,
		how: "the Service is an ExternalName that no resolver knows; the API server runs without --enable-aggregator-routing",
		plan: func(s *site) {
			s.pods, s.deployment, s.slice = nil, nil, nil
			s.service.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "server.nowhere.invalid"}
			s.apiService.Spec.Service.Port = &s.port
		},
		run: []string{"cat /etc/resolv.conf", "get service"}, by: "the Service gets a name that is known",
		mend: func(ctx context.Context, s *site) error {
			patch := fmt.Appendf(nil, `{"spec":{"externalName":%q}}`, s.ip)
			_, err := s.kube.CoreV1().Services(s.namespace).Patch(ctx, app, types.MergePatchType, patch, metav1.PatchOptions{})
			return err
		},
	}
}

func (o *own) disagree() fault {
	return fault{
		name: "cut-off", code: diagnosis.ServersDisagree,
		how: "of two API servers over one storage, one has no agent of konnectivity",
		run: []string{"kubectl get apiservice", "get pods -o wide"}, by: "an agent connects to the other one too",
		mend: func(context.Context, *site) error { o.tunnels[1].agent.Store(true); return nil },
		// Two kube-apiservers write over each other's condition all the time.
		remains: []diagnosis.Code{diagnosis.AvailabilityFlaps},
	}
}

func (o *own) cutOff() fault {
	return fault{
		name: "request-timeout", code: diagnosis.RequestTimeout, available: true,
		how:    fmt.Sprintf("a list takes %s at an API server with --request-timeout=%s", slowList, shortTimeout),
		plan:   func(s *site) { s.manner.slowLists = slowList },
		inject: func(ctx context.Context, s *site) error { return s.allRights(ctx) },
		run:    []string{"request-timeout=5m"}, by: "on kube-apiserver, the server answers in time",
		mend: func(ctx context.Context, s *site) error {
			if s.cluster.name == build.Annex {
				return nil
			}
			return behaves(ctx, s)
		},
		remains: []diagnosis.Code{diagnosis.AvailabilityFlaps},
	}
}

// all are its faults.
func (o *own) all() []fault {
	return []fault{o.noAgent(), o.noFlags(), o.expired(), o.expiring(), o.noSuchHost(), o.disagree(), o.cutOff()}
}

// agents is the DaemonSet of konnectivity.
const agents = "konnectivity-agent"

// ownFaultsOn makes the faults of a control plane of its own, one after another.
func ownFaultsOn(t *testing.T, name string, e *evidence) {
	o := startOwn(t, name)
	// step has a fault be named and remedied, and takes note of it.
	step := func(ctx context.Context, t *testing.T, s *site, f fault, gone func() error) {
		t.Helper()
		r := row{fault: f, server: name}
		defer func() { e.note(r) }()
		if f.only != "" && f.only != name {
			r.left = f.why
			return
		}
		if err := s.remedied(ctx, f, &r); err != nil {
			t.Fatal(err)
		}
		if err := gone(); err != nil {
			t.Fatal(err)
		}
		r.mended = true
	}
	steps := func(t *testing.T) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
		t.Cleanup(cancel)
		return ctx
	}
	t.Run("identity", func(t *testing.T) {
		ctx := steps(t)
		s := o.first.build(t, "identity", nil)
		if err := errors.Join(s.allRights(ctx), s.delegate(ctx, nil), s.register(ctx), s.settled(ctx, fault{})); err != nil {
			t.Fatal(err)
		}
		step(ctx, t, s, o.noAgent(), func() error { return s.without(ctx, diagnosis.NoKonnectivityAgent) })
		noFlags := o.noFlags()
		step(ctx, t, s, noFlags, func() error {
			if err := o.takeFlags(ctx, s); err != nil {
				return err
			}
			return s.well(ctx, noFlags)
		})
		expired := o.expired()
		minuteAgo := testcerts.Subject{NotBefore: time.Now().Add(-50 * time.Minute), NotAfter: time.Now().Add(-time.Minute)}
		if err := o.show(ctx, s, minuteAgo, apiregistrationv1.ConditionFalse); err != nil {
			t.Fatal(err)
		}
		step(ctx, t, s, expired, func() error { return s.well(ctx, expired) })
		expiring := o.expiring()
		soon := testcerts.Subject{NotBefore: time.Now().Add(-55 * time.Minute), NotAfter: time.Now().Add(6 * time.Minute)}
		if err := o.show(ctx, s, soon, apiregistrationv1.ConditionTrue); err != nil {
			t.Fatal(err)
		}
		step(ctx, t, s, expiring, func() error { return s.well(ctx, expiring) })
	})
	for _, f := range []fault{o.noSuchHost(), o.disagree(), o.cutOff()} {
		t.Run(f.name, func(t *testing.T) {
			ctx := steps(t)
			if f.code == diagnosis.ServersDisagree {
				if err := o.startSecond(ctx); err != nil {
					t.Fatal(err)
				}
			}
			s := o.first.build(t, f.name, f.plan)
			if f.code == diagnosis.RequestTimeout {
				s.cluster = o.second
			}
			if f.inject != nil {
				if err := f.inject(ctx, s); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.register(ctx); err != nil {
				t.Fatal(err)
			}
			if f.code != diagnosis.ServersDisagree { // of which each writes the condition
				if err := s.settled(ctx, f); err != nil {
					t.Fatal(err)
				}
			}
			step(ctx, t, s, f, func() error { return s.well(ctx, f) })
		})
	}
}

// without waits until doctor does not find a fault any more.
func (s *site) without(ctx context.Context, code diagnosis.Code) error {
	return until(ctx, "it is not mended", func() error {
		s.lookAgain(ctx)
		report, err := s.examine(ctx, s.name())
		if err == nil && report.Has(code) {
			err = errors.New(summary(report))
		}
		return err
	})
}

// startOwn starts the first API server of a control plane of its own, on the etcd of the one that the
// other faults share. It is not set up for aggregation, and no agent of konnectivity is connected.
func startOwn(t *testing.T, name string) *own {
	t.Helper()
	ctx := t.Context()
	number := 2
	if name == build.Reference {
		number = 3
	}
	o := &own{first: newCluster(name, "own-"+name, number), second: newCluster(name, "other-"+name, number), proxyCA: testcerts.New("front-proxy-ca")}
	dir := t.TempDir()
	var err error
	if o.files, err = pki.Write(dir); err != nil {
		t.Fatal(err)
	}
	o.ca, o.proxy, o.proxyKey = filepath.Join(dir, "own-proxy-ca.crt"), filepath.Join(dir, "own-proxy.crt"), filepath.Join(dir, "own-proxy.key")
	o.files.ProxyCA, o.files.Proxy, o.files.ProxyKey = "", "", ""
	if err := errors.Join(os.WriteFile(o.ca, o.proxyCA.PEM, 0o600), o.write(testcerts.Subject{})); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		o.second.end()
		o.first.end()
		for _, k := range o.tunnels {
			if k != nil {
				k.Close()
			}
		}
	})
	flags, err := o.flags(0, o.first)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.first.serve(ctx, o.files, clusters[name].EtcdSocket(), flags...); err != nil {
		t.Fatal(err)
	}
	o.configured = append(commonFlags(), flags...)
	o.first.arguments = []string{"--direct"}
	if err := errors.Join(o.first.populate(ctx), o.makeAgents(ctx)); err != nil {
		t.Fatal(err)
	}
	return o
}

// flags of an API server: below a prefix of its own in etcd, at all addresses, with a tunnel.
func (o *own) flags(n int, c *cluster) (_ []string, err error) {
	config := filepath.Join(root, filepath.Base(c.dir)+"-egress.yaml")
	if o.tunnels[n], err = startKonnectivity(filepath.Join(root, filepath.Base(c.dir)+".sock"), o.first.route); err != nil {
		return nil, err
	}
	return []string{"--etcd-prefix=/own", "--bind-address=0.0.0.0", "--egress-selector-config-file=" + config}, o.tunnels[n].configure(config)
}

// makeAgents makes the DaemonSet of konnectivity's agents.
func (o *own) makeAgents(ctx context.Context) error {
	labels := map[string]string{"k8s-app": agents}
	_, err := o.first.kube.AppsV1().DaemonSets(metav1.NamespaceSystem).Create(ctx, &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: agents},
		Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "agent", Image: "registry.example.com/proxy-agent:v1"}}},
		}},
	}, metav1.CreateOptions{})
	return err
}

// takeFlags restarts the first API server with the flags that the remedy prints, and then the
// extension server.
func (o *own) takeFlags(ctx context.Context, s *site) error {
	report, err := s.named(ctx, o.noFlags())
	if err != nil {
		return err
	}
	var flags []string
	for _, action := range report.Findings[0].Remedy {
		for _, word := range strings.Fields(action.Remark + " " + action.Command) {
			name, value, isFlag := strings.Cut(word, "=")
			if !isFlag || !strings.HasPrefix(name, "--requestheader-") && !strings.HasPrefix(name, "--proxy-client-") {
				continue
			}
			if file := map[string]string{"CA": o.ca, "CERT": o.proxy, "KEY": o.proxyKey}[value]; file != "" {
				value = file
			}
			flags = append(flags, name+"="+value)
		}
	}
	o.configured = append(o.configured, flags...)
	if err := o.first.RestartWith(ctx, o.configured); err != nil {
		return err
	}
	err = until(ctx, "the front proxy's authority is not published", func() error {
		m, err := s.kube.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, "extension-apiserver-authentication", metav1.GetOptions{})
		if err == nil && m.Data["requestheader-client-ca-file"] == "" {
			err = errors.New("it is not there")
		}
		return err
	})
	if err == nil {
		err = s.delegate(ctx, nil)
	}
	s.server.disconnect()
	return err
}

// write puts a certificate of the front proxy's authority where the API server reads its own.
func (o *own) write(subject testcerts.Subject) error {
	subject.Name = "front-proxy-client"
	pair := o.proxyCA.Issue(subject)
	var errs []error
	for file, content := range map[string][]byte{o.proxy: pair.Cert, o.proxyKey: pair.Key} {
		errs = append(errs, os.WriteFile(file+".new", content, 0o600), os.Rename(file+".new", file))
	}
	return errors.Join(errs...)
}

// show has the API server show such a certificate, on new connections, and waits for what comes of it.
func (o *own) show(ctx context.Context, s *site, subject testcerts.Subject, available apiregistrationv1.ConditionStatus) error {
	if err := o.write(subject); err != nil {
		return err
	}
	return until(ctx, "the certificate is not shown", func() error {
		s.server.disconnect()
		s.lookAgain(ctx)
		if err := s.moveAround(ctx); err != nil {
			return err
		}
		c, err := s.condition(ctx)
		if err == nil && c.Status != available {
			err = fmt.Errorf("Available is %q (%s): %s", c.Status, c.Reason, c.Message)
		}
		return err
	})
}

// moveAround has Annex check at once too: it is told that the endpoint is in another zone.
func (s *site) moveAround(ctx context.Context) error {
	patch := fmt.Appendf(nil, `[{"op":"add","path":"/endpoints/0/zone","value":"zone-%d"}]`, time.Now().UnixNano())
	_, err := s.kube.DiscoveryV1().EndpointSlices(s.namespace).Patch(ctx, s.slice.Name, types.JSONPatchType, patch, metav1.PatchOptions{})
	return err
}

// startSecond starts another API server on the same storage, with little time for requests, to which
// no agent is connected; and tells where both are, as each of them would.
func (o *own) startSecond(ctx context.Context) error {
	flags, err := o.flags(1, o.second)
	if err != nil {
		return err
	}
	flags = append(flags, o.configured[len(commonFlags())+len(flags):]...)
	flags = append(flags, "--request-timeout="+shortTimeout.String())
	if err := o.second.serve(ctx, o.files, clusters[o.first.name].EtcdSocket(), flags...); err != nil {
		return err
	}
	o.second.kubelet = o.first.kubelet
	if err := o.second.operate(o.first.operator.BearerToken); err != nil {
		return err
	}
	o.second.look()
	name, protocol := "https", corev1.ProtocolTCP
	for i, c := range []*cluster{o.first, o.second} {
		port, err := portOf(c.admin)
		if err != nil {
			return err
		}
		if _, err := o.first.kube.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).Create(ctx, &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Name: fmt.Sprintf("kubernetes-%d", i), Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes"}},
			AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{namespace.Address}}},
		}, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// portOf is the port at which an API server listens.
func portOf(config *rest.Config) (int32, error) {
	var port int32
	_, err := fmt.Sscanf(config.Host[strings.LastIndex(config.Host, ":")+1:], "%d", &port)
	return port, err
}
