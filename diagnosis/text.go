package diagnosis

import (
	"fmt"
	"strings"

	"github.com/annex-api/annex/internal/printable"
)

// How long text of others may be, in bytes.
const (
	// maxValue is one value in a sentence.
	maxValue = 300
	// maxEvidence is the sentence.
	maxEvidence = 1000
)

// sentence is a format with each value made printable and bounded.
func sentence(format string, args ...any) string {
	for i, a := range args {
		switch a := a.(type) {
		case string:
			args[i] = printable.Line(a, maxValue)
		case error:
			args[i] = printable.Line(a.Error(), maxValue)
		case fmt.Stringer:
			args[i] = printable.Line(a.String(), maxValue)
		}
	}
	return printable.Line(fmt.Sprintf(format, args...), maxEvidence)
}

// list is at most five of many names.
func list(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// plural is "1 Pod" or "2 Pods".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Mentions says whether a text has a name that is not part of a longer one, as metrics.k8s.io/v1
// is of custom.metrics.k8s.io/v1beta1.
func Mentions(text, name string) bool {
	inName := func(s string, at int) bool {
		if at < 0 || at >= len(s) {
			return false
		}
		c := s[at]
		return c == '-' || c == '.' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z'
	}
	for from := 0; ; {
		i := strings.Index(text[from:], name)
		if i < 0 {
			return false
		}
		begin := from + i
		end := begin + len(name)
		// A dot may end a sentence.
		if !inName(text, begin-1) && (!inName(text, end) || text[end] == '.' && !inName(text, end+1)) {
			return true
		}
		from = begin + 1
	}
}
