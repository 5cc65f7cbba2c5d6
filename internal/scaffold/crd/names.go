package crd

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	runtimeschema "k8s.io/apimachinery/pkg/runtime/schema"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// unique takes a name, with a number where it is taken.
func unique(taken map[string]bool, name string) string {
	for i := 2; taken[name]; i++ {
		next := fmt.Sprintf("%s%d", strings.TrimRight(name, "0123456789"), i)
		if !taken[next] {
			name = next
		}
	}
	taken[name] = true
	return name
}

// methods are the names that no field may have: those of what is generated, and for a kind
// those of what it embeds and is used by.
func methods(kind bool) map[string]bool {
	names := map[string]bool{"DeepCopy": true, "DeepCopyInto": true}
	if !kind {
		return names
	}
	for _, name := range []string{"TypeMeta", "ObjectMeta", "GetObjectMeta"} {
		names[name] = true
	}
	for _, of := range []reflect.Type{reflect.TypeFor[metav1.Object](), reflect.TypeFor[runtime.Object](), reflect.TypeFor[runtimeschema.ObjectKind]()} {
		for m := range of.Methods() {
			names[m.Name] = true
		}
	}
	return names
}

// goFieldName is a Go name for a field: podIP is PodIP, x-level is XLevel.
func goFieldName(name string) string {
	var b strings.Builder
	up := true
	for _, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			if up {
				r = unicode.ToUpper(r)
			}
			b.WriteRune(r)
			up = false
		default:
			up = true
		}
	}
	if s := b.String(); s != "" && unicode.IsLetter(rune(s[0])) {
		return s
	}
	return "Field" + b.String()
}

// validTag says whether encoding/json takes a name from a tag, and gofmt the tag.
func validTag(name string) bool {
	if name == "" || name == "-" {
		return false
	}
	for _, r := range name {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~", r) {
			return false
		}
	}
	return true
}

// singular names the type of one of many: WidgetSpecPort of WidgetSpecPorts.
func singular(name string) string {
	switch {
	case strings.HasSuffix(name, "ies") && len(name) > 4:
		return strings.TrimSuffix(name, "ies") + "y"
	case strings.HasSuffix(name, "sses"), strings.HasSuffix(name, "ches"), strings.HasSuffix(name, "shes"), strings.HasSuffix(name, "xes"):
		return strings.TrimSuffix(name, "es")
	case strings.HasSuffix(name, "s") && !strings.HasSuffix(name, "ss") && !strings.HasSuffix(name, "us") && !strings.HasSuffix(name, "is"):
		return strings.TrimSuffix(name, "s")
	}
	return name + "Item"
}

// description is a text as a comment can have it. controller-gen takes lines that begin
// with a plus for markers, and leaves out those of work undone or behind dashes.
func (g *generator) description(at, text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(trimmed, "+"):
			line = strings.TrimLeft(trimmed, "+ ")
		case strings.HasPrefix(line, "TODO"), strings.HasPrefix(line, "---"):
			line = " " + line
		}
		if line == "" && (len(lines) == 0 || lines[len(lines)-1] == "") {
			continue
		}
		lines = append(lines, line)
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	out := strings.Join(lines, "\n")
	if at != "" && withoutSpace(out) != withoutSpace(text) {
		g.lose(at, "lines of the description that begin with a plus would be markers: the plus is left out")
	}
	return out
}

func withoutSpace(text string) string { return strings.Join(strings.Fields(text), " ") }

// comment writes a description and markers.
func comment(b *strings.Builder, indent, description string, markers []string) {
	for line := range strings.Lines(description) {
		if line = strings.TrimRight(line, "\n"); line == "" {
			b.WriteString(indent + "//\n")
			continue
		}
		b.WriteString(indent + "// " + line + "\n")
	}
	if description != "" && len(markers) > 0 {
		b.WriteString(indent + "//\n")
	}
	for _, m := range markers {
		b.WriteString(indent + "// " + m + "\n")
	}
}
