// Package evidence puts measured tables into Markdown documents, so that none
// is copied by hand.
package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// Table writes a Markdown table, whose first row is its head.
func Table(w io.Writer, rows [][]string) error {
	for i, cells := range rows {
		line := "| " + strings.Join(cells, " | ") + " |\n"
		if i == 0 {
			line += "|" + strings.Repeat(" --- |", len(cells)) + "\n"
		}
		if _, err := io.WriteString(w, line); err != nil {
			return err
		}
	}
	return nil
}

// Replace writes a table between the two lines of the document at path that
// mark the place called name, in place of what stands there:
//
//	<!-- begin name -->
//	<!-- end name -->
//
// A document that does not exist is made, with nothing else in it. Where the
// marks are missing nothing is written. Without a path there is nothing to do.
func Replace(path, name string, table func(io.Writer) error) error {
	if path == "" {
		return nil
	}
	var written bytes.Buffer
	if err := table(&written); err != nil {
		return fmt.Errorf("writing the table %s: %w", name, err)
	}
	begin, end := fmt.Sprintf("<!-- begin %s -->\n", name), fmt.Sprintf("<!-- end %s -->\n", name)
	document, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		document, err = []byte(begin+end), nil
	}
	if err != nil {
		return fmt.Errorf("reading the document for the table %s: %w", name, err)
	}
	before, rest, begun := bytes.Cut(document, []byte(begin))
	_, after, ended := bytes.Cut(rest, []byte(end))
	if !begun || !ended {
		return fmt.Errorf("%s has no place for the table %s: the lines %q and %q are missing, in this order", path, name, begin[:len(begin)-1], end[:len(end)-1])
	}
	content := fmt.Appendf(nil, "%s%s\n%s\n\n%s%s", before, begin, bytes.TrimSpace(written.Bytes()), end, after)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return fmt.Errorf("writing the table %s: %w", name, err)
	}
	return nil
}
