package docs

import (
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const (
	alertsPage    = "docs/operate/alerts.md"
	alertsFile    = "deploy/alerts.yaml"
	dashboardFile = "deploy/dashboard.json"
)

// usedMetric finds the layer's metrics in queries. Histograms are asked for by their parts.
var (
	usedMetric = regexp.MustCompile(`\b(?:annex_aggregation|aggregator)_[a-z0-9_]+`)
	ofBuckets  = regexp.MustCompile(`_(?:bucket|sum|count)$`)
)

// unknownMetrics are those that a file asks for and the code does not have.
func unknownMetrics(content string, known map[string]bool) (unknown []string) {
	for _, name := range usedMetric.FindAllString(content, -1) {
		if !known[name] && !known[ofBuckets.ReplaceAllString(name, "")] && !slices.Contains(unknown, name) {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

func TestAlertsAndDashboardAskForMetricsThatExist(t *testing.T) {
	known := map[string]bool{}
	for _, file := range copyOf(t, shipped...) {
		for _, m := range quotedMetric.FindAllStringSubmatch(string(file.Data), -1) {
			known[m[1]] = true
		}
	}
	for _, name := range []string{alertsFile, dashboardFile} {
		content, err := fs.ReadFile(repository, name)
		if err != nil {
			t.Fatal(err)
		}
		if used := usedMetric.FindAllString(string(content), -1); len(used) < 10 {
			t.Fatalf("only %d metrics were found in %s", len(used), name)
		}
		for _, metric := range unknownMetrics(string(content), known) {
			t.Errorf("%s asks for %s, which there is not", name, metric)
		}
		changed := strings.ReplaceAll(string(content), "aggregator_unavailable_apiservice", "aggregator_unavailable_apiservices")
		if len(unknownMetrics(changed, known)) == 0 {
			t.Errorf("a wrong name in %s was not found", name)
		}
	}
}

// alertRows are the rows of a table of alerts as the rules have it.
func alertRows(content []byte) (rows []string, err error) {
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr, For string
				Annotations      map[string]string
			} `json:"rules"`
		} `json:"groups"`
	}
	if err := yaml.Unmarshal(content, &file); err != nil {
		return nil, err
	}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			_, page, _ := strings.Cut(r.Annotations["runbook_url"], "/docs/operate/")
			code := strings.TrimSuffix(strings.TrimPrefix(page, "faults/"), ".md")
			rows = append(rows, fmt.Sprintf("| `%s` | `%s` | %s | [%s](%s) |", r.Alert, strings.ReplaceAll(r.Expr, "|", "\\|"), r.For, code, page))
		}
	}
	return rows, nil
}

func TestTheTableOfAlertsIsThatOfTheRules(t *testing.T) {
	rules, err := fs.ReadFile(repository, alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	want, err := alertRows(rules)
	if err != nil {
		t.Fatal(err)
	}
	page, err := fs.ReadFile(repository, alertsPage)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.SplitSeq(string(page), "\n") {
		if strings.HasPrefix(line, "| `Annex") {
			got = append(got, line)
		}
	}
	if len(want) < 10 || !slices.Equal(got, want) {
		t.Errorf("%s has to have the rows\n%s", alertsPage, strings.Join(want, "\n"))
	}
}
