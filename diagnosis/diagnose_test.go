package diagnosis

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"pgregory.net/rapid"

	corev1 "k8s.io/api/core/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
)

func TestFaultsAreNamed(t *testing.T) {
	for _, c := range scenarios() {
		t.Run(string(c.code)+" "+c.name, func(t *testing.T) {
			s := healthy()
			c.change(s)
			r := Diagnose(s.Facts, s.name)
			i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Code == c.code })
			if i < 0 {
				t.Fatalf("not found; found are\n%s", outline(r))
			}
			f := r.Findings[i]
			if i > 0 && !c.follows {
				t.Errorf("is not the first of\n%s", outline(r))
			}
			if f.Confidence != c.confidence {
				t.Errorf("is %s, want %s", f.Confidence, c.confidence)
			}
			if !strings.Contains(f.Evidence, c.evidence) {
				t.Errorf("evidence %q lacks %q", f.Evidence, c.evidence)
			}
			if remedy := strings.Join(Script(f.Remedy), "\n"); !strings.Contains(remedy, c.remedy) {
				t.Errorf("remedy lacks %q:\n%s", c.remedy, remedy)
			}
			if fault, _ := Lookup(string(c.code)); f.Name != fault.Name || f.Title != fault.Title || f.See != c.code.See() {
				t.Errorf("is not told as %+v: %+v", fault, f)
			}
		})
	}
}

// outline is a report in few lines.
func outline(r Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s %s %s %s because %q: %s\n", f.Code, f.Name, f.Severity, f.Confidence, f.Because, f.Evidence)
	}
	for _, u := range r.Unseen {
		fmt.Fprintf(&b, "unseen: %s: %s: %s\n", u.Check, u.What, u.Why)
	}
	return b.String()
}

func TestHealthyClustersHaveNoFaults(t *testing.T) {
	all := oddities()
	if len(all) < 20 {
		t.Errorf("only %d", len(all))
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) {
			s := healthy()
			all[name](s)
			r := Diagnose(s.Facts, s.name)
			if w := r.Worst(); w == Error || w == Warning {
				t.Errorf("found\n%s", outline(r))
			}
		})
	}
}

func TestWhatCannotBeSeenIsSaid(t *testing.T) {
	s := healthy()
	s.Cluster.RequestHeader = Unseen[*RequestHeader](fmt.Errorf("getting the ConfigMap: %w", ErrForbidden))
	s.a.Service = Unseen[*corev1.Service](ErrTimedOut)
	r := Diagnose(s.Facts, s.name)
	for _, want := range []string{"the API server is set up for aggregation: ConfigMap kube-system/extension-apiserver-authentication: getting the ConfigMap: forbidden", "its Service exists: Service shop/widgets: timed out"} {
		if !strings.Contains(outline(r), want) {
			t.Errorf("%q is not in\n%s", want, outline(r))
		}
	}
	i := slices.IndexFunc(r.Steps, func(s Step) bool { return s.Check == "its Service exists" })
	if i < 0 || r.Steps[i].Result != NotSeen {
		t.Errorf("steps: %+v", r.Steps)
	}
}

func TestFatalFaultsEndTheirBranchAlone(t *testing.T) {
	s := healthy()
	s.unready("Error: Unable to get configmap/extension-apiserver-authentication in kube-system")
	s.a.Rights[ReadAuthentication] = Saw(false)
	r := Diagnose(s.Facts, s.name)
	got := map[Stage]map[Result]bool{}
	for _, step := range r.Steps {
		if got[step.Stage] == nil {
			got[step.Stage] = map[Result]bool{}
		}
		got[step.Stage][step.Result] = true
	}
	if !got[Endpoints][Found] || !got[Network][NotReached] || got[Network][Passed] || !got[Identity][Found] || got[Cluster][NotReached] {
		t.Errorf("stages: %v\n%s", got, outline(r))
	}
	for _, f := range r.Findings {
		if f.Code == MissingEndpoints && f.Because != AuthenticationReaderMissing {
			t.Errorf("MissingEndpoints is because of %q", f.Because)
		}
	}

	s = healthy()
	s.a.Service = Saw(s.a.Service.Value)
	s.a.Service.Value = nil
	for _, step := range Diagnose(s.Facts, s.name).Steps {
		if step.Stage == Identity && step.Result != NotReached {
			t.Errorf("without a Service: %+v", step)
		}
	}
}

