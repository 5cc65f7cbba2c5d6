package versions_test

import (
	"encoding/json"
	"maps"
	"math/rand"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/randfill"

	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/versions"
)

// gear is a hub that can say more than its spoke: fields, parts of lists and of maps, and
// a value of which the spoke shows another.
type gear struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              gearSpec `json:"spec,omitempty"`
}

type gearSpec struct {
	Text   string         `json:"text,omitempty"`
	Quota  int64          `json:"quota,omitempty"`
	Exact  bool           `json:"exact,omitempty"` // the spoke shows it as Text "exact" where there is no text
	Teeth  *int64         `json:"teeth,omitempty"`
	Limits *limits        `json:"limits,omitempty"`
	Parts  []part         `json:"parts,omitempty"`
	Spares []part         `json:"spares,omitempty"`
	Tags   []string       `json:"tags,omitempty"`
	Sizes  map[string]tin `json:"sizes,omitempty"`
}

type limits struct {
	Low  int64 `json:"low,omitempty"`
	High int64 `json:"high,omitempty"`
}

type part struct {
	Name   string `json:"name,omitempty"`
	Weight int64  `json:"weight,omitempty"`
	Note   string `json:"note,omitempty"`
}

type tin struct {
	Width int64 `json:"width,omitempty"`
	Depth int64 `json:"depth,omitempty"`
}

// oldGear says text, quota, low limits, weights and widths, and parts that weigh something.
type oldGear struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              oldGearSpec `json:"spec,omitempty"`
}

type oldGearSpec struct {
	Text   string           `json:"text,omitempty"`
	Quota  int64            `json:"quota,omitempty"`
	Limits *oldLimits       `json:"limits,omitempty"`
	Parts  []oldPart        `json:"parts,omitempty"`
	Sizes  map[string]int64 `json:"sizes,omitempty"`
}

type oldLimits struct {
	Low int64 `json:"low,omitempty"`
}

type oldPart struct {
	Name   string `json:"name,omitempty"`
	Weight int64  `json:"weight,omitempty"`
}

type gearList = kind.List[gear]

// deep copies one by its JSON.
func deep[T any](in *T) *T {
	data, err := json.Marshal(in)
	if err != nil {
		panic(err)
	}
	out := new(T)
	if err := json.Unmarshal(data, out); err != nil {
		panic(err)
	}
	return out
}

func (g *gear) DeepCopyObject() runtime.Object    { return deep(g) }
func (g *gear) DeepCopyInto(out *gear)            { *out = *deep(g) }
func (g *oldGear) DeepCopyObject() runtime.Object { return deep(g) }
func (g *oldGear) DeepCopyInto(out *oldGear)      { *out = *deep(g) }

func toHub(from, to runtime.Object) error {
	in, out := from.(*oldGear), to.(*gear)
	out.Spec = gearSpec{Text: in.Spec.Text, Quota: in.Spec.Quota}
	if l := in.Spec.Limits; l != nil {
		out.Spec.Limits = &limits{Low: l.Low}
	}
	for _, p := range in.Spec.Parts {
		out.Spec.Parts = append(out.Spec.Parts, part{Name: p.Name, Weight: p.Weight})
	}
	for name, width := range in.Spec.Sizes {
		if out.Spec.Sizes == nil {
			out.Spec.Sizes = map[string]tin{}
		}
		out.Spec.Sizes[name] = tin{Width: width}
	}
	return nil
}

func fromHub(from, to runtime.Object) error {
	in, out := from.(*gear), to.(*oldGear)
	out.Spec = oldGearSpec{Text: in.Spec.Text, Quota: in.Spec.Quota}
	if in.Spec.Exact && in.Spec.Text == "" {
		out.Spec.Text = "exact"
	}
	if l := in.Spec.Limits; l != nil {
		out.Spec.Limits = &oldLimits{Low: l.Low}
	}
	for _, p := range in.Spec.Parts {
		if p.Weight != 0 {
			out.Spec.Parts = append(out.Spec.Parts, oldPart{p.Name, p.Weight})
		}
	}
	for name, t := range in.Spec.Sizes {
		if out.Spec.Sizes == nil {
			out.Spec.Sizes = map[string]int64{}
		}
		out.Spec.Sizes[name] = t.Width
	}
	return nil
}

