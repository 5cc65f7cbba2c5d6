package diagnosis

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"text/template"
)

//go:generate go run ./internal/generate

// Code is the name of a fault that never changes: ANX101.
type Code string

// Severity says how bad a fault is.
type Severity string

// The severities, worst first.
const (
	// Error: requests fail.
	Error Severity = "error"
	// Warning: some requests fail, or they will.
	Warning Severity = "warning"
	// Info: good to know.
	Info Severity = "info"
)

// Fault is an entry of faults.yaml.
type Fault struct {
	// Code is its stable name.
	Code Code `json:"code"`
	// Name is the fault as a word: the reason of the condition Available, where that has one.
	Name string `json:"name"`
	// Reasons are other words for it.
	Reasons []string `json:"reasons,omitempty"`
	// Title is the fault in a line.
	Title string `json:"title"`
	// Symptom is the text that an operator reads.
	Symptom string `json:"symptom"`
	// Cause is why it happens.
	Cause string `json:"cause"`
	// Remedy are templates of shell lines over [Fields].
	Remedy []string `json:"remedy"`
	// Severity says how bad it is.
	Severity Severity `json:"severity"`
	// Fatal says that what comes later on a request's way cannot be judged.
	Fatal bool `json:"fatal"`
	// Explains are the faults that follow from this one.
	Explains []Code `json:"explains,omitempty"`
	// Source are public threads where people met it.
	Source []string `json:"source,omitempty"`
}

//go:embed faults.json
var faultsJSON []byte

// document is faults.json.
type document struct {
	// Retired are codes that are not used again.
	Retired []Code  `json:"retired"`
	Faults  []Fault `json:"faults"`
}

// table is faults.json in the forms that it is asked for.
type table struct {
	document
	byCode  map[Code]Fault
	byWord  map[string]Code
	remedy  map[Code][]*template.Template
	ordered []Code
}

// faults is read when it is first asked for.
var faults = sync.OnceValue(func() *table {
	t, err := readTable(faultsJSON)
	if err != nil {
		panic(fmt.Sprintf("diagnosis: faults.json, which is part of this program: %v", err))
	}
	return t
})

func readTable(content []byte) (*table, error) {
	t := &table{byCode: map[Code]Fault{}, byWord: map[string]Code{}, remedy: map[Code][]*template.Template{}}
	if err := json.Unmarshal(content, &t.document); err != nil {
		return nil, err
	}
	for _, f := range t.Faults {
		if _, twice := t.byCode[f.Code]; twice || slices.Contains(t.Retired, f.Code) {
			return nil, fmt.Errorf("%s is used twice, or retired", f.Code)
		}
		t.byCode[f.Code] = f
		t.ordered = append(t.ordered, f.Code)
		for _, word := range append([]string{f.Name}, f.Reasons...) {
			if other, twice := t.byWord[word]; twice {
				return nil, fmt.Errorf("%s and %s are both called %s", other, f.Code, word)
			}
			t.byWord[word] = f.Code
		}
		for _, line := range f.Remedy {
			parsed, err := template.New(string(f.Code)).Parse(line)
			if err != nil {
				return nil, err
			}
			t.remedy[f.Code] = append(t.remedy[f.Code], parsed)
		}
	}
	return t, nil
}

// Faults are all that can be named, by code.
func Faults() []Fault { return slices.Clone(faults().Faults) }

// Lookup finds a fault by its code, in upper or lower case, or by its name.
func Lookup(codeOrName string) (Fault, bool) {
	t := faults()
	word := strings.TrimSpace(codeOrName)
	if f, ok := t.byCode[Code(strings.ToUpper(word))]; ok {
		return f, true
	}
	for _, f := range t.Faults {
		if strings.EqualFold(f.Name, word) {
			return f, true
		}
	}
	return Fault{}, false
}

// CodeOf is the code of what is called by this word: the reason of a condition, of a refused
// request, or of a Fault of a RemoteAPIService.
func CodeOf(reason string) (Code, bool) {
	code, ok := faults().byWord[reason]
	return code, ok
}

// See is the address of a fault's page.
func (c Code) See() string {
	return "https://github.com/annex-api/annex/blob/main/docs/operate/faults/" + string(c) + ".md"
}

// Page is the same page as a path in the repository.
func (c Code) Page() string { return "docs/operate/faults/" + string(c) + ".md" }

// Explain is the remedy with placeholders in upper case for all names.
func (f Fault) Explain() []string { return render(f.Code, sampleFields()) }

// render fills in a remedy. Lines that are empty then are left out.
func render(code Code, fields Fields) []string {
	fields = fields.filled()
	var lines, remarks []string // remarks wait for the command that they are about
	outside := false
	for i, line := range faults().remedy[code] {
		var b strings.Builder
		// Fields that do not exist are found by the test that renders all.
		if err := line.Execute(&b, fields); err != nil || strings.TrimSpace(b.String()) == "" {
			continue
		}
		switch text := b.String(); {
		case fields.Outside != "" && aboutPods(faults().byCode[code].Remedy[i]):
			outside, remarks = true, nil
		case strings.HasPrefix(text, "#"):
			remarks = append(remarks, text)
		default:
			lines, remarks = append(append(lines, remarks...), text), nil
		}
	}
	lines = append(lines, remarks...)
	if outside {
		lines = append(lines,
			"# no Pod is behind the Service, the extension server runs outside of the cluster: look there whether it runs, at its log, and at what answers:",
			fmt.Sprintf("curl -sk 'https://%s/apis/%s/%s'", fields.Outside, fields.Group, fields.Version))
	}
	return lines
}

// aboutPods says of a line's template that it leads nowhere without Pods of the extension server.
func aboutPods(line string) bool {
	return slices.ContainsFunc([]string{
		"{{.Pod}}", "{{.Node}}", "{{.Workload}}", "-n {{.Namespace}} get pods", "-n {{.Namespace}} port-forward", "//127.0.0.1:8443/",
	}, func(part string) bool { return strings.Contains(line, part) })
}
