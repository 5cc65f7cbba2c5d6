package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregatorclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/annex-api/annex/examples/appview"
	appv1 "github.com/annex-api/annex/examples/appview/v1"
	"github.com/annex-api/annex/examples/bulletin"
	bulletinv1 "github.com/annex-api/annex/examples/bulletin/v1"
	"github.com/annex-api/annex/examples/shell"
	shellv1 "github.com/annex-api/annex/examples/shell/v1"
	"github.com/annex-api/annex/examples/sysinfo"
	sysinfov1 "github.com/annex-api/annex/examples/sysinfo/v1"
	"github.com/annex-api/annex/examples/tickets"
	ticketsv1 "github.com/annex-api/annex/examples/tickets/v1"
	"github.com/annex-api/annex/examples/widgets"
	widgetsv1 "github.com/annex-api/annex/examples/widgets/v1"
	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/extensiontest/postgres"
	"github.com/annex-api/annex/extension/storage/drivers"
)

// example is an extension server of the examples, as its clients see it.
type example struct {
	name     string
	resource schema.GroupVersionResource
	kind     string
	typed    typedKind
	part     extension.Part
	// storage is memory unless said.
	storage func(t *testing.T) string
	// readOnly is of a kind that is computed: its objects are there, in no namespace.
	readOnly bool
	scale    bool

	// spec is what objects are made with; all have the field that selector names.
	spec, selector string
	// patch is a merge patch that makes the text patched appear in the YAML.
	patch, patched string
	// columns are of kubectl get, wide of kubectl get -o wide where those are others.
	columns, wide []string
	// explained is the path of a field, and a part of what is said of it.
	explained, explanation string
	// more is what only clients of this example do.
	more func(t *testing.T, s *served)
}

var examples = []example{
	{
		name: "widgets", resource: widgetsv1.GroupVersion.WithResource("widgets"), kind: "Widget",
		typed: typedOf[widgetsv1.Widget](), part: widgets.Widgets, scale: true,
		spec: `{"colour": "green"}`, selector: "spec.colour=green", patch: `{"spec": {"owner": "ada"}}`, patched: "owner: ada",
		columns: []string{"NAME", "COLOUR", "REPLICAS", "PHASE", "AGE"}, explained: "spec.colour", explanation: "painted",
	},
	{
		name: "sysinfo", resource: sysinfov1.GroupVersion.WithResource("cpus"), kind: "CPU",
		typed: typedOf[sysinfov1.CPU](), part: sysinfo.CPUs, readOnly: true,
		columns: []string{"NAME", "BUSY", "IDLE", "AGE"}, explained: "status.busySeconds", explanation: "how long it has worked",
	},
	{
		name: "bulletin", resource: bulletinv1.GroupVersion.WithResource("notices"), kind: "Notice",
		typed: typedOf[bulletinv1.Notice](), part: bulletin.Notices,
		spec: `{"message": "There is cake.", "severity": "warning"}`, selector: "spec.severity=warning", patch: `{"spec": {"message": "It is gone."}}`, patched: "message: It is gone.",
		columns: []string{"NAME", "SEVERITY", "PHASE", "MESSAGE", "AGE"}, explained: "spec.severity", explanation: "matters",
		more: bulletinManifest,
	},
	{
		name: "tickets", resource: ticketsv1.GroupVersion.WithResource("tickets"), kind: "Ticket",
		typed: typedOf[ticketsv1.Ticket](), part: tickets.Tickets, storage: func(t *testing.T) string { return postgres.Start(t) },
		spec: `{"title": "The lamp is broken", "assignee": "ada"}`, selector: "spec.assignee=ada", patch: `{"spec": {"priority": "high"}}`, patched: "priority: high",
		columns: []string{"NAME", "PRIORITY", "ASSIGNEE", "TITLE", "AGE"}, wide: []string{"NAME", "PRIORITY", "ASSIGNEE", "TITLE", "RESOLUTION", "AGE"}, explained: "spec.priority", explanation: "what comes first",
	},
	{
		name: "appview", resource: appv1.GroupVersion.WithResource("apps"), kind: "App",
		typed: typedOf[appv1.App](), part: appview.Apps(appview.ConfigMaps),
		spec: `{"image": "shop"}`, selector: "spec.image=shop", patch: `{"spec": {"replicas": 3}}`, patched: "replicas: 3",
		columns: []string{"NAME", "IMAGE", "REPLICAS", "PHASE", "AGE"}, explained: "spec.image", explanation: "what is run",
	},
	{
		name: "shell", resource: shellv1.GroupVersion.WithResource("shells"), kind: "Shell",
		typed: typedOf[shellv1.Shell](), part: shell.Shells,
		spec: `{"prompt": "$ "}`, selector: "metadata.namespace=shell-clients", patch: `{"spec": {"prompt": "ready> "}}`, patched: "prompt: 'ready> '",
		columns: []string{"NAME", "PROMPT", "AGE"}, explained: "spec.prompt", explanation: "terminal",
		more: shellSessions,
	},
}

