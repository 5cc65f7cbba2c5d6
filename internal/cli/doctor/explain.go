package doctor

import (
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/internal/printable"
)

// explain says what a code means. It asks nobody.
func (o *Options) explain() error {
	if o.Explain == "all" {
		return o.explainAll()
	}
	f, known := diagnosis.Lookup(o.Explain)
	if !known {
		var codes []string
		for _, f := range diagnosis.Faults() {
			codes = append(codes, string(f.Code), f.Name)
		}
		text := fmt.Sprintf("no fault is called %q", printable.Line(o.Explain, maxName))
		if near := diagnosis.Nearest(strings.ToUpper(o.Explain), codes); len(near) > 0 {
			text += "; did you mean " + strings.Join(near, " or ") + "?"
		} else {
			text += ";"
		}
		return unasked{fmt.Errorf("%s %s doctor --explain all lists them", text, o.program)}
	}
	if o.Output != "text" {
		return o.document(f)
	}
	p := o.page()
	p.line(p.bold(string(f.Code) + " " + f.Name))
	p.wrap("", "", f.Title+" ("+string(f.Severity)+").")
	p.section("What you see", f.Symptom)
	p.section("Why", f.Cause)
	p.line("")
	p.line("What to do")
	p.remedy("  ", f.Explain())
	if len(f.Source) > 0 {
		p.section("Where people met it", strings.Join(f.Source, ", "))
	}
	p.line("")
	p.line(f.Code.See())
	return p.flush()
}

// explainAll lists all codes.
func (o *Options) explainAll() error {
	if o.Output != "text" {
		return o.document(diagnosis.Faults())
	}
	p := o.page()
	for _, f := range diagnosis.Faults() {
		p.wrap(string(f.Code)+"  ", "        ", f.Title)
	}
	return p.flush()
}

// document writes a value as JSON or YAML.
func (o *Options) document(value any) error {
	if o.Output == "json" {
		return writeJSON(o.IO.Out, value)
	}
	text, err := yaml.Marshal(value)
	if err != nil {
		return err
	}
	_, err = o.IO.Out.Write(text)
	return err
}
