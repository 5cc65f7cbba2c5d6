package scaffold

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// plural guesses the name of a kind in paths.
func plural(kind string) string {
	many, _ := meta.UnsafeGuessKindToResource(schema.GroupVersionKind{Kind: kind})
	return many.Resource
}

// pluralGo is the plural as a Go name: Policies of Policy and policies.
func pluralGo(kind, plural string) string {
	same := 0
	for same < min(len(kind), len(plural)) && strings.ToLower(kind)[same] == plural[same] {
		same++
	}
	return kind[:same] + plural[same:]
}

// title makes a Go name of a version or an action: V1beta1, RestartNow.
func title(name string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(name, "-") {
		if word != "" {
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return b.String()
}

// lowerCamel begins a Go name with a small letter: hTTPRoute is no beauty, but no surprise.
func lowerCamel(name string) string {
	return strings.ToLower(name[:1]) + name[1:]
}

// suggestLabel is the nearest DNS label to what somebody wrote.
func suggestLabel(text string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(text) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9' && b.Len() > 0:
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	s := b.String()
	return strings.Trim(s[:min(len(s), maxName)], "-")
}

// suggestKind is the nearest name of a kind.
func suggestKind(text string) string {
	var b strings.Builder
	for _, word := range strings.FieldsFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	}) {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return strings.TrimLeft(b.String(), "0123456789")
}

// versions gives all that kinds are served in, each once.
func (p Project) versions() []string {
	var all []string
	for _, k := range p.Kinds {
		for _, v := range k.Versions {
			if !slices.Contains(all, v) {
				all = append(all, v)
			}
		}
	}
	return all
}
