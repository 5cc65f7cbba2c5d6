package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"
	"pgregory.net/rapid"
)

var (
	drawGroup   = rapid.SampledFrom([]string{"", "a.example", "b.example", "c.example", "apps"})
	drawVersion = rapid.SampledFrom([]string{"v1", "v2", "v1beta1", "v2alpha1", "v10", "odd"})
	drawService = rapid.SampledFrom([]string{"", "one", "two", "three"})
)

// event is one change of a fact.
type event struct {
	APIService string // the name that is concerned
	Object     *apiregistrationv1.APIService
	Verdict    *Verdict
	Document   *Document
}

func drawObject(t *rapid.T) *apiregistrationv1.APIService {
	group, version := drawGroup.Draw(t, "group"), drawVersion.Draw(t, "version")
	o := &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: version + "." + group}}
	o.Spec.Group, o.Spec.Version = group, version
	o.Spec.GroupPriorityMinimum = rapid.Int32Range(1, 3).Draw(t, "group priority")
	o.Spec.VersionPriority = rapid.Int32Range(1, 3).Draw(t, "version priority")
	if name := drawService.Draw(t, "service"); name != "" {
		o.Spec.Service = &apiregistrationv1.ServiceReference{Namespace: "ns", Name: name}
	}
	return o
}

func drawEvent(t *rapid.T) event {
	o := drawObject(t)
	e := event{APIService: o.Name}
	switch rapid.IntRange(0, 4).Draw(t, "kind") {
	case 0: // deleted
	case 1:
		e.Verdict = &Verdict{apiregistrationv1.ConditionTrue, "Passed", "all checks passed"}
	case 2:
		e.Document = &Document{Discovery: &apidiscoveryv2.APIVersionDiscovery{
			Version:   o.Spec.Version,
			Resources: []apidiscoveryv2.APIResourceDiscovery{{Resource: "of-" + o.Name}},
		}}
	default:
		e.Object = o
	}
	return e
}

func apply(f Facts, e event) {
	switch {
	case e.Verdict != nil:
		f.Verdicts[e.APIService] = *e.Verdict
	case e.Document != nil:
		f.Documents[e.APIService] = *e.Document
	case e.Object != nil:
		f.Registrations[e.APIService] = NewRegistration(e.Object)
	default:
		delete(f.Registrations, e.APIService)
	}
}

func emptyFacts() Facts {
	return Facts{
		Registrations: map[string]Registration{},
		Services: map[types.NamespacedName]ServiceFacts{{Namespace: "ns", Name: "one"}: {Service: &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "one"},
			Spec:       corev1.ServiceSpec{Type: "NodePort", ClusterIP: "10.0.0.1", Ports: []corev1.ServicePort{{Port: 443}}},
		}}},
		Verdicts:       map[string]Verdict{},
		Documents:      map[string]Document{},
		ReservedGroups: []string{"c.example"},
	}
}

// text is all that a snapshot says, in its own order.
func text(s *Snapshot) string {
	var b strings.Builder
	for _, a := range s.APIServices() {
		fmt.Fprintf(&b, "%s local %v invalid %q target %v verdict %v document %v backend %v\n",
			a.Name, a.Local, a.Invalid, a.Target, a.Verdict, a.Document, a.Backend)
		fmt.Fprintf(&b, "  at %s: %s\n", a.Path(), routeText(s.Route(a.Path()+"/x")))
	}
	for _, g := range s.Groups() {
		fmt.Fprintf(&b, "%s:", g.Name)
		for _, a := range g.Versions {
			fmt.Fprintf(&b, " %s", a.Version)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// The order in which facts about different APIServices arrive makes no
// difference, nor does the order in which maps hand them out.
func TestSameFactsGiveSameSnapshot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.SliceOfN(rapid.Custom(drawEvent), 0, 60).Draw(t, "events")
		f := emptyFacts()
		for _, e := range events {
			apply(f, e)
		}
		want := text(Build(f))
		// Any order that keeps the events of each APIService in order.
		keys := map[string]int{}
		for _, e := range events {
			if _, ok := keys[e.APIService]; !ok {
				keys[e.APIService] = rapid.IntRange(0, 99).Draw(t, "turn")
			}
		}
		shuffled := slices.Clone(events)
		slices.SortStableFunc(shuffled, func(a, b event) int {
			return cmp.Compare(keys[a.APIService], keys[b.APIService])
		})
		g := emptyFacts()
		for _, e := range shuffled {
			apply(g, e)
		}
		for range 3 {
			if diff := gocmp.Diff(want, text(Build(g))); diff != "" {
				t.Fatalf("another order, another snapshot (-want +got):\n%s", diff)
			}
		}
	})
}

// No route outlives its APIService, and none leads where another one points.
func TestRoutesFollowRegistrations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := emptyFacts()
		for _, e := range rapid.SliceOfN(rapid.Custom(drawEvent), 0, 60).Draw(t, "events") {
			apply(f, e)
			s := Build(f)
			for _, group := range []string{"a.example", "b.example", "c.example", "apps"} {
				for _, version := range []string{"v1", "v2", "v1beta1", "v2alpha1", "v10", "odd"} {
					checkRoute(t, f, s, group, version)
				}
			}
			legacy, ok := f.Registrations[LegacyName]
			if got := s.Route("/api/v1/pods").Kind == Remote; got != (ok && !legacy.Local) {
				t.Fatalf("/api is remote: %v, registered %v", got, ok)
			}
		}
	})
}