// gears is the kind; keyed says that a schema tells its lists' keys.
func gears(keyed bool) *kind.Kind {
	k := &kind.Kind{
		Hub:   schema.GroupVersion{Group: "gears.example.com", Version: "v1"},
		Names: kind.Names{Kind: "Gear", List: "GearList", Plural: "gears", Singular: "gear"},
		New:   func() runtime.Object { return &gear{} }, NewList: func() runtime.Object { return &gearList{} },
		StorageVersion: "v1beta1",
		Spokes: []kind.Spoke{{
			Version: "v1beta1",
			New:     func() runtime.Object { return &oldGear{} }, NewList: func() runtime.Object { return &kind.List[oldGear]{} },
			ToHub: toHub, FromHub: fromHub,
		}},
	}
	if keyed {
		names := &kind.Lists{Keys: []string{"name"}}
		k.Lists = &kind.Lists{Fields: map[string]*kind.Lists{"spec": {Fields: map[string]*kind.Lists{
			"parts": names, "spares": names, "tags": {Set: true},
		}}}}
	}
	return k
}

func scheme(t *testing.T, k *kind.Kind) *runtime.Scheme {
	t.Helper()
	s, err := versions.Scheme(k)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// random makes a gear whose parts have names of their own.
func random(seed int64) *gear {
	out := &gear{}
	named := func(parts *[]part, c randfill.Continue) {
		var all []part
		for _, i := range rand.New(rand.NewSource(c.Int63())).Perm(4)[:c.Intn(4)] {
			p := part{}
			c.Fill(&p.Weight)
			c.Fill(&p.Note)
			p.Name = string(rune('a' + i))
			if c.Intn(4) == 0 {
				p.Weight = 0
			}
			all = append(all, p)
		}
		*parts = all
	}
	randfill.NewWithSeed(seed).NilChance(0.3).NumElements(1, 3).Funcs(
		func(*metav1.TypeMeta, randfill.Continue) {},
		func(m *metav1.ObjectMeta, c randfill.Continue) {
			m.Name, m.Annotations, m.Labels = "one", map[string]string{"mine": c.String(4)}, map[string]string{"a": "b"}
		},
		named,
		func(tags *[]string, c randfill.Continue) {
			*tags = []string{"x", "y", "z"}[:c.Intn(4)]
		},
	).Fill(out)
	return deep(out) // as it is after it was stored
}

// edits are what a client may do with what the spoke shows.
var edits = map[string]func(*oldGear, *rand.Rand){
	"text":   func(o *oldGear, r *rand.Rand) { o.Spec.Text = string(rune('a' + r.Intn(26))) },
	"quota":  func(o *oldGear, r *rand.Rand) { o.Spec.Quota = int64(r.Uint64()) },
	"limits": func(o *oldGear, r *rand.Rand) { o.Spec.Limits = &oldLimits{Low: r.Int63()} },
	"no limits": func(o *oldGear, r *rand.Rand) {
		o.Spec.Limits = nil
	},
	"a weight": func(o *oldGear, r *rand.Rand) {
		if n := len(o.Spec.Parts); n > 0 {
			o.Spec.Parts[r.Intn(n)].Weight++
		}
	},
	"another part": func(o *oldGear, r *rand.Rand) {
		o.Spec.Parts = append(o.Spec.Parts, oldPart{"new", 1 + r.Int63()})
	},
	"fewer parts": func(o *oldGear, r *rand.Rand) {
		if n := len(o.Spec.Parts); n > 0 {
			i := r.Intn(n)
			o.Spec.Parts = slices.Delete(o.Spec.Parts, i, i+1)
		}
	},
	"another order": func(o *oldGear, _ *rand.Rand) { slices.Reverse(o.Spec.Parts) },
	"a size": func(o *oldGear, r *rand.Rand) {
		if o.Spec.Sizes == nil {
			o.Spec.Sizes = map[string]int64{}
		}
		o.Spec.Sizes["new"] = 1 + r.Int63()
	},
	"fewer sizes": func(o *oldGear, _ *rand.Rand) {
		for name := range maps.Keys(o.Spec.Sizes) {
			delete(o.Spec.Sizes, name)
			return
		}
	},
	"a label": func(o *oldGear, _ *rand.Rand) { o.Labels["new"] = "yes" },
}