// TestHostileTextIsMadeHarmless puts escape codes, control characters and shell text after every
// text of every scenario.
func TestHostileTextIsMadeHarmless(t *testing.T) {
	const hostile = "\x1b[31mred\x00\u202e\u200b\r\n$(reboot)`reboot`'\";reboot<script>"
	findings := 0
	for _, c := range scenarios() {
		s := healthy()
		c.change(s)
		// Formats that are compared are kept by those that are changed alone: strings of others.
		poison(reflect.ValueOf(s.Facts).Elem(), hostile, 0)
		for _, name := range append(slices.Collect(maps.Keys(s.APIServices)), s.name, s.name+hostile) {
			r := Diagnose(s.Facts, name)
			findings += len(r.Findings)
			for _, f := range r.Findings {
				harmlessLine(t, c.name, f.Evidence, maxEvidence)
				for _, line := range Script(f.Remedy) {
					if strings.Contains(line, "reboot<") || strings.ContainsAny(line, "\x00\x1b\r") || strings.Contains(line, "$(reboot") || strings.Contains(line, "`reboot") || strings.Contains(line, ";reboot") {
						t.Errorf("%s: remedy %q", c.name, line)
					}
				}
			}
			for _, u := range r.Unseen {
				harmlessLine(t, c.name, u.Why, maxEvidence)
			}
			harmlessLine(t, c.name, r.APIService, maxField)
		}
	}
	if findings < 200 {
		t.Errorf("only %d findings were looked at", findings)
	}
}

func harmlessLine(t *testing.T, name, line string, most int) {
	t.Helper()
	if len(line) > most || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("%s: %q", name, line)
	}
}

// poison appends text to every text below a value that can be set.
func poison(v reflect.Value, text string, depth int) {
	if depth > 12 || v.Type() == reflect.TypeFor[time.Time]() || v.Type().PkgPath() == "crypto/x509" {
		return
	}
	switch v.Kind() {
	case reflect.String:
		if v.CanSet() {
			v.SetString(v.String() + text)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			poison(v.Elem(), text, depth+1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			// Status words and names of conditions are an enumeration: with text after them nothing is found.
			if name := v.Type().Field(i).Name; v.Type().Field(i).IsExported() && name != "Type" && name != "Status" && name != "Reason" && name != "State" && name != "Kind" {
				poison(v.Field(i), text, depth+1)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			poison(v.Index(i), text, depth+1)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			if value := v.MapIndex(key); value.Kind() == reflect.String {
				v.SetMapIndex(key, reflect.ValueOf(value.String()+text).Convert(value.Type()))
			} else if value.Kind() == reflect.Pointer {
				poison(value, text, depth+1)
			}
		}
	}
}

// TestPartialFactsNeverPanic takes any facts away, and has others seen as nothing.
func TestPartialFactsNeverPanic(t *testing.T) {
	all := scenarios()
	rapid.Check(t, func(t *rapid.T) {
		s := healthy()
		all[rapid.IntRange(0, len(all)-1).Draw(t, "scenario")].change(s)
		blank := func(v reflect.Value) {
			for i := range v.NumField() {
				switch field := v.Field(i); rapid.IntRange(0, 3).Draw(t, v.Type().Field(i).Name) {
				case 0:
					field.SetZero()
				case 1:
					if field.Kind() == reflect.Struct && field.FieldByName("Seen").IsValid() {
						field.SetZero()
						field.FieldByName("Seen").SetBool(true)
					}
				}
			}
		}
		blank(reflect.ValueOf(&s.Cluster).Elem())
		for _, a := range s.APIServices {
			blank(reflect.ValueOf(a).Elem())
		}
		if rapid.Bool().Draw(t, "no clock") {
			s.Now = time.Time{}
		}
		for _, f := range Diagnose(s.Facts, s.name).Findings {
			if f.Evidence == "" || len(f.Remedy) == 0 {
				t.Errorf("%+v", f)
			}
		}
	})
	Diagnose(nil, "")
	Diagnose(&Facts{APIServices: map[string]*APIServiceFacts{"x": nil}}, "x")
}

func TestHugeTextIsBounded(t *testing.T) {
	s := healthy()
	s.fails(strings.Repeat("connection refused ", 4<<20/19))
	for _, f := range Diagnose(s.Facts, s.name).Findings {
		harmlessLine(t, string(f.Code), f.Evidence, maxEvidence)
	}
}

var unfilled = regexp.MustCompile(`<no value>|\{\{`)

func TestRemediesRenderAndDocumentsHaveThem(t *testing.T) {
	for _, f := range Faults() {
		for i := range f.Remedy {
			for _, fields := range []Fields{{}, sampleFields()} {
				if _, err := faults().remedy[f.Code][i].fill(fields.filled()); err != nil {
					t.Errorf("%s: %v", f.Code, err)
				}
			}
		}
		lines := append(Script(f.Explain()), Script(render(f.Code, Fields{}))...)
		for _, line := range lines {
			if strings.Contains(line, "\n") {
				t.Errorf("%s: a command of several lines cannot be copied from where each is shown as one: %q", f.Code, line)
			}
		}
		if len(lines) == 0 || unfilled.MatchString(strings.Join(lines, "\n")) {
			t.Errorf("%s: %q", f.Code, lines)
		}
		page, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(f.Code.Page())))
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range f.Explain() {
			for _, want := range []string{a.Command + "\n", a.Remark, a.Loses, a.OnlyIf} {
				if !strings.Contains(string(page), want) {
					t.Errorf("%s lacks %q", f.Code.Page(), want)
				}
			}
		}
	}
}

