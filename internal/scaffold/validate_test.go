package scaffold

import (
	"strings"
	"testing"
)

// sample is the project that tests begin with.
func sample(kinds ...string) Project {
	if len(kinds) == 0 {
		kinds = []string{"Widget"}
	}
	p := New("widgets", "", "", "widgets.example.com", Annex{Version: "v0.1.0"})
	for _, k := range kinds {
		p.Kinds = append(p.Kinds, NewKind(k, "", "v1alpha1", true, true))
	}
	return p
}

// TestWhatIsWrongIsNamedWithWhatWouldBeRight has an answer that is wrong in one way each.
func TestWhatIsWrongIsNamedWithWhatWouldBeRight(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Project)
		want   string
	}{
		"name with spaces":  {func(p *Project) { p.Name = "My Widgets!" }, `"My Widgets!" is no name of a Service`},
		"guess of a name":   {func(p *Project) { p.Name = "My Widgets!" }, `"my-widgets" would be right`},
		"name is a path":    {func(p *Project) { p.Name = "../etc" }, `"etc" would be right`},
		"name too long":     {func(p *Project) { p.Name = strings.Repeat("a", 41) }, "more than 40 characters"},
		"no name":           {func(p *Project) { p.Name = "" }, `the name ""`},
		"no group":          {func(p *Project) { p.Group = "" }, "--group widgets.example.com"},
		"group, no dot":     {func(p *Project) { p.Group = "widgets" }, `"widgets.example.com" would be right`},
		"group, capitals":   {func(p *Project) { p.Group = "Widgets.Example.com" }, `"widgets.example.com" would be right`},
		"group, a number":   {func(p *Project) { p.Group = "1.5" }, "no DNS name"},
		"Kubernetes group":  {func(p *Project) { p.Group = "widgets.k8s.io" }, `below a domain of Kubernetes; "widgets.example.com" would be right`},
		"no kind":           {func(p *Project) { p.Kinds = nil }, "--kind Widget"},
		"kind, small":       {func(p *Project) { p.Kinds[0].Kind = "widget" }, `"Widget" would be right`},
		"kind, a dash":      {func(p *Project) { p.Kinds[0].Kind = "big-widget" }, `"BigWidget" would be right`},
		"version":           {func(p *Project) { p.Kinds[0].Versions[0] = "1.0" }, `the version "1.0" is none: v1alpha1, v1beta1, v1`},
		"version v0":        {func(p *Project) { p.Kinds[0].Versions[0] = "v0" }, `the version "v0" is none`},
		"version twice":     {func(p *Project) { p.Kinds[0].Versions = []string{"v1", "v1"} }, "has version v1 already"},
		"action":            {func(p *Project) { p.Kinds[0].Actions = []string{"Restart Now"} }, `"restart-now" would be right`},
		"action status":     {func(p *Project) { p.Kinds[0].Actions = []string{"status"} }, "a subresource of Kubernetes"},
		"action validate":   {func(p *Project) { p.Kinds[0].Actions = []string{"validate"} }, "both have the name validateWidget"},
		"module":            {func(p *Project) { p.Module = "my widgets" }, "example.com/widgets is of the right form"},
		"Annex' module":     {func(p *Project) { p.Module = Module + "/x" }, "Annex' own"},
		"kind twice":        {func(p *Project) { p.Kinds = append(p.Kinds, NewKind("WIDGET", "", "v1", true, true)) }, "there is a kind Widget already"},
		"kinds collide":     {func(p *Project) { p.Kinds = append(p.Kinds, NewKind("WidgetSpec", "", "v1", true, true)) }, "would both have the name WidgetSpec"},
		"kind is a file":    {func(p *Project) { p.Kinds = append(p.Kinds, NewKind("Main", "", "v1", true, true)) }, "would both have the name main.go"},
		"a ClusterRole":     {func(p *Project) { p.Name = "view" }, `"view-server" would be right`},
		"namespace":         {func(p *Project) { p.Namespace = "My Space" }, `"my-space" would be right`},
		"default":           {func(p *Project) { p.Namespace = "default" }, "is Kubernetes' own"},
		"kube-system":       {func(p *Project) { p.Namespace = "kube-system" }, "is Kubernetes' own"},
		"kind GroupVersion": {func(p *Project) { p.Kinds[0] = NewKind("GroupVersion", "", "v1", true, true) }, "both have the name GroupVersion"},
		"kind AddToScheme":  {func(p *Project) { p.Kinds[0] = NewKind("AddToScheme", "", "v1", true, true) }, "both have the name AddToScheme"},
		"kind WatchEvent":   {func(p *Project) { p.Kinds[0] = NewKind("WatchEvent", "", "v1", true, true) }, "Kubernetes' own in every group"},
		"kind Status":       {func(p *Project) { p.Kinds[0] = NewKind("Status", "", "v1", true, true) }, "Kubernetes' own in every group"},
		"bodies collide": {func(p *Project) {
			p.Kinds = append(p.Kinds, NewKind("WidgetBar", "", "v1", true, true))
			p.Kinds[0].Actions, p.Kinds[1].Actions = []string{"bar-baz"}, []string{"baz"}
		}, "both have the name WidgetBarBazRequest"},
		"singular is plural": {func(p *Project) { p.Kinds = append(p.Kinds, NewKind("Widgets", "wwidgets", "v1", true, true)) }, "both have the name widgets"},
		"packages in a circle": {func(p *Project) {
			p.Kinds[0].Versions = []string{"v1alpha1", "v1beta1"}
			p.Kinds = append(p.Kinds, Kind{Kind: "Gadget", Plural: "gadgets", Versions: []string{"v1beta1", "v1alpha1"}})
		}, "Go packages cannot import each other"},
		"a long way round": {func(p *Project) {
			p.Kinds[0].Versions = []string{"v1", "v2"}
			p.Kinds = append(p.Kinds, Kind{Kind: "Gadget", Plural: "gadgets", Versions: []string{"v2", "v3"}}, Kind{Kind: "Part", Plural: "parts", Versions: []string{"v3", "v1"}})
		}, "Go packages cannot import each other"},
		"checkout": {func(p *Project) { p.Annex.Checkout = "/a b" }, "spaces or quotes"},
	} {
		t.Run(name, func(t *testing.T) {
			p := sample()
			test.change(&p)
			if err := p.Validate(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, and does not say %q", err, test.want)
			}
		})
	}
	right := sample("Widget", "Policy", "HTTPRoute", "Series")
	right.Kinds[0].Versions = []string{"v1alpha1", "v1beta1", "v1"}
	right.Kinds[1].Versions = []string{"v1alpha1", "v1"}
	if err := right.Validate(); err != nil {
		t.Errorf("a project that is right is refused: %v", err)
	}
}

