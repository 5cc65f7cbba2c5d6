package admission

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	genericapiserver "k8s.io/apiserver/pkg/server"
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
		line                string // of what is off
		err                 string
		handles, flow       bool
	}{
		"all":                        {handles: true, flow: true},
		"both off":                   {admission: Off, fairness: Off},
		"fairness denied":            {denied: "flowschemas", line: `"Priority and fairness is off" "reason"="this server may not list, watch flowschemas.flowcontrol.apiserver.k8s.io"`, handles: true},
		"fairness denied and on":     {denied: "flowschemas", fairness: On, err: "Priority and fairness must be on, and cannot: this server may not list, watch flowschemas"},
		"webhooks denied":            {denied: "validatingwebhookconfigurations", line: `"Admission plugin MutatingAdmissionWebhook is off"`, handles: true, flow: true},
		"webhooks denied and on":     {denied: "validatingwebhookconfigurations", admission: On, err: "Admission plugin ValidatingAdmissionWebhook must be on"},
		"policies not served":        {unserved: "mutatingadmissionpolicies", line: `"Admission plugin MutatingAdmissionPolicy is off" "reason"="the host does not serve mutatingadmissionpolicies of admissionregistration.k8s.io/v1"`, handles: true, flow: true},
		"policies not served, on":    {unserved: "mutatingadmissionpolicies", admission: On, line: `"Admission plugin MutatingAdmissionPolicy is off"`, handles: true, flow: true},
		"namespaces may not be seen": {denied: "namespaces", line: `"Admission plugin NamespaceLifecycle is off" "reason"="this server may not get, list, watch namespaces"`, flow: true},
	} {
		t.Run(name, func(t *testing.T) {
			client := fake.NewClientset()
			var log lines
			config := newConfig()
			informers, err := Apply(config, Options{
				Admission: c.admission, Fairness: c.fairness, Verdict: verdict(t, client, c.unserved, c.denied),
				Client: hostClient{client}, Dynamic: dynamicfake.NewSimpleDynamicClient(runtime.NewScheme()), Log: log.logger(),
			})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %v, want an error with %q", err, c.err)
				}
				return
			}
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
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- informers.Run(ctx) }()
			if config.AdmissionControl != nil {
				create(t, config)
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			for _, a := range client.Actions() {
				if a.GetVerb() == "list" && a.GetResource().Resource == c.denied {
					t.Errorf("the host was asked for %s, which this server may not see", c.denied)
				}
			}
		})
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