func TestExplanationsHaveNoCircle(t *testing.T) {
	var visit func(c Code, way []Code)
	visit = func(c Code, way []Code) {
		if slices.Contains(way, c) {
			t.Fatalf("a circle: %v", append(way, c))
		}
		f, _ := Lookup(string(c))
		for _, e := range f.Explains {
			visit(e, append(way, c))
		}
	}
	for _, f := range Faults() {
		visit(f.Code, nil)
	}
}

func TestLookup(t *testing.T) {
	for word, want := range map[string]Code{
		"ANX102": ServiceNotFound, "anx102": ServiceNotFound, " ServiceNotFound ": ServiceNotFound, "servicenotfound": ServiceNotFound,
		"ANX999": "", "": "", "Service": "",
	} {
		if f, ok := Lookup(word); f.Code != want || ok != (want != "") {
			t.Errorf("%q: got %s, want %s", word, f.Code, want)
		}
	}
	for reason, want := range map[string]Code{
		"MissingEndpoints": MissingEndpoints, "FailedDiscoveryCheck": FailedDiscoveryCheck, "InvalidTransport": InvalidCABundle,
		"NoEndpoints": EndpointsNotFound, "TooManyRequests": TooManyRequests, "Passed": "", "": "",
	} {
		if got, ok := CodeOf(reason); got != want || ok != (want != "") {
			t.Errorf("%q: got %s, want %s", reason, got, want)
		}
	}
}

// TestReasonsOfTheLayerHaveCodes has the words that the layer uses in RemoteAPIServices.
func TestReasonsOfTheLayerHaveCodes(t *testing.T) {
	for _, reason := range []string{
		"ServiceNotFound", "ServicePortError", "ServiceAccessError", "EndpointsNotFound", "EndpointsAccessError", "MissingEndpoints", "FailedDiscoveryCheck",
		"NotProbedYet", "FrontProxyCertificateExpired", "ServingCertificateExpired", "CABundleExpired", "ServersDisagree", "EndpointUnreachable", "EndpointEjected",
		"ServingCertificateExpiring", "FrontProxyCertificateExpiring", "DiscoveryFailed", "DiscoveryStale", "WatchListMissing", "DiscoveryWarning", "OpenAPIBroken", "OpenAPIFailed", "OpenAPIStale",
	} {
		if _, ok := CodeOf(reason); !ok {
			t.Errorf("%s has none", reason)
		}
	}
}