// exampleClients are those that people and programs use. Each makes objects of its own.
var exampleClients = []struct {
	name string
	use  func(t *testing.T, s *served)
}{
	{"kubectl", kubectlOfExample},
	{"client-go's typed client", clientGoOfExample},
	{"controller-runtime's client", controllerRuntimeOfExample},
	{"dynamic", dynamicClientOfExample},
	{"metadata", metadataClientOfExample},
	{"informer with WatchList", informerWithWatchList},
	{"informer without WatchList", informerWithoutWatchList},
	{"controller-runtime's cache", cacheOfExample},
	{"Helm", helmOfExample},
}

// TestExamples uses every example by every client, through the aggregation layer. The short form
// has one that is stored and one that is computed.
func TestExamples(t *testing.T) {
	t.Parallel()
	c := startUp(t, shortTemp(t))
	for _, x := range examples {
		if testing.Short() && x.name != "widgets" && x.name != "sysinfo" {
			continue
		}
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			s := serveExample(t, c, x)
			for _, by := range exampleClients {
				t.Run(by.name, func(t *testing.T) { by.use(t, s) })
			}
			if x.more != nil {
				t.Run("more", func(t *testing.T) { x.more(t, s) })
			}
		})
	}
}

// served is an example that is served and registered.
type served struct {
	*cluster
	example
	namespace string // empty for what is in none
	objects   dynamic.ResourceInterface
	direct    *rest.Config // past the API server, without credentials
}

// serveExample serves one until the test ends. It is available and in discovery when it returns.
func serveExample(t *testing.T, c *cluster, x example) *served {
	t.Helper()
	service := types.NamespacedName{Namespace: x.name + "-clients", Name: x.name}
	for _, err := range []error{
		create(t.Context(), c.kube.CoreV1().Namespaces().Create, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: service.Namespace}}),
		create(t.Context(), c.kube.CoreV1().Services(service.Namespace).Create, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: service.Name},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "localhost"},
		}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	storage := "memory://"
	if x.storage != nil {
		storage = x.storage(t)
	}
	address := c.serveExtension(t, service, storage, x.part, extension.Drivers(drivers.All()...))
	c.awaitAvailable(t, x.resource.GroupVersion())
	c.awaitDiscovered(t, x.resource.GroupVersion())
	s := &served{
		cluster: c, example: x, objects: c.dynamic.Resource(x.resource),
		direct: &rest.Config{Host: "https://" + address, TLSClientConfig: rest.TLSClientConfig{Insecure: true}},
	}
	if !x.readOnly {
		s.namespace = service.Namespace
		s.objects = c.dynamic.Resource(x.resource).Namespace(s.namespace)
	}
	return s
}

