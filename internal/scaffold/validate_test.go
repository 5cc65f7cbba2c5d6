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
	return New("widgets", "", "widgets.example.com", "v1alpha1", kinds, true, Annex{Version: "v0.1.0"})
}

// TestWhatIsWrongIsNamedWithWhatWouldBeRight has an answer that is wrong in one way each.
func TestWhatIsWrongIsNamedWithWhatWouldBeRight(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Project)
		want   string
	}{
		"name with spaces": {func(p *Project) { p.Name = "My Widgets!" }, `"My Widgets!" is no name of a Service`},
		"guess of a name":  {func(p *Project) { p.Name = "My Widgets!" }, `"my-widgets" would be right`},
		"name is a path":   {func(p *Project) { p.Name = "../etc" }, `"etc" would be right`},
		"name too long":    {func(p *Project) { p.Name = strings.Repeat("a", 41) }, "more than 40 characters"},
		"no name":          {func(p *Project) { p.Name = "" }, `the name ""`},
		"no group":         {func(p *Project) { p.Group = "" }, "--group widgets.example.com"},
		"group, no dot":    {func(p *Project) { p.Group = "widgets" }, `"widgets.example.com" would be right`},
		"group, capitals":  {func(p *Project) { p.Group = "Widgets.Example.com" }, `"widgets.example.com" would be right`},
		"group, a number":  {func(p *Project) { p.Group = "1.5" }, "no DNS name"},
		"Kubernetes group": {func(p *Project) { p.Group = "widgets.k8s.io" }, `below a domain of Kubernetes; "widgets.example.com" would be right`},
		"no kind":          {func(p *Project) { p.Kinds = nil }, "--kind Widget"},
		"kind, small":      {func(p *Project) { p.Kinds[0].Kind = "widget" }, `"Widget" would be right`},
		"kind, a dash":     {func(p *Project) { p.Kinds[0].Kind = "big-widget" }, `"BigWidget" would be right`},
		"version":          {func(p *Project) { p.Kinds[0].Versions[0] = "1.0" }, `the version "1.0" is none: v1alpha1, v1beta1, v1`},
		"version v0":       {func(p *Project) { p.Kinds[0].Versions[0] = "v0" }, `the version "v0" is none`},
		"version twice":    {func(p *Project) { p.Kinds[0].Versions = []string{"v1", "v1"} }, "has version v1 already"},
		"action":           {func(p *Project) { p.Kinds[0].Actions = []string{"Restart Now"} }, `"restart-now" would be right`},
		"action status":    {func(p *Project) { p.Kinds[0].Actions = []string{"status"} }, "a subresource of Kubernetes"},
		"action validate":  {func(p *Project) { p.Kinds[0].Actions = []string{"validate"} }, "both have the name validateWidget"},
		"module":           {func(p *Project) { p.Module = "my widgets" }, "example.com/widgets is of the right form"},
		"Annex' module":    {func(p *Project) { p.Module = Module + "/x" }, "Annex' own"},
		"kind twice":       {func(p *Project) { p.Kinds = append(p.Kinds, newKind("WIDGET", "v1", true, true)) }, "there is a kind Widget already"},
		"kinds collide":    {func(p *Project) { p.Kinds = append(p.Kinds, newKind("WidgetSpec", "v1", true, true)) }, "would both have the name WidgetSpec"},
		"kind is a file":   {func(p *Project) { p.Kinds = append(p.Kinds, newKind("Main", "v1", true, true)) }, "would both have the name main.go"},
		"checkout":         {func(p *Project) { p.Annex.Checkout = "/a b" }, "spaces or quotes"},
	} {
		t.Run(name, func(t *testing.T) {
			p := sample()
			test.change(&p)
			if err := p.Validate(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, and does not say %q", err, test.want)
			}
		})
	}
	if err := sample("Widget", "Policy", "HTTPRoute").Validate(); err != nil {
		t.Errorf("a project that is right is refused: %v", err)
	}
}

func TestPluralsAreGoNames(t *testing.T) {
	for kind, want := range map[string][2]string{
		"Widget": {"widgets", "Widgets"}, "Policy": {"policies", "Policies"}, "HTTPRoute": {"httproutes", "HTTPRoutes"}, "Bus": {"buses", "Buses"},
	} {
		if got := [2]string{plural(kind), pluralGo(kind, plural(kind))}; got != want {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
	}
}
