package main

import (
	"regexp"
	"slices"
	"strings"
)

// What a command does, as package diagnosis says it.
const (
	looks    = "looks"
	changes  = "changes"
	destroys = "destroys"
)

// effects are ordered: a remedy goes from the first to the last.
var effects = []string{looks, changes, destroys}

// effect is the gravest that a shell line does, as far as its words tell. Whatever is not known to read
// changes something.
func effect(line string) string {
	worst := looks
	simple, writes := commands(line)
	if writes {
		worst = changes
	}
	for _, words := range simple {
		worst = graver(worst, effectOf(words))
	}
	for _, inner := range substituted(line) {
		worst = graver(worst, effect(inner))
	}
	return worst
}

func graver(a, b string) string {
	return effects[max(slices.Index(effects, a), slices.Index(effects, b))]
}

var (
	// readers are programs that read, whatever their arguments are; others do with these first words.
	readers  = []string{"base64", "cat", "echo", "grep", "head", "sleep", "tail"}
	readings = []string{"date -u", "openssl x509", "timedatectl status"}
	// verbs of kubectl that read, and that destroy.
	readingVerbs = []string{
		"get", "describe", "logs", "explain", "top", "wait", "port-forward", "api-resources", "api-versions", "version",
		"rollout status", "rollout history", "auth can-i", "auth whoami",
	}
	destroyingVerbs = []string{"delete", "drain", "taint"}
	// destroying is what takes away, in whatever command it is.
	destroying = regexp.MustCompile(`insecure|--replicas[= ]0\b|--force\b|"op": ?"remove"|: ?null\b`)
	// curlReads are flags of curl that send and write nothing.
	curlReads = regexp.MustCompile(`^-[ksiv]+$`)
)

func effectOf(words []string) string {
	all := strings.Join(words, " ")
	if destroying.MatchString(all) || words[0] == "rm" {
		return destroys
	}
	if i := slices.Index(words, "kubectl"); i >= 0 {
		verb, object := verbOf(words[i+1:])
		switch {
		case slices.Contains(destroyingVerbs, verb):
			return destroys
		case i == 0 && (slices.Contains(readingVerbs, verb) || slices.Contains(readingVerbs, verb+" "+object)):
			return looks
		}
		return changes
	}
	switch {
	case slices.Contains(readers, words[0]), len(words) > 1 && slices.Contains(readings, words[0]+" "+words[1]):
		return looks
	case words[0] == "curl" && !slices.ContainsFunc(words[1:], func(w string) bool { return strings.HasPrefix(w, "-") && !curlReads.MatchString(w) }):
		return looks
	}
	return changes
}

// verbOf is what kubectl is told to do: its first two words that are no flags.
func verbOf(args []string) (verb, object string) {
	var words []string
	for i := 0; i < len(args) && len(words) < 2; i++ {
		switch {
		case slices.Contains([]string{"-n", "--namespace", "--context"}, args[i]):
			i++ // its value
		case !strings.HasPrefix(args[i], "-"):
			words = append(words, args[i])
		}
	}
	words = append(words, "", "")
	return words[0], words[1]
}

// commands are the words of each simple command of a shell line, quotes taken off, and whether any
// writes to a file.
func commands(line string) (all [][]string, writes bool) {
	var words []string
	var word strings.Builder
	inWord := false
	quote := rune(0)
	endWord := func() {
		if inWord {
			words = append(words, word.String())
		}
		word.Reset()
		inWord = false
	}
	endCommand := func() {
		if endWord(); len(words) > 0 {
			all = append(all, words)
		}
		words = nil
	}
	text := []rune(line)
	for i := 0; i < len(text); i++ {
		r := text[i]
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == '>' && i+1 < len(text) && text[i+1] == '&': // 2>&1
			i++
		case r == '>':
			writes = true
			endWord()
		case r == '|' || r == ';' || r == '&':
			endCommand()
		case r == ' ':
			endWord()
		case r == '#' && !inWord:
			endCommand()
			return all, writes
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	endCommand()
	return all, writes
}

// substituted are the lines within $(…), the outermost.
func substituted(line string) []string {
	var inner []string
	for {
		_, rest, found := strings.Cut(line, "$(")
		if !found {
			return inner
		}
		depth, end := 1, len(rest)
		for i, r := range rest {
			if r == '(' {
				depth++
			} else if r == ')' {
				depth--
			}
			if depth == 0 {
				end = i
				break
			}
		}
		inner = append(inner, rest[:end])
		line = rest[end:]
	}
}
