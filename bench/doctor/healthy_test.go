package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/bench/internal/build"
	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/internal/testcerts"
)

// TestHealthy: set-ups that are odd and right, of which doctor finds nothing to say.
func TestHealthy(t *testing.T) {
	servers := running(t)
	for _, h := range []struct {
		name   string
		short  bool
		plan   func(*site)
		inject func(context.Context, *site) error
		// after is done when all is well, before doctor looks.
		after func(context.Context, *site) error
		// possible is what doctor may call possible, since it is not seen who is at fault; a fault it is not.
		possible diagnosis.Code
		// only is the one server where it can be.
		only string
	}{
		{name: "plain", short: true},
		{name: "delegates", short: true, inject: func(ctx context.Context, s *site) error {
			if err := s.allRights(ctx); err != nil {
				return err
			}
			return s.delegate(ctx, nil)
		}},
		{name: "no-selector", plan: func(s *site) {
			s.service.Spec.Selector, s.pods, s.deployment = nil, nil, nil
		}},
		{name: "headless", plan: func(s *site) { s.service.Spec.ClusterIP = corev1.ClusterIPNone }},
		{name: "other-port", plan: func(s *site) {
			s.service.Spec.Ports[0].Port = 8443
			port := int32(8443)
			s.apiService.Spec.Service.Port = &port
		}},
		{name: "named-target-port", plan: func(s *site) { s.service.Spec.Ports[0].TargetPort = intstr.FromString("https") }},
		{name: "two-ports", plan: func(s *site) {
			s.service.Spec.Ports = append(s.service.Spec.Ports, corev1.ServicePort{Name: "metrics", Port: 9100, TargetPort: intstr.FromInt32(9100)})
		}},
		{name: "unnamed-port", plan: func(s *site) {
			s.service.Spec.Ports[0].Name = ""
			s.slice = s.sliceOf(app, "", s.port)
		}},
		{name: "old-authority-too", plan: func(s *site) {
			s.apiService.Spec.CABundle = append(testcerts.New("before").PEM, s.authority...)
		}},
		{name: "text-in-bundle", plan: func(s *site) {
			s.apiService.Spec.CABundle = append([]byte("# the authority of this site\n"), s.authority...)
		}},
		{name: "many-names", plan: func(s *site) {
			s.certificate = s.issue(testcerts.Subject{Hosts: []string{"localhost", s.host() + ".cluster.local", s.host()}})
		}},
		{name: "wildcard", plan: func(s *site) {
			s.certificate = s.issue(testcerts.Subject{Hosts: []string{"*." + s.namespace + ".svc"}})
		}},
		{name: "short-lived", plan: func(s *site) {
			s.certificate = s.issue(testcerts.Subject{NotBefore: time.Now().Add(-5 * time.Minute), NotAfter: time.Now().Add(55 * time.Minute)})
		}},
		{name: "rolls-out", plan: func(s *site) {
			// A second Pod is on its way, not ready yet.
			next := s.pod("server-1", s.ip, node)
			next.Status.PodIP, next.Status.PodIPs, next.Status.Phase = "", nil, corev1.PodPending
			next.Status.Conditions[0].Status, next.Status.ContainerStatuses = corev1.ConditionFalse, nil
			s.slice = s.sliceOf(app, "https", s.port)
			s.pods = append(s.pods, next)
		}},
		{name: "restarted-once", plan: func(s *site) { s.pods[0].Status.ContainerStatuses[0].RestartCount = 1 }},
		{name: "old-errors", inject: func(_ context.Context, s *site) error {
			s.server.say(`E1127 00:00:00.000000       1 authentication.go:75] "Unable to authenticate the request" err="x509: certificate signed by unknown authority"`)
			return nil
		}},
		{name: "alarms-of-yesterday", plan: func(s *site) {
			// A Pod is on its way for an hour, as where a node is short of memory: so it is asked why.
			next := s.pod("server-1", s.ip, node)
			next.Status.PodIP, next.Status.PodIPs, next.Status.Phase = "", nil, corev1.PodPending
			next.Status.Conditions[0].Status, next.Status.ContainerStatuses = corev1.ConditionFalse, nil
			s.slice = s.sliceOf(app, "https", s.port)
			s.pods = append(s.pods, next)
		}, inject: func(ctx context.Context, s *site) error {
			s.server.said(time.Now().Add(-24*time.Hour), alarms...)
			return s.allRights(ctx)
		}},
		{name: "clients-leave", short: true, plan: func(s *site) { s.manner.slowLists = 300 * time.Millisecond }, after: func(ctx context.Context, s *site) error {
			return s.leave(ctx, "limit=1", 20, 50*time.Millisecond)
		}},
		{name: "watches-stopped", after: func(ctx context.Context, s *site) error {
			return s.leave(ctx, "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan", 20, 50*time.Millisecond)
		}},
		{
			name: "full-api-server", short: true, inject: refusesOperator, after: func(ctx context.Context, s *site) error { return s.takesTheSeat(ctx) },
			// Annex gives the seat back once the request is sent.
			possible: diagnosis.TooManyRequests, only: build.Reference,
		},
		{name: "policy-that-lets-in", inject: func(ctx context.Context, s *site) error {
			_, err := s.kube.NetworkingV1().NetworkPolicies(s.namespace).Create(ctx, &networkingv1.NetworkPolicy{
				ObjectMeta: metav1.ObjectMeta{Name: "in"}, Spec: networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{}}},
			}, metav1.CreateOptions{})
			return err
		}},
		{name: "policy-not-enforced", inject: func(ctx context.Context, s *site) error {
			_, err := s.kube.NetworkingV1().NetworkPolicies(s.namespace).Create(ctx, &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "none"}}, metav1.CreateOptions{})
			return err
		}},
		{name: "kept-by-cainjector", plan: func(s *site) {
			s.manager = "cert-manager-cainjector"
			s.apiService.Annotations = map[string]string{"cert-manager.io/inject-ca-from": s.namespace + "/server"}
		}},
		{name: "written-by-gitops", plan: func(s *site) { s.manager = "argocd-controller" }},
		{name: "two-seconds", plan: func(s *site) { s.manner.delay = 1500 * time.Millisecond }},
		{name: "two-versions", plan: func(s *site) { s.manner.serves = []string{s.group + "/v2"} }},
	} {
		if testing.Short() && !h.short {
			continue
		}
		for name, c := range servers {
			if h.only != "" && h.only != name {
				continue
			}
			t.Run(h.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				s := c.build(t, "well-"+h.name, h.plan)
				if h.inject != nil {
					if err := h.inject(t.Context(), s); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.register(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := s.settled(t.Context(), fault{available: true}); err != nil {
					t.Fatal(err)
				}
				if h.after != nil {
					if err := h.after(t.Context(), s); err != nil {
						t.Fatal(err)
					}
				}
				// The lists of resources, and OpenAPI, come a moment after that.
				err := until(t.Context(), "something is found", func() error {
					r, err := s.examine(t.Context(), s.name())
					for _, f := range r.Findings {
						if err == nil && !(f.Code == h.possible && f.Confidence == diagnosis.Possible) {
							err = errors.New(summary(r))
						}
					}
					if err == nil && h.possible != "" && !r.Has(h.possible) {
						err = fmt.Errorf("%s is not even possible: %s", h.possible, summary(r))
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// alarms are lines of a log that would tell of a fault while something is wrong.
var alarms = []string{
	`E1127 00:00:00.000000       1 authentication.go:75] "Unable to authenticate the request" err="x509: certificate signed by unknown authority"`,
	`E1127 00:00:00.000000       1 reflector.go:166] "Failed to watch" err="dial tcp 10.96.0.1:443: i/o timeout"`,
	`E1127 00:00:00.000000       1 scraper.go:149] "Failed to scrape node" err="x509: cannot validate certificate for 10.0.0.4 because it doesn't contain any IP SANs"`,
	`E1127 00:00:00.000000       1 reflector.go:205] "Failed to watch" err="failed to list *v1.FlowSchema: flowschemas.flowcontrol.apiserver.k8s.io is forbidden"`,
	`W1127 00:00:00.000000       1 logging.go:55] etcdserver: request timed out`,
}

// leave has clients of the API server ask for things, and leave before all is said.
func (s *site) leave(ctx context.Context, query string, clients int, after time.Duration) error {
	client, err := rest.HTTPClientFor(s.operator)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	for range clients {
		short, cancel := context.WithTimeout(ctx, after)
		r, err := http.NewRequestWithContext(short, http.MethodGet, s.URL+"/apis/"+s.group+"/"+s.version+"/things?"+query, nil)
		if err == nil {
			var response *http.Response
			if response, err = client.Do(r); err == nil {
				_, err = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close() // nothing of it is wanted
			}
		}
		cancel()
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("the client did not leave: %w", cmp.Or(err, errors.New("it was answered")))
		}
	}
	return nil
}

// takesTheSeat has the operator ask for a list that is not answered: fairness lets one request pass, though
// its priority level has no seat. It ends with the test.
func (s *site) takesTheSeat(ctx context.Context) error {
	client, err := rest.HTTPClientFor(s.operator)
	if err != nil {
		return err
	}
	s.server.done.Go(func() {
		for ctx.Err() == nil && s.server.over.Err() == nil { // the API server cuts it off after a minute
			r, err := http.NewRequestWithContext(s.server.over, http.MethodGet, s.URL+"/apis/"+s.group+"/"+s.version+"/things?"+hold, nil)
			if err != nil {
				return
			}
			if response, err := client.Do(r); err == nil {
				_ = response.Body.Close() // nothing of it is wanted
			}
		}
	})
	return nil
}

// refusesOperator has the API server's own fairness refuse what the operator asks the extension server for.
func refusesOperator(ctx context.Context, s *site) error {
	flowcontrol, none, reject := s.kube.FlowcontrolV1(), int32(0), flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject}
	if _, err := flowcontrol.PriorityLevelConfigurations().Create(ctx, &flowcontrolv1.PriorityLevelConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: s.namespace},
		Spec: flowcontrolv1.PriorityLevelConfigurationSpec{Type: flowcontrolv1.PriorityLevelEnablementLimited, Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
			NominalConcurrencyShares: &none, LendablePercent: &none, BorrowingLimitPercent: &none, LimitResponse: reject,
		}},
	}, metav1.CreateOptions{}); err != nil {
		return err
	}
	_, err := flowcontrol.FlowSchemas().Create(ctx, &flowcontrolv1.FlowSchema{
		ObjectMeta: metav1.ObjectMeta{Name: s.namespace},
		Spec: flowcontrolv1.FlowSchemaSpec{
			PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: s.namespace}, MatchingPrecedence: 10,
			Rules: []flowcontrolv1.PolicyRulesWithSubjects{{
				Subjects:      []flowcontrolv1.Subject{{Kind: flowcontrolv1.SubjectKindServiceAccount, ServiceAccount: &flowcontrolv1.ServiceAccountSubject{Namespace: metav1.NamespaceSystem, Name: "operator"}}},
				ResourceRules: []flowcontrolv1.ResourcePolicyRule{{Verbs: []string{"*"}, APIGroups: []string{s.group}, Resources: []string{"*"}, ClusterScope: true, Namespaces: []string{"*"}}},
			}},
		},
	}, metav1.CreateOptions{})
	return err
}
