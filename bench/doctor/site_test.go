package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/internal/testcerts"
)

const (
	// account, and app, are what all of a site is called.
	account = "server"
	app     = "server"
	secret  = "server-tls"
)

// site is an extension server with all that is around it, in a namespace of its own.
type site struct {
	*cluster
	namespace, folder string
	group, version    string
	ip                string
	port              int32
	ca                *testcerts.Authority
	server            *server
	second            *server // another replica; nil where there is none
	clientsLeave      func()  // ends what clients do; nil where there are none

	// What is applied. A fault changes it before.
	certificate testcerts.Pair
	authority   []byte // ca.crt of the Secret
	manner      manner
	nowhere     bool // nobody has the Pod's address
	manager     string
	secret      *corev1.Secret
	deployment  *appsv1.Deployment
	pods        []*corev1.Pod
	service     *corev1.Service
	slice       *discoveryv1.EndpointSlice
	apiService  *apiregistrationv1.APIService
}

// newSite plans a site that is well.
func (c *cluster) newSite(name, folder string) *site {
	n := c.sites.Add(1)
	s := &site{
		cluster: c, folder: folder, namespace: "f-" + name, group: name + ".example.com", version: "v1",
		ip: fmt.Sprintf("10.77.%d.%d", 20+40*c.number+int(n)/200, 1+n%200), port: int32(20_000 + 1000*int64(c.number) + n), ca: testcerts.New(name + "-ca"),
	}
	s.certificate, s.authority = s.issue(testcerts.Subject{}), s.ca.PEM
	labels := map[string]string{"app": app}
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name, Namespace: s.namespace} }
	s.secret = &corev1.Secret{ObjectMeta: meta(secret), Data: map[string][]byte{}}
	template := corev1.PodSpec{
		ServiceAccountName: account, TerminationGracePeriodSeconds: new(int64), // there is no kubelet to wait for
		Containers: []corev1.Container{{
			Name: "server", Image: "registry.example.com/server:v1", Args: []string{"--secure-port=" + strconv.Itoa(int(s.port))},
			Ports: []corev1.ContainerPort{{Name: "https", ContainerPort: s.port}},
		}},
		Volumes: []corev1.Volume{{Name: "tls", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secret}}}},
	}
	s.deployment = &appsv1.Deployment{ObjectMeta: meta(app), Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: template},
	}}
	s.pods = []*corev1.Pod{s.pod("server-0", s.ip, node)}
	s.service = &corev1.Service{ObjectMeta: meta(app), Spec: corev1.ServiceSpec{
		Selector: labels, Ports: []corev1.ServicePort{{Name: "https", Port: 443, TargetPort: intstr.FromInt32(s.port)}},
	}}
	s.apiService = &apiregistrationv1.APIService{Spec: apiregistrationv1.APIServiceSpec{
		GroupPriorityMinimum: 1000, VersionPriority: 10, CABundle: s.authority,
		Service: &apiregistrationv1.ServiceReference{Namespace: s.namespace, Name: app},
	}}
	s.slice = s.sliceOf(app, "https", s.port)
	return s
}

// pod is one that runs, and is ready.
func (s *site) pod(name, ip, on string) *corev1.Pod {
	long := metav1.NewTime(time.Now().Add(-time.Hour))
	template := s.deployment.Spec.Template
	spec := template.Spec.DeepCopy()
	spec.NodeName = on
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: s.namespace, Labels: maps.Clone(template.Labels),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: app + "-5d4f8c7b9", UID: "5f0e0b3f-5a0e-4c59-8f0e-0123456789ab"}},
		},
		Spec: *spec,
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, HostIP: s.kubelet.ip, StartTime: &long,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: long}},
			ContainerStatuses: []corev1.ContainerStatus{{
				Name: "server", Image: spec.Containers[0].Image, Ready: true,
				State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: long}},
			}},
		},
	}
}

