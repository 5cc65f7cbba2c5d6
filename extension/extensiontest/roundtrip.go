package extensiontest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"

	"github.com/annex-api/annex/extension"
)

// roundTrips is how many random objects of each version are converted.
const roundTrips = 500

// RoundTrip converts random objects of every spoke to the hub and back, and fails where
// something is lost: a conversion that says nothing loses what a client has written. It
// fails as well where a conversion changes what it is given.
// What only the hub has is not its matter; that is kept by the server.
//
// fill are functions like func(*v1beta1.Mode, randfill.Continue) of sigs.k8s.io/randfill.
// Each gives a random value of its type, where not any will do: a conversion of an enum
// need not know what is none of its values.
func RoundTrip(t *testing.T, part extension.Part, fill ...any) {
	t.Helper()
	trips, err := extension.RoundTrips(part)
	if err != nil {
		t.Fatal(err)
	}
	for _, trip := range trips {
		t.Run(trip.Kind+"."+trip.Version, func(t *testing.T) {
			for seed := range int64(roundTrips) {
				if lost := lostBy(trip, seed, fill...); lost != "" {
					t.Fatalf("%s %s to the hub and back (seed %d): %s", trip.Kind, trip.Version, seed, lost)
				}
			}
		})
	}
}

// lostBy says what one object loses; empty where it is nothing.
func lostBy(trip extension.RoundTrip, seed int64, fill ...any) string {
	var in runtime.Object
	if trip.Random != nil {
		in = trip.Random(seed)
	} else {
		in = trip.New()
		filler(seed).Funcs(fill...).Fill(in)
	}
	there, err := trip.There(in)
	if err != nil {
		return err.Error()
	}
	out, err := trip.Back(there)
	if err != nil {
		return err.Error()
	}
	// The server copies metadata, and a conversion may note something there.
	if to, ok := out.(metav1.Object); ok {
		from := in.(metav1.Object)
		if lost := missing("label", from.GetLabels(), to.GetLabels()) + missing("annotation", from.GetAnnotations(), to.GetAnnotations()); lost != "" {
			return lost
		}
		to.SetLabels(from.GetLabels())
		to.SetAnnotations(from.GetAnnotations())
	}
	if equality.Semantic.DeepEqual(in, out) {
		return ""
	}
	before, err := json.Marshal(in)
	if err != nil {
		return err.Error()
	}
	after, err := json.Marshal(out)
	if err != nil {
		return err.Error()
	}
	if string(before) == string(after) { // nobody sees a difference
		return ""
	}
	return cmp.Diff(string(before), string(after))
}

// missing says which of the labels or annotations of before are others after, or none.
func missing(what string, before, after map[string]string) string {
	var lost strings.Builder
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if value, ok := after[name]; !ok {
			fmt.Fprintf(&lost, "the %s %s is lost\n", what, name)
		} else if value != before[name] {
			fmt.Fprintf(&lost, "the %s %s is %q, and was %q\n", what, name, value, before[name])
		}
	}
	return lost.String()
}

func filler(seed int64) *randfill.Filler {
	return randfill.NewWithSeed(seed).NilChance(0.3).NumElements(0, 3).MaxDepth(12).Funcs(
		func(*metav1.TypeMeta, randfill.Continue) {}, // set by who sends an object
		func(m *metav1.ObjectMeta, _ randfill.Continue) {
			m.Name, m.Labels, m.Annotations = "one", map[string]string{"a": "b"}, map[string]string{"a": "b"}
		},
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewQuantity(c.Int63n(1000), resource.DecimalSI)
		},
		func(v *intstr.IntOrString, c randfill.Continue) { *v = intstr.FromInt32(c.Int31n(1000)) },
		func(m *metav1.Time, c randfill.Continue) { *m = metav1.Unix(c.Int63n(1<<32), 0) },
		func(r *runtime.RawExtension, _ randfill.Continue) { r.Raw = []byte(`{"a":1}`) },
	)
}
