package extension

import (
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/annex-api/annex/extension/internal/kind"
)

// RoundTrip takes objects of one version to the hub and back. It is for tests; see
// extensiontest.RoundTrip.
type RoundTrip struct {
	// Kind and Version say of what.
	Kind, Version string
	// New makes an empty object of the version.
	New func() runtime.Object
	// There converts one to the hub, and Back what There gave to the version again.
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
			trips = append(trips, roundTrip(k, s))
		}
	}
	return trips, nil
}

func roundTrip(k *kind.Kind, s kind.Spoke) RoundTrip {
	convert := func(f func(from, to runtime.Object) error, empty func() runtime.Object) func(runtime.Object) (runtime.Object, error) {
		return func(from runtime.Object) (runtime.Object, error) {
			to := empty()
			if err := f(from.DeepCopyObject(), to); err != nil {
				return nil, err
			}
			return to, nil
		}
	}
	return RoundTrip{Kind: k.Names.Kind, Version: s.Version, New: s.New, There: convert(s.ToHub, k.New), Back: convert(s.FromHub, s.New)}
}
