package schema

import (
	"bytes"
	"fmt"
	"path"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	sigsyaml "sigs.k8s.io/yaml"
)

// document is one document of a file. Its content stands on the lines that it has in
// the file, behind empty ones, so that all lines that parsers tell are the file's.
type document struct {
	file    string
	content []byte
	// root is nil where lines are not known.
	root *yaml.Node
	// parts stand at paths of the document, and have lines of their own.
	parts map[string]*document
	// said gives a path the name that the user knows it by; nil leaves it.
	said func(at string) string
}

// documents splits a file at its lines of "---".
func documents(file string, content []byte) []*document {
	if path.Ext(file) == ".json" {
		return []*document{newDocument(file, content)}
	}
	var docs []*document
	var current bytes.Buffer
	before := 0
	for number, line := range bytes.SplitAfter(content, []byte("\n")) {
		rest, separates := bytes.CutPrefix(line, []byte("---"))
		if separates && (len(bytes.TrimSpace(rest)) == 0 || rest[0] == ' ' || rest[0] == '\t') {
			docs = append(docs, newDocument(file, behind(before, current.Bytes())))
			current.Reset()
			before = number + 1
			continue
		}
		current.Write(line)
	}
	return append(docs, newDocument(file, behind(before, current.Bytes())))
}

func behind(lines int, content []byte) []byte {
	return append(bytes.Repeat([]byte("\n"), lines), content...)
}

func newDocument(file string, content []byte) *document {
	d := &document{file: file, content: content}
	var node yaml.Node
	if err := yaml.Unmarshal(content, &node); err == nil && len(node.Content) == 1 {
		d.root = node.Content[0]
	}
	return d
}

// json gives the document as JSON, by the rules of kubectl. Keys that stand twice are
// an error.
func (d *document) json() ([]byte, error) {
	if path.Ext(d.file) == ".json" {
		return d.content, nil
	}
	return sigsyaml.YAMLToJSONStrict(d.content)
}

// fault is an error at a path of the document.
func (d *document) fault(at, message string) error {
	for prefix, part := range d.parts {
		if below, ok := strings.CutPrefix(at, prefix); ok && (below == "" || below[0] == '.' || below[0] == '[') {
			return part.fault(strings.TrimPrefix(below, "."), message)
		}
	}
	where := d.file
	if d.said != nil {
		where, at = d.said(at), ""
	}
	if line := d.line(at); line > 0 {
		where += ":" + strconv.Itoa(line)
	}
	if at == "" {
		return fmt.Errorf("%s: %s", where, message)
	}
	return fmt.Errorf("%s: %s: %s", where, at, message)
}

// lineBelow gives the file and the line of what stands at a path below another.
func (d *document) lineBelow(at string) func(below string) string {
	return func(below string) string { return d.file + ":" + strconv.Itoa(d.line(at+below)) }
}

// line is that of the deepest part of a path that the document has, and 0 if lines are
// not known.
func (d *document) line(at string) int {
	if d.root == nil {
		return 0
	}
	node, line := d.root, d.root.Line
	for _, step := range steps(at) {
		next, where := child(node, step)
		if next == nil {
			break
		}
		node, line = next, where
	}
	return line
}

// child gives what stands at a key or an index, and the line of the key or the item.
func child(node *yaml.Node, step string) (*yaml.Node, int) {
	switch node.Kind {
	case yaml.AliasNode:
		return child(node.Alias, step)
	case yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == step {
				return node.Content[i+1], node.Content[i].Line
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(node.Content) {
			return node.Content[i], node.Content[i].Line
		}
	}
	return nil, 0
}

// steps splits a path such as spec.versions[0].schema.properties[a.b].
func steps(at string) []string {
	var out []string
	for at != "" {
		if at[0] == '[' {
			key, rest, _ := strings.Cut(at[1:], "]")
			out, at = append(out, key), rest
			continue
		}
		at = strings.TrimPrefix(at, ".")
		end := strings.IndexAny(at, ".[")
		if end < 0 {
			end = len(at)
		}
		if end > 0 {
			out = append(out, at[:end])
		}
		at = at[end:]
	}
	return out
}