func TestPluralsAreGoNames(t *testing.T) {
	for kind, want := range map[string][2]string{
		"Widget": {"widgets", "Widgets"}, "Policy": {"policies", "Policies"}, "HTTPRoute": {"httproutes", "HTTPRoutes"}, "Bus": {"buses", "Buses"},
		"Gateway": {"gateways", "Gateways"}, "Day": {"days", "Days"}, "Switch": {"switches", "Switches"}, "Box": {"boxes", "Boxes"},
		"Brush": {"brushes", "Brushes"}, "TimeSeries": {"timeseries", "TimeSeries"}, "Analysis": {"analyses", "Analyses"}, "Class": {"classes", "Classes"},
	} {
		if got := [2]string{plural(kind), pluralGo(kind, plural(kind))}; got != want {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
	}
}

func TestPluralsThatAreSaid(t *testing.T) {
	kinds, err := NewKinds([]string{"Octopus", "BigBox", "Box"}, []string{"Octopus=octopodes", "BigBox=big-boxes"}, "v1", true, true)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][2]string{{"octopodes", "Octopodes"}, {"big-boxes", "BigBoxes"}, {"boxes", "Boxes"}} {
		if got := [2]string{kinds[i].Plural, pluralGo(kinds[i].Kind, kinds[i].Plural)}; got != want {
			t.Errorf("%s: %q, want %q", kinds[i].Kind, got, want)
		}
	}
	if kinds, err := NewKinds([]string{"Mouse"}, []string{"mice"}, "v1", true, true); err != nil || kinds[0].Plural != "mice" {
		t.Errorf("the only kind: %+v, %v", kinds, err)
	}
	if got := pluralGo("Ox", "strings"); got != "Strings" {
		t.Errorf("a plural that is another word is %s in Go, and would be the name of a package", got)
	}
	for _, wrong := range []string{"mice", "Rat=rats", "Mouse="} {
		if _, err := NewKinds([]string{"Mouse", "Cat"}, []string{wrong}, "v1", true, true); err == nil || !strings.Contains(err.Error(), "KIND=PLURAL") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
