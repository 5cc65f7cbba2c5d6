package docs

import (
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode"
)

var (
	// inline matches [text](target) and ![text](target), with a title perhaps.
	inline = regexp.MustCompile(`\]\(\s*<?([^()\s<>]+)>?(?:\s+"[^"]*")?\s*\)`)
	// definition matches [name]: target at the beginning of a line.
	definition = regexp.MustCompile(`^ {0,3}\[[^\]]+\]:\s*<?([^\s<>]+)>?`)
	// code is a span of code, in which nothing is a link.
	code    = regexp.MustCompile("``[^`]+``|`[^`]*`")
	heading = regexp.MustCompile(`^ {0,3}#{1,6}\s+(.*?)\s*#*\s*$`)
	// linked is a link in a heading, of which the text counts.
	linked = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)
)

// prose calls do for each line of a Markdown document that is not part of a
// block of code; numbers begin with 1.
func prose(content string, do func(number int, line string)) {
	fence := ""
	for i, line := range strings.Split(content, "\n") {
		trimmed := strings.TrimLeft(line, " ")
		switch {
		case fence != "":
			if strings.HasPrefix(trimmed, fence) {
				fence = ""
			}
		case strings.HasPrefix(trimmed, "```"):
			fence = "```"
		case strings.HasPrefix(trimmed, "~~~"):
			fence = "~~~"
		default:
			do(i+1, line)
		}
	}
}

// brokenLinks returns a sentence for each relative link of a document that
// leads to no file of the repository, or to no heading of it.
func brokenLinks(repository fs.FS, name string) ([]string, error) {
	content, err := fs.ReadFile(repository, name)
	if err != nil {
		return nil, err
	}
	var broken []string
	links(string(content), func(number int, target string) {
		if why := leadsNowhere(repository, name, target); why != "" {
			broken = append(broken, fmt.Sprintf("%s:%d: the link %s %s", name, number, target, why))
		}
	})
	return broken, nil
}

// links calls do for each link of a document, with its line.
func links(content string, do func(number int, target string)) {
	prose(content, func(number int, line string) {
		line = code.ReplaceAllString(line, "")
		found := inline.FindAllStringSubmatch(line, -1)
		if d := definition.FindStringSubmatch(line); d != nil {
			found = append(found, d)
		}
		for _, m := range found {
			do(number, m[1])
		}
	})
}

// reached are the documents to which links lead from one document, over
// however many others.
func reached(repository fs.FS, from string) (map[string]bool, error) {
	seen := map[string]bool{from: true}
	for pending := []string{from}; len(pending) > 0; pending = pending[1:] {
		name := pending[0]
		content, err := fs.ReadFile(repository, name)
		if err != nil {
			return nil, err
		}
		links(string(content), func(_ int, target string) {
			file, _, _ := strings.Cut(target, "#")
			file = path.Join(path.Dir(name), file)
			if _, err := fs.Stat(repository, file); err == nil && strings.HasSuffix(file, ".md") && !seen[file] {
				seen[file] = true
				pending = append(pending, file)
			}
		})
	}
	return seen, nil
}

// leadsNowhere says what is wrong with a link of the document name; empty if
// nothing is, or if it leads out of the repository by a URL.
func leadsNowhere(repository fs.FS, name, target string) string {
	u, err := url.Parse(target)
	switch {
	case err != nil:
		return "is not a URL"
	case u.IsAbs() || u.Host != "":
		return ""
	case strings.HasPrefix(u.Path, "/"):
		return "is absolute: begin it at the document"
	}
	file := name
	if u.Path != "" {
		file = path.Join(path.Dir(name), u.Path)
	}
	if !fs.ValidPath(file) {
		return "leaves the repository"
	}
	info, err := fs.Stat(repository, file)
	if err != nil {
		return "leads to no file"
	}
	if u.Fragment == "" {
		return ""
	}
	if info.IsDir() || !strings.HasSuffix(file, ".md") {
		return "names a heading of what is no document"
	}
	content, err := fs.ReadFile(repository, file)
	if err != nil {
		return "leads to a file that cannot be read"
	}
	if !anchors(string(content))[u.Fragment] {
		return "leads to no heading"
	}
	return ""
}

// anchors are the names by which headings can be linked to.
func anchors(content string) map[string]bool {
	found := map[string]bool{}
	prose(content, func(_ int, line string) {
		m := heading.FindStringSubmatch(line)
		if m == nil {
			return
		}
		base := anchor(m[1])
		name := base
		for n := 1; found[name]; n++ {
			name = fmt.Sprintf("%s-%d", base, n)
		}
		found[name] = true
	})
	return found
}

// anchor is a heading in lower case, without punctuation, with hyphens for
// blanks.
func anchor(text string) string {
	text = linked.ReplaceAllString(text, "$1")
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, text)
}
