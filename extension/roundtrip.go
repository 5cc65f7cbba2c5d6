package extension

import (
	"fmt"
	"maps"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/schema"
	"github.com/annex-api/annex/extension/internal/versions"
)

// RoundTrip takes objects of one version to the hub and back. It is for tests; see
// extensiontest.RoundTrip.
type RoundTrip struct {
	// Kind and Version say of what.
	Kind, Version string
	// New makes an empty object of the version.
	New func() runtime.Object
	// Random makes one by its schema, for kinds without a Go type; nil for others.
	Random func(seed int64) runtime.Object
	// There converts one to the hub, and Back what There gave to the version again. That
	// one changes what it is given is an error.
	There, Back func(runtime.Object) (runtime.Object, error)
}

// RoundTrips gives those of a part: one for each of its spokes. The error is what New
// would say.
func RoundTrips(p Part) ([]RoundTrip, error) {
	a, err := assemble([]Part{p})
	if err != nil {
		return nil, err
	}
	var trips []RoundTrip
	for _, k := range a.kinds {
		for _, s := range k.Spokes {
			trip := roundTrip(k, s)
			if k.Untyped != nil {
				trip.Random = randomOf(s, a.definitions[k].Version(s.Version))
			}
			trips = append(trips, trip)
		}
	}
	return trips, nil
}

func randomOf(s kind.Spoke, v *schema.Version) func(seed int64) runtime.Object {
	return func(seed int64) runtime.Object {
		u := s.New().(*unstructured.Unstructured)
		maps.Copy(u.Object, v.Random(uint64(seed)))
		return u
	}
}

func roundTrip(k *kind.Kind, s kind.Spoke) RoundTrip {
	convert := func(f func(k *kind.Kind, version string, obj runtime.Object) (runtime.Object, error)) func(runtime.Object) (runtime.Object, error) {
		return func(from runtime.Object) (runtime.Object, error) {
			given := from.DeepCopyObject()
			to, err := f(k, s.Version, given)
			if err != nil {
				return nil, err
			}
			if !equality.Semantic.DeepEqual(given, from) {
				return nil, fmt.Errorf("the conversion between %s and %s changes the object that it is given: others read it at the same time", s.Version, k.Hub.Version)
			}
			return to.DeepCopyObject(), nil
		}
	}
	return RoundTrip{Kind: k.Names.Kind, Version: s.Version, New: s.New, There: convert(versions.ToHub), Back: convert(versions.FromHub)}
}