func checkRoute(t *rapid.T, f Facts, s *Snapshot, group, version string) {
	name := version + "." + group
	r, registered := f.Registrations[name]
	wantRemote := registered && !r.Local && group != "c.example"
	for _, suffix := range []string{"", "/", "/things/a"} {
		route := s.Route("/apis/" + group + "/" + version + suffix)
		if (route.Kind == Remote) != wantRemote {
			t.Fatalf("%s%s: %s, registered %v", name, suffix, routeText(route), registered)
		}
		if wantRemote && (route.APIService.Name != name || route.APIService.Service != r.Service) {
			t.Fatalf("%s%s leads to %s at %s", name, suffix, route.APIService.Name, route.APIService.Service)
		}
	}
	if !wantRemote {
		return
	}
	// A remote's document is its own, and no other's.
	if d := s.Get(group, version).Document.Discovery; d != nil && d.Resources[0].Resource != "of-"+name {
		t.Fatalf("%s shows %s", name, d.Resources[0].Resource)
	}
}

// A group is listed exactly while one of its versions is registered.
func TestGroupsFollowRegistrations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := emptyFacts()
		for _, e := range rapid.SliceOfN(rapid.Custom(drawEvent), 0, 60).Draw(t, "events") {
			apply(f, e)
		}
		s := Build(f)
		listed := map[string]bool{}
		for _, g := range s.Groups() {
			if listed[g.Name] || g.Name == "" || len(g.Versions) == 0 {
				t.Fatalf("group %q: listed before %v, %d versions", g.Name, listed[g.Name], len(g.Versions))
			}
			listed[g.Name] = true
		}
		for _, r := range f.Registrations {
			if r.Group != "" && r.Group != "c.example" && !listed[r.Group] {
				t.Fatalf("%s is registered and its group is not listed", r.Name)
			}
		}
		for group := range listed {
			if !slices.ContainsFunc(s.APIServices(), func(a *APIService) bool { return a.Group == group }) {
				t.Fatalf("%s is listed and nothing of it is registered", group)
			}
		}
	})
}

// The order of groups and versions is that of the reference's own helper.
func TestOrderIsTheReferences(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := Facts{Registrations: map[string]Registration{}}
		var objects []*apiregistrationv1.APIService
		for _, o := range rapid.SliceOfNDistinct(rapid.Custom(drawObject), 0, 20, func(o *apiregistrationv1.APIService) string { return o.Name }).Draw(t, "objects") {
			if o.Spec.Group == "" {
				continue
			}
			f.Registrations[o.Name] = NewRegistration(o)
			objects = append(objects, o)
		}
		var want, got []string
		for _, group := range helper.SortedByGroupAndVersion(objects) {
			for _, o := range group {
				want = append(want, o.Name)
			}
		}
		for _, g := range Build(f).Groups() {
			for _, a := range g.Versions {
				got = append(got, a.Name)
			}
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func TestBuildLeavesFactsAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := emptyFacts()
		for _, e := range rapid.SliceOfN(rapid.Custom(drawEvent), 0, 30).Draw(t, "events") {
			apply(f, e)
		}
		before := fmt.Sprint(f)
		first := Build(f)
		said := text(first)
		apply(f, event{APIService: "v1.late.example", Object: &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: "v1.late.example"}}})
		delete(f.Registrations, "v1.late.example")
		if got := fmt.Sprint(f); got != before {
			t.Fatalf("facts changed from %s to %s", before, got)
		}
		for name := range f.Registrations {
			delete(f.Registrations, name)
		}
		if text(first) != said {
			t.Fatal("a published snapshot changed with the facts")
		}
	})
}

func TestRegistrationOfAnEmptyGroup(t *testing.T) {
	o := &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: "v2."}}
	o.Spec.Version = "v2"
	o.Spec.Service = &apiregistrationv1.ServiceReference{Namespace: "ns", Name: "one"}
	const want = "only v1 may have an empty group and it better be legacy kube"
	if got := NewRegistration(o).Invalid; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSameBackend(t *testing.T) {
	service := func(change func(*apiregistrationv1.APIService)) Registration {
		o := &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: "v1.a"}}
		o.Spec.Group, o.Spec.Version = "a", "v1"
		o.Spec.Service = &apiregistrationv1.ServiceReference{Namespace: "ns", Name: "one"}
		o.Spec.CABundle = []byte("ca")
		change(o)
		return NewRegistration(o)
	}
	base := service(func(*apiregistrationv1.APIService) {})
	for name, c := range map[string]struct {
		change func(*apiregistrationv1.APIService)
		same   bool
	}{
		"nothing":       {func(*apiregistrationv1.APIService) {}, true},
		"priorities":    {func(o *apiregistrationv1.APIService) { o.Spec.VersionPriority = 9 }, true},
		"explicit port": {func(o *apiregistrationv1.APIService) { o.Spec.Service.Port = new(int32(443)) }, true},
		"port":          {func(o *apiregistrationv1.APIService) { o.Spec.Service.Port = new(int32(444)) }, false},
		"name":          {func(o *apiregistrationv1.APIService) { o.Spec.Service.Name = "two" }, false},
		"namespace":     {func(o *apiregistrationv1.APIService) { o.Spec.Service.Namespace = "other" }, false},
		"CA":            {func(o *apiregistrationv1.APIService) { o.Spec.CABundle = []byte("new") }, false},
		"insecure":      {func(o *apiregistrationv1.APIService) { o.Spec.InsecureSkipTLSVerify = true }, false},
		"local":         {func(o *apiregistrationv1.APIService) { o.Spec.Service = nil }, false},
	} {
		if got := service(c.change).SameBackend(base); got != c.same {
			t.Errorf("another %s: same backend %v, want %v", name, got, c.same)
		}
	}
}
