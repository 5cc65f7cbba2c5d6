package versions_test

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"

	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/versions"
)

// rounds is how many random objects each property is tried with.
const rounds = 60

// ways are how a client's change may reach the hub. Each gives the hub after an edit of what
// the spoke shows of a stored object.
func ways(t *testing.T, k *kind.Kind) map[string]func(stored *gear, edit func(*oldGear)) (*gear, error) {
	s := scheme(t, k)
	lossless, codec := versions.Lossless(s, k), versions.StorageCodec(s, serializer.NewCodecFactory(s), k)
	old := schema.GroupVersion{Group: k.Hub.Group, Version: "v1beta1"}
	return map[string]func(*gear, func(*oldGear)) (*gear, error){
		"kept from the stored": func(stored *gear, edit func(*oldGear)) (*gear, error) {
			seen, err := versions.FromHub(k, "v1beta1", stored.DeepCopyObject())
			if err != nil {
				return nil, err
			}
			edit(seen.(*oldGear))
			obj, err := versions.ToHub(k, "v1beta1", seen)
			if err != nil {
				return nil, err
			}
			return obj.(*gear), versions.KeepHubOnly(k, "v1beta1", obj, stored)
		},
		"there and back": func(stored *gear, edit func(*oldGear)) (*gear, error) {
			there, err := lossless.ConvertToVersion(stored.DeepCopyObject(), old)
			if err != nil {
				return nil, err
			}
			edit(there.(*oldGear))
			content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(there) // as apply has it
			if err != nil {
				return nil, err
			}
			content["apiVersion"], content["kind"] = old.String(), "Gear"
			back, err := lossless.ConvertToVersion(unstructuredOf(content), runtime.InternalGroupVersioner)
			if err != nil {
				return nil, err
			}
			return back.(*gear), nil
		},
		"stored in the spoke": func(stored *gear, edit func(*oldGear)) (*gear, error) {
			data, err := runtime.Encode(codec, stored.DeepCopyObject())
			if err != nil {
				return nil, err
			}
			var older oldGear // a release that has no hub
			if err := json.Unmarshal(data, &older); err != nil {
				return nil, err
			}
			edit(&older)
			if data, err = json.Marshal(&older); err != nil {
				return nil, err
			}
			back := &gear{}
			return back, runtime.DecodeInto(codec, data, back)
		},
	}
}

// Nothing is lost of an object that nobody changed.
func TestWhatNobodyChangedIsTheSame(t *testing.T) {
	for _, keyed := range []bool{false, true} {
		for name, way := range ways(t, gears(keyed)) {
			t.Run(fmt.Sprint(name, keyed), func(t *testing.T) {
				for seed := range int64(rounds) {
					stored := random(seed)
					got, err := way(stored, func(*oldGear) {})
					if err != nil {
						t.Fatal(err)
					}
					got.TypeMeta = stored.TypeMeta
					if diff := cmp.Diff(stored, got); diff != "" {
						t.Fatalf("seed %d: %s", seed, diff)
					}
				}
			})
		}
	}
}

// What a client changed is as it wrote it, and what it could not see is as it was, as far
// as that is still there.
func TestWhatAClientChangesIsWhatItWrote(t *testing.T) {
	k := gears(true)
	for name, way := range ways(t, k) {
		for what, edit := range edits {
			t.Run(name+", "+what, func(t *testing.T) {
				for seed := range int64(rounds) {
					stored := random(seed)
					var written *oldGear
					got, err := way(stored, func(o *oldGear) {
						edit(o, rand.New(rand.NewSource(seed)))
						written = deep(o)
					})
					if err != nil {
						t.Fatal(err)
					}
					shown, err := versions.FromHub(k, "v1beta1", got.DeepCopyObject())
					if err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(visible(written), visible(shown.(*oldGear))); diff != "" {
						t.Fatalf("seed %d: the client sees %s", seed, diff)
					}
					if diff := hidden(stored, written, got); diff != "" {
						t.Fatalf("seed %d: what it could not see: %s", seed, diff)
					}
				}
			})
		}
	}
}

// visible is what a client wrote, without what carries the hub's.
func visible(o *oldGear) *oldGear {
	o = deep(o)
	for name := range o.Annotations {
		if versions.IsStash(name) {
			delete(o.Annotations, name)
		}
	}
	o.Name, o.TypeMeta = "", oldGear{}.TypeMeta
	return o
}

// hidden compares what the spoke cannot say where the client left room for it.
func hidden(stored *gear, written *oldGear, got *gear) string {
	type secret struct {
		Teeth  *int64
		High   int64
		Notes  map[string]string
		Light  []part
		Spares []part
		Tags   []string
		Depths map[string]int64
	}
	of := func(g *gear) secret {
		s := secret{Teeth: g.Spec.Teeth, Spares: g.Spec.Spares, Tags: g.Spec.Tags, Notes: map[string]string{}, Depths: map[string]int64{}}
		if g.Spec.Limits != nil && written.Spec.Limits != nil && stored.Spec.Limits != nil {
			s.High = g.Spec.Limits.High
		}
		still := map[string]bool{}
		for _, p := range written.Spec.Parts {
			still[p.Name] = true
		}
		for _, p := range g.Spec.Parts {
			switch {
			case p.Weight == 0:
				s.Light = append(s.Light, p)
			case still[p.Name] && p.Note != "":
				s.Notes[p.Name] = p.Note
			}
		}
		for name, t := range g.Spec.Sizes {
			if _, still := written.Spec.Sizes[name]; still && t.Depth != 0 {
				s.Depths[name] = t.Depth
			}
		}
		return s
	}
	return cmp.Diff(of(stored), of(got))
}
