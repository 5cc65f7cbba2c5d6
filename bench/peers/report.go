package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/annex-api/annex/bench/internal/evidence"
	"github.com/annex-api/annex/extension/extensiontest/conformance"
)

type writer = io.Writer

// result is what the kit found at one resource.
type result struct {
	peer     string
	resource schema.GroupVersionResource
	summary  conformance.Summary
}

func (r result) name() string {
	return strings.TrimSuffix(r.resource.Resource+"."+r.resource.Version+"."+r.resource.Group, ".")
}

func (r result) verdict() string {
	s := r.summary
	if s.Err != nil {
		return s.Err.Error()
	}
	return fmt.Sprintf("%d passed, %d failed, %d not applicable, %.0f s", s.Count(conformance.Passed), s.Count(conformance.Failed), s.Count(conformance.NotApplicable), s.Took.Seconds())
}

// report is a whole run.
type report struct {
	behind, version string
	results         []result
}

// compare says what was found and is not explained, and what is explained and was not found.
func (r report) compare(known []explanation) []string {
	var problems []string
	found := map[string]bool{}
	checked := map[string]bool{}
	for _, res := range r.results {
		checked[res.name()] = true
		if res.summary.Err != nil {
			problems = append(problems, fmt.Sprintf("%s could not be checked: %v", res.name(), res.summary.Err))
		}
		for _, left := range res.summary.Left {
			problems = append(problems, fmt.Sprintf("%s: left behind: %s", res.name(), left))
		}
		for _, failed := range res.summary.Failed() {
			found[res.name()+" "+failed.Check.ID] = true
			if _, ok := explained(known, res.name(), failed.Check.ID); !ok {
				problems = append(problems, fmt.Sprintf("%s: not explained: %s", res.name(), failed.Explain()))
			}
		}
	}
	for _, e := range known {
		for _, resource := range e.resources {
			if checked[resource] && !found[resource+" "+e.check] {
				problems = append(problems, fmt.Sprintf("%s: %s is explained and did not fail", resource, e.check))
			}
		}
	}
	return problems
}

// table writes a line for each resource.
func (r report) table(w writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, res := range r.results {
		if _, err := fmt.Fprintf(t, "%s\t%s\t%s\n", res.peer, res.name(), res.verdict()); err != nil {
			return err
		}
	}
	return t.Flush()
}

// save writes every result to a file; nothing is done without a path.
func (r report) save(path string) error {
	if path == "" {
		return nil
	}
	type entry struct {
		Peer     string               `json:"peer"`
		Resource string               `json:"resource"`
		Error    string               `json:"error,omitempty"`
		Results  []conformance.Result `json:"results"`
	}
	var all []entry
	for _, res := range r.results {
		e := entry{Peer: res.peer, Resource: res.name(), Results: res.summary.Results}
		if res.summary.Err != nil {
			e.Error = res.summary.Err.Error()
		}
		all = append(all, e)
	}
	content, err := json.MarshalIndent(object{"behind": r.behind, "version": r.version, "resources": all}, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the results: %w", err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	return nil
}

// document is a file of docs/evidence, and what is written between its marks.
type document struct {
	file, mark string
	write      func(report, writer) error
}

var documents = []document{
	{"conformance.md", "peers", report.summary},
	{"conformance.md", "failed", report.failed},
	{"conformance.md", "not-applicable", report.notApplicable},
}

// summary is a row for each resource.
func (r report) summary(w writer) error {
	if _, err := fmt.Fprintf(w, "Behind %s %s.\n\n", r.behind, r.version); err != nil {
		return err
	}
	rows := [][]string{{"peer", "resource", "passed", "failed", "not applicable"}}
	for _, res := range r.results {
		s := res.summary
		rows = append(rows, []string{
			res.peer, res.name(), fmt.Sprint(s.Count(conformance.Passed)), fmt.Sprint(s.Count(conformance.Failed)), fmt.Sprint(s.Count(conformance.NotApplicable)),
		})
	}
	return evidence.Table(w, rows)
}

// failed is a row for each failed check: what was sent, what came, what the contract says, and whose
// fault it is. Resources of which the same is to be said share a row.
func (r report) failed(w writer) error {
	rows := [][]string{{"check", "resources", "sent", "came", "the contract", "whose fault"}}
	for _, e := range explanations {
		var resources []string
		var row []string
		for _, res := range r.results {
			for _, f := range res.summary.Failed() {
				if f.Check.ID != e.check || !e.of(res.name()) {
					continue
				}
				resources = append(resources, res.name())
				if row == nil {
					sent, came := seen(f)
					row = []string{e.check, "", sent, came, f.Check.Promise, e.fault + ". " + e.because}
				}
			}
		}
		if row != nil {
			row[1] = strings.Join(resources, ", ")
			rows = append(rows, row)
		}
	}
	return evidence.Table(w, rows)
}

// seen is what was sent and what came, of the first failure of a check.
func seen(r conformance.Result) (sent, came string) {
	if len(r.Failures) == 0 {
		return "", ""
	}
	f := r.Failures[0]
	came = f.Message
	if e := f.Exchange; e != nil {
		sent = "`" + e.Method + " " + e.URL + "`"
		if accept := e.RequestHeader.Get("Accept"); accept != "" {
			sent += " with `Accept: " + accept + "`"
		}
		came = fmt.Sprintf("%d; %s", e.Code, came)
	}
	return cell(sent), cell(came)
}

// cell is text that may stand in a table.
func cell(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "|", "\\|"), "\n", " ")
}

// notApplicable is a row for each reason why checks could not be made, with the resources and the
// checks. A reason is shown of no resource in particular.
func (r report) notApplicable(w writer) error {
	type key struct{ reason, checks string }
	var order []key
	resources := map[key][]string{}
	for _, res := range r.results {
		checks := map[string][]string{}
		var reasons []string
		for _, c := range res.summary.Results {
			if c.Outcome != conformance.NotApplicable {
				continue
			}
			reason := plain(c.Reason, res.resource.GroupVersion().String(), res.resource.Resource)
			if checks[reason] == nil {
				reasons = append(reasons, reason)
			}
			checks[reason] = append(checks[reason], c.Check.ID)
		}
		for _, reason := range reasons {
			k := key{reason, strings.Join(grouped(checks[reason]), ", ")}
			if resources[k] == nil {
				order = append(order, k)
			}
			resources[k] = append(resources[k], res.resource.Resource+"."+res.resource.Version)
		}
	}
	rows := [][]string{{"why", "resources", "checks"}}
	for _, k := range order {
		rows = append(rows, []string{cell(k.reason), strings.Join(resources[k], ", "), k.checks})
	}
	return evidence.Table(w, rows)
}

// plain takes the names of a resource out of a reason, and what a server quoted.
func plain(reason, groupVersion, resource string) string {
	reason, _, _ = strings.Cut(reason, ": \"")
	for _, name := range []string{groupVersion, resource} {
		reason = strings.ReplaceAll(reason, " "+name, " …")
	}
	return strings.TrimPrefix(reason, resource+" is ")
}

// grouped names all checks of a group as apply/*.
func grouped(ids []string) []string {
	group := func(id string) string { g, _, _ := strings.Cut(id, "/"); return g }
	size := map[string]int{}
	for _, c := range conformance.Checks() {
		size[group(c.ID)]++
	}
	have := map[string]int{}
	for _, id := range ids {
		have[group(id)]++
	}
	var out []string
	for _, id := range ids {
		name := id
		if g := group(id); have[g] == size[g] && size[g] > 1 {
			name = g + "/*"
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}
