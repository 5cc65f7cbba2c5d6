package deploy

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

const (
	alertsFile    = "alerts.yaml"
	dashboardFile = "dashboard.json"
	unitTestsFile = "testdata/alerts.test.yaml"
	runbooks      = "https://github.com/annex-api/annex/blob/main/"

	toolTimeout = time.Minute
)

// ruleFile is what is read here of a file of Prometheus rules.
type ruleFile struct {
	Groups []struct {
		Rules []alert `json:"rules"`
	} `json:"groups"`
}

type alert struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

func read(t *testing.T, file string, into any) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(content, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// TestConfigOfTheREADME: Prometheus takes what people copy.
func TestConfigOfTheREADME(t *testing.T) {
	content, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(content), "```yaml\n# prometheus.yml\n")
	config, _, ended := strings.Cut(rest, "```")
	if !found || !ended {
		t.Fatal("README.md has no prometheus.yml")
	}
	file := filepath.Join(t.TempDir(), "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), toolTimeout)
	defer cancel()
	// The files of certificates and tokens are not here.
	if out, err := exec.CommandContext(ctx, tool(t, "promtool"), "check", "config", "--syntax-only", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func alerts(t *testing.T) (all []alert) {
	t.Helper()
	var file ruleFile
	read(t, alertsFile, &file)
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// tool returns the path of a program of Debian's package prometheus.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("NOT TESTED: %s is missing, which Debian's package prometheus has: %v", name, err)
	}
	return path
}

func TestPromtoolTakesTheRules(t *testing.T) {
	for _, args := range [][]string{{"check", "rules", alertsFile}, {"test", "rules", unitTestsFile}} {
		ctx, cancel := context.WithTimeout(t.Context(), toolTimeout)
		defer cancel()
		if out, err := exec.CommandContext(ctx, tool(t, "promtool"), args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

func TestEachAlertHasItsTestAndItsRunbook(t *testing.T) {
	var tests struct {
		Tests []struct {
			Name string `json:"name"`
		} `json:"tests"`
	}
	read(t, unitTestsFile, &tests)
	tested := map[string]bool{}
	for _, c := range tests.Tests {
		tested[c.Name] = true
	}
	all := alerts(t)
	if len(all) < 10 {
		t.Fatalf("only %d alerts were read", len(all))
	}
	for _, a := range all {
		if !tested[a.Alert] {
			t.Errorf("%s is not in %s", a.Alert, unitTestsFile)
		}
		page, ours := strings.CutPrefix(a.Annotations["runbook_url"], runbooks)
		if _, err := os.Stat("../" + page); !ours || err != nil {
			t.Errorf("%s: the runbook %q: %v", a.Alert, a.Annotations["runbook_url"], err)
		}
		if a.Annotations["summary"] == "" || a.Annotations["description"] == "" || a.Labels["severity"] == "" || a.For == "" {
			t.Errorf("%s lacks a summary, a description, a severity or a time", a.Alert)
		}
	}
}

// dashboard is what is read here of a Grafana dashboard.
type dashboard struct {
	UID           string `json:"uid"`
	SchemaVersion int    `json:"schemaVersion"`
	Templating    struct {
		List []struct{ Name, Type, Query any } `json:"list"`
	} `json:"templating"`
	Panels []struct {
		ID         int
		Type       string
		Title      string
		Datasource struct{ UID string }
		GridPos    struct{ X, Y, W, H int }
		Targets    []struct {
			Expr       string
			Datasource struct{ UID string }
		}
	} `json:"panels"`
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	content, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDashboardCanBeImported holds what Grafana asks of one: panels with numbers of their own
// that do not overlap, and a data source that whoever imports it chooses.
func TestDashboardCanBeImported(t *testing.T) {
	d := readDashboard(t)
	if d.UID == "" || d.SchemaVersion == 0 || len(d.Panels) < 20 {
		t.Fatalf("uid %q, schema %d, %d panels", d.UID, d.SchemaVersion, len(d.Panels))
	}
	names := map[any]any{}
	for _, v := range d.Templating.List {
		names[v.Name] = v.Type
	}
	if names["datasource"] != "datasource" || names["instance"] != "query" || names["name"] != "query" {
		t.Errorf("the variables are %v", names)
	}
	ids, cells := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the number %d", p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%q lies over %q, or beyond the edge", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type != "row" && (p.Datasource.UID != "${datasource}" || len(p.Targets) == 0) {
			t.Errorf("%q has the data source %q and %d queries", p.Title, p.Datasource.UID, len(p.Targets))
		}
		for _, target := range p.Targets {
			if target.Datasource.UID != "${datasource}" {
				t.Errorf("%q asks the data source %q", p.Title, target.Datasource.UID)
			}
		}
	}
}

// queries are the dashboard's, with its variables set to all.
func queries(t *testing.T) (all []string) {
	t.Helper()
	set := strings.NewReplacer("$instance", ".*", "$name", ".*", "$__rate_interval", "1m")
	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			all = append(all, set.Replace(target.Expr))
		}
	}
	return all
}

var duration = regexp.MustCompile(`^(\d+)[smh]$`)

// impatient are the rules with an alert's time left out: it fires as soon as its expression
// holds.
func impatient(t *testing.T) []byte {
	t.Helper()
	content, err := os.ReadFile(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(content), "\n")
	changed := 0
	for i, line := range lines {
		if value, found := strings.CutPrefix(strings.TrimSpace(line), "for: "); found && duration.MatchString(value) {
			lines[i] = strings.Replace(line, value, "0s", 1)
			changed++
		}
	}
	if changed != len(alerts(t)) {
		t.Fatalf("%d of %d times were found", changed, len(alerts(t)))
	}
	return []byte(strings.Join(lines, "\n"))
}

func names(all []alert) (names []string) {
	for _, a := range all {
		names = append(names, a.Alert)
	}
	slices.Sort(names)
	return names
}
