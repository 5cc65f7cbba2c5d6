package extensiontest

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/randfill"

	v1 "github.com/annex-api/annex/examples/bulletin/v1"
	"github.com/annex-api/annex/extension"
)

func TestALossyConversionIsFound(t *testing.T) {
	lossy := extension.RoundTrip{
		Kind: "Notice", Version: "v0", New: func() runtime.Object { return &v1.Notice{} },
		There: func(in runtime.Object) (runtime.Object, error) {
			out := in.DeepCopyObject().(*v1.Notice)
			out.Spec.Message = strings.TrimSpace(out.Spec.Message)
			out.Spec.Expires = nil
			return out, nil
		},
		Back: func(in runtime.Object) (runtime.Object, error) { return in, nil },
	}
	for seed := range int64(20) {
		if lost := lostBy(lossy, seed); strings.Contains(lost, "expires") {
			return
		}
	}
	t.Error("a conversion that drops spec.expires is not found")
}

// mine is a hub, and yours a spoke that says its message in other words.
func mine(toHub, fromHub func(from, to *v1.Notice) error) extension.Part {
	with := func(f func(from, to *v1.Notice) error) func(from, to *v1.Notice) error {
		return func(from, to *v1.Notice) error { to.Status = from.Status; return f(from, to) }
	}
	return extension.Resource[v1.Notice, v1.NoticeList]{
		GroupVersion: v1.GroupVersion,
		Versions:     extension.Versions(extension.Spoke("v0", with(toHub), with(fromHub))),
	}
}

func lost(t *testing.T, part extension.Part, fill ...any) string {
	t.Helper()
	trips, err := extension.RoundTrips(part)
	if err != nil || len(trips) != 1 {
		t.Fatal(err, trips)
	}
	for seed := range int64(20) {
		if lost := lostBy(trips[0], seed, fill...); lost != "" {
			return lost
		}
	}
	return ""
}

func TestAConversionThatChangesItsInputIsFound(t *testing.T) {
	copies := func(from, to *v1.Notice) error { to.Spec = from.Spec; return nil }
	if got := lost(t, mine(copies, copies)); got != "" {
		t.Errorf("a good conversion: %s", got)
	}
	for name, bad := range map[string]func(from, to *v1.Notice) error{
		"its spec":     func(from, to *v1.Notice) error { to.Spec = from.Spec; from.Spec.Message += "!"; return nil },
		"its metadata": func(from, to *v1.Notice) error { to.Spec = from.Spec; delete(from.Annotations, "a"); return nil },
	} {
		for way, part := range map[string]extension.Part{"to the hub": mine(bad, copies), "from the hub": mine(copies, bad)} {
			if got := lost(t, part); !strings.Contains(got, "changes the object") {
				t.Errorf("a conversion %s that changes %s gives %q", way, name, got)
			}
		}
	}
}

func TestAConversionThatNotesSomethingLosesNothing(t *testing.T) {
	notes := func(from, to *v1.Notice) error {
		to.Spec = from.Spec
		to.Annotations["example.com/converted"] = "yes"
		return nil
	}
	if got := lost(t, mine(notes, notes)); got != "" {
		t.Error(got)
	}
}

func TestAConversionThatLosesLabelsOrAnnotationsIsFound(t *testing.T) {
	copies := func(from, to *v1.Notice) error { to.Spec = from.Spec; return nil }
	for want, bad := range map[string]func(to *v1.Notice){
		"the annotation a is lost":                func(to *v1.Notice) { to.Annotations = map[string]string{"example.com/converted": "yes"} },
		"the label a is lost":                     func(to *v1.Notice) { to.Labels = nil },
		`the label a is "converted", and was "b"`: func(to *v1.Notice) { to.Labels["a"] = "converted" },
	} {
		loses := func(from, to *v1.Notice) error { bad(to); return copies(from, to) }
		for way, part := range map[string]extension.Part{"to the hub": mine(loses, copies), "from the hub": mine(copies, loses)} {
			if got := lost(t, part); !strings.Contains(got, want) {
				t.Errorf("%s: %q, want %q", way, got, want)
			}
		}
	}
}

func TestAConversionOfAnEnumIsGivenItsValues(t *testing.T) {
	words := map[string]string{"fast": "Fast", "slow": "Slow"}
	part := mine(
		func(from, to *v1.Notice) error {
			to.Spec = from.Spec
			to.Spec.Message = words[from.Spec.Message]
			return nil
		},
		func(from, to *v1.Notice) error {
			to.Spec = from.Spec
			to.Spec.Message = strings.ToLower(from.Spec.Message)
			return nil
		})
	if got := lost(t, part); got == "" {
		t.Error("random words go there and back")
	}
	fill := func(s *v1.NoticeSpec, c randfill.Continue) {
		s.Message = []string{"fast", "slow"}[c.Intn(2)]
	}
	if got := lost(t, part, fill); got != "" {
		t.Error(got)
	}
	RoundTrip(t, part, fill)
}

// Kinds without a Go type are tried with objects that their schemas make.
func TestALossyConversionOfASchemaAloneIsFound(t *testing.T) {
	schema := []byte("type: object\nproperties:\n  a: {type: string}\n  b: {type: string}\n")
	some := func(names ...string) func(from, to *unstructured.Unstructured) error {
		return func(from, to *unstructured.Unstructured) error {
			for _, name := range names {
				if value, ok := from.Object[name]; ok {
					to.Object[name] = value
				}
			}
			return nil
		}
	}
	for name, toHub := range map[string]func(from, to *unstructured.Unstructured) error{"b": some("a"), "": some("a", "b")} {
		kind := extension.FromOpenAPI(extension.Schema{
			Group: "x.example.com", Names: extension.Names{Kind: "X"},
			Versions: []extension.SchemaVersion{{Name: "v1", OpenAPI: schema}, {Name: "v0", OpenAPI: schema}},
		})
		kind.Versions = extension.Versions(extension.Spoke("v0", toHub, some("a", "b")))
		trips, err := extension.RoundTrips(kind)
		if err != nil || len(trips) != 1 {
			t.Fatal(trips, err)
		}
		lost := ""
		for seed := range int64(20) {
			lost += lostBy(trips[0], seed)
		}
		if (lost != "") != (name != "") || !strings.Contains(lost, name) {
			t.Errorf("a conversion that loses %q is said to lose %q", name, lost)
		}
	}
}
