package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/format"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// fault has the fields of diagnosis.Fault, which cannot be imported: it holds what is made here.
type fault struct {
	Code     string   `json:"code"`
	Name     string   `json:"name"`
	Reasons  []string `json:"reasons,omitempty"`
	Title    string   `json:"title"`
	Symptom  string   `json:"symptom"`
	Cause    string   `json:"cause"`
	Remedy   []action `json:"remedy"`
	Severity string   `json:"severity"`
	Fatal    bool     `json:"fatal"`
	Explains []string `json:"explains,omitempty"`
	Source   []string `json:"source,omitempty"`
}

type document struct {
	Retired []string `json:"retired"`
	Faults  []fault  `json:"faults"`
}

// generate returns all files by their paths in the repository.
func generate(faultsYAML []byte) (map[string][]byte, error) {
	var d document
	if err := yaml.UnmarshalStrict(faultsYAML, &d); err != nil {
		return nil, err
	}
	if err := check(d); err != nil {
		return nil, err
	}
	slices.SortFunc(d.Faults, func(a, b fault) int { return strings.Compare(a.Code, b.Code) })
	var asJSON bytes.Buffer
	encoder := json.NewEncoder(&asJSON)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(d); err != nil {
		return nil, err
	}
	constants, err := codes(d)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{
		"diagnosis/faults.json": asJSON.Bytes(),
		"diagnosis/codes.go":    constants,
		pages + "/README.md":    index(d),
	}
	for _, f := range d.Faults {
		content, err := page(d, f)
		if err != nil {
			return nil, err
		}
		files[pages+"/"+f.Code+".md"] = content
	}
	return files, nil
}

var (
	codeForm = regexp.MustCompile(`^ANX[1-8][0-9]{2}$`)
	nameForm = regexp.MustCompile(`^[A-Z][A-Za-z0-9]+$`)
)

// check says all that is wrong with the faults.
func check(d document) error {
	var wrong []error
	seen, words := map[string]bool{}, map[string]bool{}
	for _, f := range d.Faults {
		say := func(format string, args ...any) {
			wrong = append(wrong, fmt.Errorf("%s: %s", f.Code, fmt.Sprintf(format, args...)))
		}
		if !codeForm.MatchString(f.Code) || seen[f.Code] || slices.Contains(d.Retired, f.Code) {
			say("no new code of the form ANX123")
		}
		seen[f.Code] = true
		for _, word := range append([]string{f.Name}, f.Reasons...) {
			if !nameForm.MatchString(word) || words[word] {
				say("%q is no new word in camel case", word)
			}
			words[word] = true
		}
		if f.Title == "" || f.Symptom == "" || f.Cause == "" || len(f.Remedy) == 0 {
			say("title, symptom, cause and remedy must be set")
		}
		for _, sentence := range wrongRemedy(f.Remedy) {
			say("%s", sentence)
		}
		if !slices.Contains([]string{"error", "warning", "info"}, f.Severity) {
			say("severity %q", f.Severity)
		}
		if f.Fatal && f.Severity != "error" {
			say("fatal, and no error")
		}
	}
	for _, f := range d.Faults {
		for _, e := range f.Explains {
			if !seen[e] || e == f.Code {
				wrong = append(wrong, fmt.Errorf("%s explains %s", f.Code, e))
			}
		}
	}
	return errors.Join(wrong...)
}

const marked = "Code generated from faults.yaml by go generate ./diagnosis. DO NOT EDIT."

func codes(d document) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "// %s\n\npackage diagnosis\n\n// The faults that can be named.\nconst (\n", marked)
	for _, f := range d.Faults {
		fmt.Fprintf(&b, "\t// %s: %s.\n\t%s Code = %q\n", f.Name, lower(f.Title), f.Name, f.Code)
	}
	b.WriteString(")\n")
	return format.Source(b.Bytes())
}

// lower has a title go on after a colon: small, unless it begins with a name such as TLS.
func lower(title string) string {
	first, _, _ := strings.Cut(title, " ")
	if strings.ToLower(first[1:]) != first[1:] {
		return title
	}
	return strings.ToLower(title[:1]) + title[1:]
}

// groups are the headings of the index, by the first digit of codes.
var groups = []string{
	1: "Registration and Service", 2: "Endpoints and Pods", 3: "Network", 4: "TLS",
	5: "Identity and trust", 6: "Answers and discovery", 7: "Documents and watches", 8: "Who suffers, and the cluster",
}

func index(d document) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "<!-- %s -->\n\n# Faults\n\n", marked)
	b.WriteString("Every fault that Annex can name, in the order of a request's way. The word is the reason of the condition\n" +
		"`Available` where that has one. Codes never change their meaning. [Troubleshooting](../troubleshooting.md) goes from\n" +
		"what you read to the fault.\n")
	group := 0
	for _, f := range d.Faults {
		if g := int(f.Code[3] - '0'); g != group {
			group = g
			fmt.Fprintf(&b, "\n## %s\n\n| code | word | fault | severity |\n| --- | --- | --- | --- |\n", groups[g])
		}
		fmt.Fprintf(&b, "| [%s](%s.md) | `%s` | %s | %s |\n", f.Code, f.Code, f.Name, f.Title, f.Severity)
	}
	if len(d.Retired) > 0 {
		fmt.Fprintf(&b, "\nRetired: %s.\n", strings.Join(d.Retired, ", "))
	}
	return b.Bytes()
}

func page(d document, f fault) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "<!-- %s -->\n\n# %s: %s\n\n", marked, f.Code, f.Title)
	words := "`" + strings.Join(append([]string{f.Name}, f.Reasons...), "`, `") + "`"
	fmt.Fprintf(&b, "%s, severity %s, one of [all faults](README.md).\n", words, f.Severity)
	fmt.Fprintf(&b, "\n## What you see\n\n    %s\n\n## Why\n\n%s\n\n## What to do\n\n", f.Symptom, f.Cause)
	actions, err := render(f.Remedy, samples)
	if err != nil {
		return nil, err
	}
	toDo(&b, actions)
	b.WriteString("`annex doctor` fills in the names.")
	if f.Fatal {
		b.WriteString(" What comes later on a request's way is not checked while this is so.")
	}
	b.WriteString("\n")
	if len(f.Explains) > 0 {
		b.WriteString("\n## What follows from it\n\n")
		for _, e := range d.Faults {
			if slices.Contains(f.Explains, e.Code) {
				fmt.Fprintf(&b, "- [%s](%s.md): %s\n", e.Code, e.Code, e.Title)
			}
		}
	}
	if len(f.Source) > 0 {
		b.WriteString("\n## Where it was met\n\n")
		for _, s := range f.Source {
			fmt.Fprintf(&b, "- %s\n", source(s))
		}
	}
	return b.Bytes(), nil
}

// source makes a link of a thread or a page.
func source(s string) string {
	repository, number, isThread := strings.Cut(s, "#")
	switch page, isPage := strings.CutPrefix(s, "docs/operate/"); {
	case isPage:
		return fmt.Sprintf("[%s](../%s)", strings.TrimSuffix(page, ".md"), page)
	case !isThread:
		return s
	case repository == "K":
		repository = "kubernetes/kubernetes"
	}
	return fmt.Sprintf("[%s#%s](https://github.com/%s/issues/%s)", repository, number, repository, number)
}