// sliceOf is what the controller of EndpointSlices would make of the Pods.
func (s *site) sliceOf(service, portName string, port int32) *discoveryv1.EndpointSlice {
	tcp := corev1.ProtocolTCP
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: service + "-1", Namespace: s.namespace, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &portName, Port: &port, Protocol: &tcp}},
	}
	for _, p := range s.pods {
		ready := false
		for _, c := range p.Status.Conditions {
			ready = ready || c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		}
		on := p.Spec.NodeName
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{p.Status.PodIP}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}, NodeName: &on,
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: s.namespace, Name: p.Name},
		})
	}
	return slice
}

// host is the name that API servers ask for.
func (s *site) host() string { return app + "." + s.namespace + ".svc" }

// issue is a serving certificate of the site's authority; for the right name unless it has others.
func (s *site) issue(subject testcerts.Subject) testcerts.Pair {
	if subject.Hosts == nil {
		subject.Hosts = []string{s.host()}
	}
	if subject.Name == "" {
		subject.Name = "server"
	}
	return s.ca.Issue(subject)
}

func (s *site) name() string { return s.version + "." + s.group }

// apply makes everything.
func (s *site) apply(ctx context.Context) (err error) {
	s.manner.serves = append(s.manner.serves, s.group+"/"+s.version)
	address := net.JoinHostPort(s.ip, strconv.Itoa(int(s.port)))
	if s.server, err = startServer(address, !s.nowhere, s.certificate.TLS(), s.manner); err != nil {
		return err
	}
	s.kubelet.run(s.namespace, s.server)
	core := s.kube.CoreV1()
	if _, err := core.Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err := core.ServiceAccounts(s.namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	s.secret.Data["ca.crt"], s.secret.Data["tls.crt"], s.secret.Data["tls.key"] = s.authority, s.certificate.Cert, s.certificate.Key
	if _, err := core.Secrets(s.namespace).Create(ctx, s.secret, metav1.CreateOptions{}); err != nil {
		return err
	}
	if s.deployment != nil {
		if _, err := s.kube.AppsV1().Deployments(s.namespace).Create(ctx, s.deployment, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	for _, p := range s.pods {
		if err := s.makePod(ctx, p); err != nil {
			return err
		}
	}
	if s.service != nil {
		if _, err := core.Services(s.namespace).Create(ctx, s.service, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	if s.slice != nil {
		if _, err := s.kube.DiscoveryV1().EndpointSlices(s.namespace).Create(ctx, s.slice, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// register makes the APIService: the last, so that it is judged as it is.
func (s *site) register(ctx context.Context) error {
	s.apiService.Name, s.apiService.Spec.Group, s.apiService.Spec.Version = s.name(), s.group, s.version
	_, err := s.aggregator.ApiregistrationV1().APIServices().Create(ctx, s.apiService, metav1.CreateOptions{FieldManager: s.manager})
	return err
}

func (s *site) makePod(ctx context.Context, p *corev1.Pod) error {
	pods := s.kube.CoreV1().Pods(s.namespace)
	made, err := pods.Create(ctx, p, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	made.Status = p.Status
	_, err = pods.UpdateStatus(ctx, made, metav1.UpdateOptions{})
	return err
}

// unready makes the Pods not ready, as a kubelet says it of a container that waits for a reason, or
// runs where there is none. It is for a plan.
func (s *site) unready(reason string) {
	for _, p := range s.pods {
		p.Status.Conditions[0].Status = corev1.ConditionFalse
		c := &p.Status.ContainerStatuses[0]
		c.Ready = false
		if reason != "" {
			c.RestartCount, c.State = 7, corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: "back-off 5m0s restarting failed container"}}
		}
	}
	s.slice = s.sliceOf(app, "https", s.port)
}

// replace does what a Deployment's controller, a kubelet and the controller of EndpointSlices do: new
// Pods in place of the old ones, which are ready.
func (s *site) replace(ctx context.Context, names ...string) error {
	pods := s.kube.CoreV1().Pods(s.namespace)
	now := int64(0)
	if err := pods.DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{}); err != nil {
		return err
	}
	s.pods = nil
	if len(names) == 0 {
		names = []string{"server-1"}
	}
	s.server.forget()
	for _, name := range names {
		p := s.pod(name, s.ip, node)
		if err := s.makePod(ctx, p); err != nil {
			return err
		}
		s.pods = append(s.pods, p)
	}
	return s.endpoints(ctx, s.port)
}

// listen has the server listen where its Pod is now.
func (s *site) listen() error {
	address := net.JoinHostPort(s.ip, strconv.Itoa(int(s.port)))
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	s.server.moved(address)
	s.server.serve(listener, false)
	return nil
}

// endpoints writes the EndpointSlice of the Pods that there are.
func (s *site) endpoints(ctx context.Context, port int32) error {
	slices := s.kube.DiscoveryV1().EndpointSlices(s.namespace)
	slice := s.sliceOf(app, "https", port)
	_, err := slices.Update(ctx, slice, metav1.UpdateOptions{})
	if err != nil {
		_, createErr := slices.Create(ctx, slice, metav1.CreateOptions{})
		if createErr != nil {
			return errors.Join(err, createErr)
		}
	}
	return nil
}

// rolledOut errs unless somebody had the Deployment make new Pods.
func (s *site) rolledOut(ctx context.Context) error {
	d, err := s.kube.AppsV1().Deployments(s.namespace).Get(ctx, app, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if d.Generation < 2 {
		return errors.New("nobody changed the Deployment")
	}
	return nil
}

// allowed errs unless a NetworkPolicy lets everybody in, or out.
func (s *site) allowed(ctx context.Context, direction networkingv1.PolicyType) error {
	all, err := s.kube.NetworkingV1().NetworkPolicies(s.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, p := range all.Items {
		for _, rule := range p.Spec.Ingress {
			if direction == networkingv1.PolicyTypeIngress && len(rule.From) == 0 && len(rule.Ports) == 1 && rule.Ports[0].Port.IntVal == s.port && p.Spec.PodSelector.MatchLabels["app"] == app {
				return nil
			}
		}
		for _, rule := range p.Spec.Egress {
			if direction == networkingv1.PolicyTypeEgress && len(rule.To) == 0 && len(rule.Ports) == 0 && p.Spec.PodSelector.MatchLabels["app"] == app {
				return nil
			}
		}
	}
	return errors.New("no NetworkPolicy allows it")
}

// patchAPIService merges.
func (s *site) patchAPIService(ctx context.Context, o object) error {
	content, err := json.Marshal(o)
	if err != nil {
		return err
	}
	_, err = s.aggregator.ApiregistrationV1().APIServices().Patch(ctx, s.name(), types.MergePatchType, content, metav1.PatchOptions{})
	return err
}

// lookAgain has the API server check at once, and not within 30 s.
func (s *site) lookAgain(ctx context.Context) {
	_ = s.patchAPIService(ctx, object{"metadata": object{"annotations": object{"example.com/look": fmt.Sprint(time.Now().UnixNano())}}}) // it may be gone
}

// condition is that of the APIService.
func (s *site) condition(ctx context.Context) (apiregistrationv1.APIServiceCondition, error) {
	a, err := s.aggregator.ApiregistrationV1().APIServices().Get(ctx, s.name(), metav1.GetOptions{})
	if err != nil {
		return apiregistrationv1.APIServiceCondition{}, err
	}
	for _, c := range a.Status.Conditions {
		if c.Type == apiregistrationv1.Available {
			return c, nil
		}
	}
	return apiregistrationv1.APIServiceCondition{}, nil
}

// build plans a site, lets a fault change the plan, and makes it; it ends with the test.
func (c *cluster) build(t *testing.T, name string, plan func(*site)) *site {
	t.Helper()
	s := c.newSite(name, t.TempDir())
	if plan != nil {
		plan(s)
	}
	if err := s.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Whatever is there after this test must not be seen by others.
		err := s.aggregator.ApiregistrationV1().APIServices().Delete(context.Background(), s.name(), metav1.DeleteOptions{})
		if err != nil && !strings.Contains(err.Error(), "not found") {
			t.Error(err)
		}
		if s.clientsLeave != nil {
			s.clientsLeave()
		}
		for _, server := range []*server{s.server, s.second} {
			if server == nil {
				continue
			}
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return s
}