// serveExtension serves and registers a server that has the name of its Service, until the
// test ends. It gives its address.
func (c *cluster) serveExtension(t *testing.T, service types.NamespacedName, storage string, parts ...extension.Part) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	server, err := extension.New(ctx, extension.Config{
		Name: service.Name, Storage: storage, Host: c.admin, Listener: listener,
		ShutdownDelay: -1, // nobody else serves it
		Register:      &extension.Registration{Service: service, Port: int32(listener.Addr().(*net.TCPAddr).Port)},
	}, parts...)
	if err != nil {
		stop()
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the server %s ended with an error: %v", service.Name, err)
		}
	})
	return listener.Addr().String()
}

// awaitAvailable waits until the APIService of a group version is available.
func (c *cluster) awaitAvailable(t *testing.T, gv schema.GroupVersion) {
	t.Helper()
	client, err := aggregatorclient.NewForConfig(c.admin)
	if err != nil {
		t.Fatal(err)
	}
	name := gv.Version + "." + gv.Group
	eventually(t, name+" is not available", func(ctx context.Context) error {
		a, err := client.ApiregistrationV1().APIServices().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range a.Status.Conditions {
			if condition.Type == apiregistrationv1.Available && condition.Status == apiregistrationv1.ConditionTrue {
				return nil
			}
		}
		return errors.New("it does not say so")
	})
}

// object is one of the example, labelled with who made it.
func (s *served) object(t *testing.T, name, madeBy string) *unstructured.Unstructured {
	t.Helper()
	var spec map[string]any
	if err := json.Unmarshal([]byte(s.spec), &spec); err != nil {
		t.Fatal(err)
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": s.resource.GroupVersion().String(), "kind": s.kind,
		"metadata": map[string]any{"name": name, "namespace": s.namespace, "labels": map[string]any{"made-by": madeBy}},
		"spec":     spec,
	}}
}

// manifest is object as kubectl and Helm read it.
func (s *served) manifest(t *testing.T, name, madeBy string) string {
	t.Helper()
	text, err := json.Marshal(s.object(t, name, madeBy).Object)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// typedKind makes Go values of a kind.
type typedKind struct {
	newObject func() client.Object
	newList   func() client.ObjectList
}

func typedOf[T any]() typedKind {
	return typedKind{
		newObject: func() client.Object { return any(new(T)).(client.Object) },
		newList:   func() client.ObjectList { return new(listOf[T]) },
	}
}

// scheme knows the kind, and its list.
func (s *served) scheme() *runtime.Scheme {
	scheme, gv := runtime.NewScheme(), s.resource.GroupVersion()
	scheme.AddKnownTypeWithName(gv.WithKind(s.kind), s.typed.newObject())
	scheme.AddKnownTypeWithName(gv.WithKind(s.kind+"List"), s.typed.newList())
	metav1.AddToGroupVersion(scheme, gv)
	return scheme
}

// listOf is a list of objects, as examples without one of their own need it.
type listOf[T any] struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []T `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (l *listOf[T]) DeepCopyObject() runtime.Object {
	out := &listOf[T]{TypeMeta: l.TypeMeta}
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	for i := range l.Items {
		out.Items = append(out.Items, *any(any(&l.Items[i]).(runtime.Object).DeepCopyObject()).(*T))
	}
	return out
}

// hasColumns checks the first line of what kubectl get printed.
func hasColumns(t *testing.T, out string, want ...string) {
	t.Helper()
	header, _, _ := strings.Cut(out, "\n")
	if got := strings.Fields(header); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the columns are %v, want %v", got, want)
	}
}

// awaitDiscovered waits until discovery lists a group version, which of a second version comes half a second after it
// is available.
func (c *cluster) awaitDiscovered(t *testing.T, gv schema.GroupVersion) {
	t.Helper()
	eventually(t, gv.String()+" is not in discovery", func(context.Context) error {
		_, lists, err := c.kube.Discovery().ServerGroupsAndResources() // an error may be about other groups
		for _, l := range lists {
			if l.GroupVersion == gv.String() && len(l.APIResources) > 0 {
				return nil
			}
		}
		return errors.Join(errors.New("it is not listed, or stale"), err)
	})
}