func TestMentions(t *testing.T) {
	for _, c := range []struct {
		text, name string
		want       bool
	}{
		{"metrics.k8s.io/v1beta1: the server is unable", "metrics.k8s.io/v1beta1", true},
		{"failed: metrics.k8s.io/v1beta1", "metrics.k8s.io/v1beta1", true},
		{"failed for metrics.k8s.io/v1beta1.", "metrics.k8s.io/v1beta1", true},
		{"custom.metrics.k8s.io/v1beta1: stale", "metrics.k8s.io/v1beta1", false},
		{"my-metrics.k8s.io/v1beta1: stale", "metrics.k8s.io/v1beta1", false},
		{"metrics.k8s.io/v1beta12: stale", "metrics.k8s.io/v1beta1", false},
		{"custom.metrics.k8s.io/v1: a, metrics.k8s.io/v1: b", "metrics.k8s.io/v1", true},
		{"", "metrics.k8s.io/v1", false},
	} {
		if got := Mentions(c.text, c.name); got != c.want {
			t.Errorf("%q mentions %q: %v", c.text, c.name, got)
		}
	}
}

func TestOnlyCertificatesSecretsAreNamed(t *testing.T) {
	volumes := func(names ...string) *corev1.PodSpec {
		spec := &corev1.PodSpec{}
		for _, name := range names {
			spec.Volumes = append(spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "widgets-" + name}}})
		}
		return spec
	}
	for want, spec := range map[string]*corev1.PodSpec{
		"":                 volumes("database", "token"),
		"widgets-tls":      volumes("database", "tls"),
		"widgets-webcerts": volumes("webcerts", "database"),
	} {
		if got := secret(spec); got != want {
			t.Errorf("%q is said to hold the certificate, want %q", got, want)
		}
	}
}

func TestKnown(t *testing.T) {
	if k := (Known[int]{}); k.Why() != ErrNotAsked || k.String() != "unknown (not asked)" {
		t.Errorf("zero: %v, %s", k.Why(), k)
	}
	if k := Look(1, ErrForbidden); k.Seen || k.Value != 0 || k.Why() != ErrForbidden {
		t.Errorf("forbidden: %+v", k)
	}
	if v, ok := Look(1, nil).Get(); v != 1 || !ok || Saw(1).String() != "1" {
		t.Errorf("seen: %v %v", v, ok)
	}
}

// TestWhatAnnexSeesOfARefusedAPIServiceFollows: endpoints that fail their probes and documents that
// grow old come with every fault for which requests are refused. To name them as roots would send
// people to delete Pods.
func TestWhatAnnexSeesOfARefusedAPIServiceFollows(t *testing.T) {
	tried := 0
	for _, c := range scenarios() {
		s := healthy()
		c.change(s)
		if s.a.Remote.Value != nil || !faults().byCode[c.code].Fatal || c.confidence == Possible || s.a.File {
			continue
		}
		if status := newLook(s.Facts, s.name).available().Status; status != apiregistrationv1.ConditionFalse {
			continue
		}
		tried++
		t.Run(string(c.code)+" "+c.name, func(t *testing.T) {
			const why = "no answer"
			s.annex(func(r *v1alpha1.RemoteAPIServiceStatus) {
				r.State, r.EndpointSummary = v1alpha1.Unavailable, "0/2"
				r.Discovery.Freshness, r.Discovery.Problem = v1alpha1.Stale, why
				r.OpenAPIV2, r.OpenAPIV3 = v1alpha1.Document{Freshness: v1alpha1.Stale, Problem: why}, v1alpha1.Document{Freshness: v1alpha1.Stale, Problem: why}
				for _, reason := range []string{"FailedDiscoveryCheck", "EndpointUnreachable", "DiscoveryStale", "OpenAPIStale"} {
					r.Faults = append(r.Faults, v1alpha1.Fault{Reason: reason, Message: why})
				}
			})
			r := Diagnose(s.Facts, s.name)
			for _, f := range r.Findings {
				if follows := slices.Contains([]Code{EndpointUnreachable, DiscoveryStale, OpenAPIStale}, f.Code); follows && f.Because == "" {
					t.Errorf("%s is a root of\n%s", f.Code, outline(r))
				}
			}
			if !r.Has(OpenAPIStale) || !r.Has(EndpointUnreachable) {
				t.Errorf("not found in\n%s", outline(r))
			}
		})
	}
	if tried < 20 {
		t.Errorf("only %d scenarios", tried)
	}
}
