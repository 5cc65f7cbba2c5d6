package admission

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/healthz"
	"k8s.io/apiserver/pkg/util/compatibility"
	"k8s.io/client-go/discovery"
	fakediscovery "k8s.io/client-go/discovery/fake"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/openapi"
	"k8s.io/client-go/openapi/openapitest"
	clienttesting "k8s.io/client-go/testing"

	"github.com/annex-api/annex/extension/internal/host"
)

// verdict asks a host that serves all but served says no to, and denies what denied says.
func verdict(t *testing.T, client *fake.Clientset, unserved, denied string) host.Verdict {
	t.Helper()
	rights := host.Server{}.Rights()
	lists := map[string]*metav1.APIResourceList{}
	for _, r := range rights {
		gv := schema.GroupVersion{Group: r.Group, Version: r.Version}.String()
		if r.Resource == unserved {
			continue
		}
		if lists[gv] == nil {
			lists[gv] = &metav1.APIResourceList{GroupVersion: gv}
			client.Resources = append(client.Resources, lists[gv])
		}
		lists[gv].APIResources = append(lists[gv].APIResources, metav1.APIResource{Name: r.Resource})
	}
	client.PrependReactor("create", "selfsubjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview).DeepCopy()
		review.Status.Allowed = review.Spec.ResourceAttributes.Resource != denied
		return true, review, nil
	})
	v, err := host.Look(t.Context(), client, rights)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

type lines struct {
	mu   sync.Mutex
	text []string
}

func (l *lines) logger() logr.Logger {
	return funcr.New(func(_, args string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.text = append(l.text, args)
	}, funcr.Options{})
}

// hostClient has the one thing that the fake leaves out.
type hostClient struct{ *fake.Clientset }

func (c hostClient) Discovery() discovery.DiscoveryInterfaces {
	return documents{c.Clientset.Discovery().(*fakediscovery.FakeDiscovery)}
}

type documents struct{ *fakediscovery.FakeDiscovery }

func (documents) OpenAPIV3() openapi.Client { return openapitest.NewFakeClient() }

func newConfig() *genericapiserver.Config {
	c := genericapiserver.NewConfig(serializer.NewCodecFactory(runtime.NewScheme()))
	c.EffectiveVersion = compatibility.DefaultBuildEffectiveVersion()
	c.Authorization.Authorizer = authorizerfactory.NewAlwaysAllowAuthorizer()
	return c
}

func TestWhatTheHostAllowsIsOn(t *testing.T) {
	for name, c := range map[string]struct {
		unserved, denied    string
		admission, fairness Mode
		line                string // of what is off, or waited for
		handles, flow       bool
		waits               string // what readiness says, for good
	}{
		"all":                        {handles: true, flow: true},
		"both off":                   {admission: Off, fairness: Off},
		"fairness denied":            {denied: "flowschemas", line: `"Priority and fairness is off" "reason"="this server may not list, watch flowschemas.flowcontrol.apiserver.k8s.io"`, handles: true},
		"fairness denied and on":     {denied: "flowschemas", fairness: On, line: `"Priority and fairness must be on: the server is not ready before it may see what that needs" "reason"="this server may not list, watch flowschemas`, handles: true, flow: true, waits: "this server may not list, watch flowschemas"},
		"webhooks denied":            {denied: "validatingwebhookconfigurations", line: `"Admission plugin MutatingAdmissionWebhook is off"`, handles: true, flow: true},
		"webhooks denied and on":     {denied: "validatingwebhookconfigurations", admission: On, line: `"Admission plugin ValidatingAdmissionWebhook must be on`, handles: true, flow: true, waits: "this server may not list, watch validatingwebhookconfigurations"},
		"policies not served":        {unserved: "mutatingadmissionpolicies", line: `"Admission plugin MutatingAdmissionPolicy is off" "reason"="the host does not serve mutatingadmissionpolicies of admissionregistration.k8s.io/v1"`, handles: true, flow: true},
		"policies not served, on":    {unserved: "mutatingadmissionpolicies", admission: On, line: `"Admission plugin MutatingAdmissionPolicy is off"`, handles: true, flow: true},
		"namespaces may not be seen": {denied: "namespaces", line: `"Admission plugin NamespaceLifecycle is off" "reason"="this server may not get, list, watch namespaces"`, flow: true},
	} {
		t.Run(name, func(t *testing.T) {
			client := fake.NewClientset()
			var allowed atomic.Bool
			client.PrependReactor("list", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
				if a.GetResource().Resource != c.denied || allowed.Load() {
					return false, nil, nil
				}
				return true, nil, apierrors.NewForbidden(a.GetResource().GroupResource(), "", errors.New("not allowed"))
			})
			var log lines
			config := newConfig()
			informers, err := Apply(config, Options{
				Admission: c.admission, Fairness: c.fairness, Verdict: verdict(t, client, c.unserved, c.denied),
				Client: hostClient{client}, Dynamic: dynamicfake.NewSimpleDynamicClient(runtime.NewScheme()), Log: log.logger(),
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := config.AdmissionControl != nil && config.AdmissionControl.Handles(admission.Create); got != c.handles {
				t.Errorf("admission handles creates: %v", got)
			}
			if got := config.FlowControl != nil; got != c.flow {
				t.Errorf("priority and fairness is on: %v", got)
			}
			if all := strings.Join(log.text, "\n"); !strings.Contains(all, c.line) || c.line == "" && all != "" {
				t.Errorf("the log has %q, want %q", all, c.line)
			}
			if !slices.ContainsFunc(config.ReadyzChecks, func(h healthz.HealthChecker) bool { return h == informers }) {
				t.Error("readiness does not ask whether the policies are seen")
			}
			if err := informers.Check(nil); err == nil {
				t.Error("it is ready before the informers run")
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- informers.Run(ctx) }()
			if c.waits != "" {
				// The others are seen, and the one not.
				eventually(t, func() bool {
					err := informers.Check(nil)
					return err != nil && strings.Count(err.Error(), "*v1.") == 1 && strings.Contains(err.Error(), c.waits)
				})
				allowed.Store(true)
			}
			eventually(t, func() bool { return informers.Check(nil) == nil })
			if config.AdmissionControl != nil {
				create(t, config)
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			for _, a := range client.Actions() {
				if c.waits == "" && a.GetVerb() == "list" && a.GetResource().Resource == c.denied {
					t.Errorf("the host was asked for %s, which this server may not see", c.denied)
				}
			}
		})
	}
}

// eventually waits until something is so.
func eventually(t *testing.T, is func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) { return is(), nil })
	if err != nil {
		t.Fatal("it does not get so")
	}
}

// create has a write go through admission: nothing may hold it up.
func create(t *testing.T, config *genericapiserver.Config) {
	t.Helper()
	notes := schema.GroupVersionResource{Group: "widgets.example.com", Version: "v1", Resource: "widgets"}
	obj := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "one"}}
	a := admission.NewAttributesRecord(obj, nil, notes.GroupVersion().WithKind("Widget"), "", "one", notes, "", admission.Create, &metav1.CreateOptions{}, false, &user.DefaultInfo{Name: "alice"})
	objects := admission.NewObjectInterfacesFromScheme(runtime.NewScheme())
	if m, ok := config.AdmissionControl.(admission.MutationInterface); ok {
		if err := m.Admit(t.Context(), a, objects); err != nil {
			t.Errorf("admit: %v", err)
		}
	}
	if v, ok := config.AdmissionControl.(admission.ValidationInterface); ok {
		if err := v.Validate(t.Context(), a, objects); err != nil {
			t.Errorf("validate: %v", err)
		}
	}
}
