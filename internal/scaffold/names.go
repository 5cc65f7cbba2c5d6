package scaffold

import (
	"slices"
	"strings"
)

// sameInPlural end words that are their own plural.
var sameInPlural = []string{"series", "species", "metadata", "data", "news", "information", "equipment", "endpoints"}

// plural guesses the name of a kind in paths, as English makes plurals. It is the URL for
// ever, so it is shown when it is chosen, and --plural says another one.
func plural(kind string) string {
	one := strings.ToLower(kind)
	ends := func(ends ...string) bool {
		return slices.ContainsFunc(ends, func(end string) bool { return strings.HasSuffix(one, end) })
	}
	switch {
	case ends(sameInPlural...):
		return one
	case ends("ay", "ey", "iy", "oy", "uy"):
		return one + "s"
	case ends("y") && len(one) > 1:
		return strings.TrimSuffix(one, "y") + "ies"
	case ends("sis"):
		return strings.TrimSuffix(one, "is") + "es"
	case ends("s", "x", "z", "ch", "sh"):
		return one + "es"
	}
	return one + "s"
}

// pluralGo is the plural as a Go name: Policies of Policy and policies, BigBoxes of BigBox
// and big-boxes.
func pluralGo(kind, plural string) string {
	same := 0
	for same < min(len(kind), len(plural)) && strings.ToLower(kind)[same] == plural[same] {
		same++
	}
	if same == 0 {
		return title(plural)
	}
	first, rest, _ := strings.Cut(plural[same:], "-")
	return kind[:same] + first + title(rest)
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
