package diagnosis

import (
	"fmt"
	"slices"
	"strings"
	"text/template"
)

// Effect is what a command does.
type Effect string

// What a command does.
const (
	// Looks: it reads, and changes nothing.
	Looks Effect = "looks"
	// Changes: what it changes can be changed back.
	Changes Effect = "changes"
	// Destroys: it takes away what may be needed: an object, data, protection.
	Destroys Effect = "destroys"
)

// Action is one thing to do. In a remedy those that look come first, and those that destroy last.
type Action struct {
	// Does is what the command does; empty where there is none.
	Does Effect `json:"does,omitempty"`
	// Remark is what to know of it; without a command, what to do by hand.
	Remark string `json:"remark,omitempty"`
	// Command is a line for a shell.
	Command string `json:"command,omitempty"`
	// Loses is what is gone after a command that destroys.
	Loses string `json:"loses,omitempty"`
	// OnlyIf is when that is right: what a look before it must have shown.
	OnlyIf string `json:"onlyIf,omitempty"`
}

// Warning is what to know before a command that destroys is run, in two sentences; empty for others.
func (a Action) Warning() string {
	if a.Does != Destroys {
		return ""
	}
	return "This takes away " + a.Loses + ". Do it only if " + a.OnlyIf + "."
}

// Script is a remedy as lines for a shell. What is no command is a remark, and so is a command that
// destroys: who copies all of it runs none of those.
func Script(remedy []Action) []string {
	var lines []string
	for _, a := range remedy {
		if warning := a.Warning(); warning != "" {
			lines = append(lines, "# "+warning)
		}
		if a.Remark != "" {
			lines = append(lines, "# "+a.Remark)
		}
		switch {
		case a.Does == Destroys:
			lines = append(lines, "# "+a.Command)
		case a.Command != "":
			lines = append(lines, a.Command)
		}
	}
	return lines
}

// actionTemplate is an action whose names are to be filled in.
type actionTemplate struct {
	does                           Effect
	remark, command, loses, onlyIf *template.Template
}

func parseAction(a Action) (actionTemplate, error) {
	t := actionTemplate{does: a.Does}
	for _, part := range []struct {
		text string
		into **template.Template
	}{{a.Remark, &t.remark}, {a.Command, &t.command}, {a.Loses, &t.loses}, {a.OnlyIf, &t.onlyIf}} {
		parsed, err := template.New("remedy").Parse(part.text)
		if err != nil {
			return t, err
		}
		*part.into = parsed
	}
	return t, nil
}

// fill fills the names in. Fields that do not exist are an error, which the test that renders all finds.
func (t actionTemplate) fill(fields Fields) (Action, error) {
	a := Action{Does: t.does}
	for _, part := range []struct {
		text *template.Template
		into *string
	}{{t.remark, &a.Remark}, {t.command, &a.Command}, {t.loses, &a.Loses}, {t.onlyIf, &a.OnlyIf}} {
		var b strings.Builder
		if err := part.text.Execute(&b, fields); err != nil {
			return a, err
		}
		*part.into = strings.TrimSpace(b.String())
	}
	return a, nil
}

// render fills in a remedy. Actions whose command is empty then are left out, with their remarks, and so
// are those about Pods where the extension server runs outside of the cluster.
func render(code Code, fields Fields) []Action {
	fields = fields.filled()
	var actions []Action
	outside := false
	for i, t := range faults().remedy[code] {
		a, err := t.fill(fields)
		if fields.Outside != "" && aboutPods(faults().byCode[code].Remedy[i].Remark) {
			a.Remark, outside = "", true
		}
		switch {
		case err != nil || a.Command == "" && (a.Does != "" || a.Remark == ""):
		case fields.Outside != "" && aboutPods(faults().byCode[code].Remedy[i].Command):
			outside = true
		default:
			actions = append(actions, a)
		}
	}
	if outside {
		changing := slices.IndexFunc(actions, func(a Action) bool { return a.Does == Changes || a.Does == Destroys })
		if changing < 0 {
			changing = len(actions)
		}
		actions = slices.Insert(actions, changing, Action{
			Does:    Looks,
			Remark:  "no Pod is behind the Service, the extension server runs outside of the cluster: look there whether it runs, at its log, and at what answers:",
			Command: fmt.Sprintf("curl -sk 'https://%s/apis/%s/%s'", fields.Outside, fields.Group, fields.Version),
		})
	}
	return actions
}

// aboutPods says of a command's or remark's template that it leads nowhere without Pods of the extension server.
func aboutPods(text string) bool {
	return slices.ContainsFunc([]string{
		"{{.Pod}}", "{{.Node}}", "{{.Workload}}", "-n {{.Namespace}} get pods", "-n {{.Namespace}} port-forward", "//127.0.0.1:8443/",
	}, func(part string) bool { return strings.Contains(text, part) })
}
