package main

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"
)

// action has the fields of diagnosis.Action.
type action struct {
	Does    string `json:"does,omitempty"`
	Remark  string `json:"remark,omitempty"`
	Command string `json:"command,omitempty"`
	Loses   string `json:"loses,omitempty"`
	OnlyIf  string `json:"onlyIf,omitempty"`
}

// samples are the fields of remedies in documents: what they stand for, in upper case. Those that
// diagnosis.Fields has and these lack are a mistake that shows when pages are made.
var samples = map[string]any{
	"APIService": "APISERVICE", "Group": "GROUP", "Version": "VERSION", "Namespace": "NAMESPACE",
	"Service": "SERVICE", "Port": "443", "TargetPort": "443", "PortIndex": "0", "Pod": "POD", "Node": "NODE",
	"Workload": "deployment/DEPLOYMENT", "ServiceAccount": "SERVICEACCOUNT", "SelectorJSON": `{"app":"LABEL"}`,
	"Resource": "RESOURCE", "CommonName": "COMMON_NAME", "Server": "APISERVER", "StuckNamespace": "STUCK_NAMESPACE",
	"Scaled": false, "Other": "OTHER", "OtherPort": "OTHER_PORT", "Secret": "SECRET", "Policy": "NETWORKPOLICY",
	"Manager": "MANAGER", "Provider": "", "ServiceCIDR": "SERVICE_CIDR",
}

// variants are fields that have every branch of a template taken.
func variants() []map[string]any {
	all := []map[string]any{samples}
	for _, other := range []map[string]any{
		{"Other": "", "OtherPort": "", "Secret": "", "Policy": "", "Manager": "", "ServiceCIDR": ""},
		{"Scaled": true},
		{"Provider": "GKE"},
		{"Provider": "EKS"},
	} {
		fields := maps.Clone(samples)
		maps.Copy(fields, other)
		all = append(all, fields)
	}
	return all
}

// render fills in a remedy, as package diagnosis does.
func render(remedy []action, fields map[string]any) ([]action, error) {
	var rendered []action
	for _, a := range remedy {
		for _, text := range []*string{&a.Remark, &a.Command, &a.Loses, &a.OnlyIf} {
			t, err := template.New("remedy").Option("missingkey=error").Parse(*text)
			if err != nil {
				return nil, err
			}
			var b strings.Builder
			if err := t.Execute(&b, fields); err != nil {
				return nil, err
			}
			*text = strings.TrimSpace(b.String())
		}
		if a.Command != "" || a.Does == "" {
			rendered = append(rendered, a)
		}
	}
	return rendered, nil
}

// wrongRemedy says what is wrong with a remedy, with whatever fields it is filled.
func wrongRemedy(remedy []action) []string {
	var wrong []string
	say := func(format string, args ...any) {
		if sentence := fmt.Sprintf(format, args...); !slices.Contains(wrong, sentence) {
			wrong = append(wrong, sentence)
		}
	}
	for _, a := range remedy {
		switch {
		case a.Command == "" && (a.Does != "" || a.Remark == ""):
			say("an action without a command is a remark, and does nothing: %+v", a)
		case a.Command != "" && !slices.Contains(effects, a.Does):
			say("%s: does %q; it must say whether it looks, changes or destroys", a.Command, a.Does)
		}
		if isSet := a.Loses != "" && a.OnlyIf != ""; isSet != (a.Does == destroys) || !isSet && a.Loses+a.OnlyIf != "" {
			say("%s: loses and onlyIf are for what destroys, and must be set there", a.Command)
		}
	}
	for _, fields := range variants() {
		actions, err := render(remedy, fields)
		if err != nil {
			say("%v", err)
			continue
		}
		if len(actions) == 0 {
			say("there is nothing to do where some fields are not known")
		}
		for i, a := range actions {
			// What is done by hand changes something.
			if i > 0 && slices.Index(effects, cmp.Or(a.Does, changes)) < slices.Index(effects, cmp.Or(actions[i-1].Does, changes)) {
				say("%s%s: what looks comes first, and what destroys last", a.Remark, a.Command)
			}
			if a.Does == destroys && actions[0].Does != looks {
				say("%s: no look is before it", a.Command)
			}
			if a.Command == "" {
				continue
			}
			// Its author may know more of a command than its words tell.
			if does := effect(a.Command); a.Does != does && !(a.Does == destroys && does == changes) {
				say("%s: it %s, and is marked %q", a.Command, does, a.Does)
			}
		}
	}
	return wrong
}

// toDo writes a remedy as a page has it: a block for what looks, one for what changes, and for each that
// destroys one of its own, below its warning.
func toDo(b *bytes.Buffer, actions []action) {
	const fence = "```"
	open := ""
	for _, a := range actions {
		does := cmp.Or(a.Does, changes)
		if does != open || does == destroys {
			if open != "" {
				b.WriteString(fence + "\n\n")
			}
			switch {
			case does == looks && actions[len(actions)-1].Does == looks:
				b.WriteString("Look; this changes nothing:\n")
			case does == looks:
				b.WriteString("Look first; this changes nothing:\n")
			case does == destroys:
				fmt.Fprintf(b, "**This takes away %s.** Do it only if %s:\n", a.Loses, a.OnlyIf)
			case open == looks:
				b.WriteString("Then mend:\n")
			default:
				b.WriteString("Mend:\n")
			}
			b.WriteString("\n" + fence + "sh\n")
			open = does
		}
		if a.Remark != "" {
			b.WriteString("# " + a.Remark + "\n")
		}
		if a.Command != "" {
			b.WriteString(a.Command + "\n")
		}
	}
	b.WriteString(fence + "\n\n")
}
