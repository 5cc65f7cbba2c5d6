// Command generate makes of diagnosis/faults.yaml the constants, the JSON and the documents of
// faults. It is run in diagnosis, by "go generate".
package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

func main() {
	if err := run(".."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const pages = "docs/operate/faults"

// run writes all files below the repository's root, and removes pages of faults that are no more.
func run(root string) error {
	content, err := os.ReadFile(filepath.Join(root, "diagnosis", "faults.yaml"))
	if err != nil {
		return err
	}
	files, err := generate(content)
	if err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(root, pages, "*.md"))
	if err != nil {
		return err
	}
	for _, name := range old {
		if _, kept := files[pages+"/"+filepath.Base(name)]; !kept {
			if err := os.Remove(name); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(filepath.Join(root, pages), 0o755); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := write(filepath.Join(root, filepath.FromSlash(name)), files[name]); err != nil {
			return err
		}
	}
	return nil
}

// write leaves a file alone that is right already.
func write(name string, content []byte) error {
	if old, err := os.ReadFile(name); err == nil && bytes.Equal(old, content) {
		return nil
	}
	return os.WriteFile(name, content, 0o644)
}
