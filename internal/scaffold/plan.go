package scaffold

import (
	"bytes"
	"errors"
	"fmt"
	"go/format"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Outcome is what becomes of a file.
type Outcome string

// The outcomes.
const (
	// Create writes a file that was not there.
	Create Outcome = "create"
	// Change writes a file that was as the scaffold had made it, or merges.
	Change Outcome = "change"
	// ByHand leaves a file as it is: the same lines were changed by hand.
	ByHand Outcome = "by hand"
	// Conflict writes both, between marks.
	Conflict Outcome = "conflict"
	// Remove takes away a file that was as the scaffold had made it, and is no more.
	Remove Outcome = "remove"
)

// Step is what becomes of one file.
type Step struct {
	Path    string
	Outcome Outcome
	Data    []byte
	// Lines are what is to be done by hand: lines to add and to take away.
	Lines []string
}

// planning is how a plan is made.
type planning struct {
	// keepBoth is merge's both.
	keepBoth bool
	// mark says that conflicts are written, between marks, and not left to the user.
	mark bool
}

// plan merges the difference between two renderings into the files that there are. A
// file that `go generate` writes is left to it, unless it is as it was rendered.
func plan(folder fs.FS, before, after []File, how planning) ([]Step, error) {
	was := map[string]File{}
	for _, f := range before {
		was[f.Path] = f
	}
	var steps []Step
	for _, f := range after {
		old, known := was[f.Path]
		delete(was, f.Path)
		if known && bytes.Equal(old.Data, f.Data) {
			continue
		}
		now, err := fs.ReadFile(folder, f.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && known:
			continue // it was removed by hand
		case errors.Is(err, fs.ErrNotExist):
			steps = append(steps, Step{Path: f.Path, Outcome: Create, Data: f.Data})
		case err != nil:
			return nil, err
		case bytes.Equal(now, f.Data):
		case f.Generated && !bytes.Equal(now, old.Data):
		case known && bytes.Equal(now, old.Data):
			steps = append(steps, Step{Path: f.Path, Outcome: Change, Data: f.Data})
		default:
			steps = append(steps, join(f, old.Data, now, how))
		}
	}
	for _, f := range before {
		if _, gone := was[f.Path]; !gone {
			continue
		}
		if now, err := fs.ReadFile(folder, f.Path); err == nil && bytes.Equal(now, f.Data) && !f.Generated {
			steps = append(steps, Step{Path: f.Path, Outcome: Remove})
		}
	}
	return steps, nil
}

// join merges one file that was written by hand too.
func join(f File, old, now []byte, how planning) Step {
	merged, clean := merge(old, now, f.Data, how.keepBoth)
	switch {
	case clean:
		if strings.HasSuffix(f.Path, ".go") {
			if formatted, err := format.Source(merged); err == nil {
				merged = formatted
			}
		}
		return Step{Path: f.Path, Outcome: Change, Data: merged}
	case how.mark:
		return Step{Path: f.Path, Outcome: Conflict, Data: merged}
	}
	return Step{Path: f.Path, Outcome: ByHand, Lines: changedLines(old, f.Data)}
}

// WriteProject writes the files of a new project. The folder must not be there, or be empty.
// If that fails, nothing of it is left.
func WriteProject(folder string, files []File) (err error) {
	made := false
	switch entries, err := os.ReadDir(folder); {
	case errors.Is(err, fs.ErrNotExist):
		made = true
	case err != nil:
		return fmt.Errorf("the folder %s cannot be used: %w", folder, err)
	case len(entries) > 0:
		return fmt.Errorf("the folder %s is there already, with %s in it: name one that is not there with --dir, or an empty one", folder, entries[0].Name())
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, empty(folder, made))
		}
	}()
	for _, f := range files {
		if err := writeNew(filepath.Join(folder, filepath.FromSlash(f.Path)), f.Data); err != nil {
			return fmt.Errorf("write the project: %w", err)
		}
	}
	return nil
}

// empty removes what is in a folder that was empty before, and the folder too if it was
// not there.
func empty(folder string, all bool) error {
	if all {
		return os.RemoveAll(folder)
	}
	entries, err := os.ReadDir(folder)
	errs := []error{err}
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(folder, e.Name())))
	}
	return errors.Join(errs...)
}

// writeNew writes a file that is not there. If that fails, nothing of it is left.
func writeNew(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// Apply does what steps say. A file is replaced as a whole or not at all, the record of
// the project last, so that what failed half way can be done again.
func Apply(folder string, steps []Step) error {
	ordered := slices.Clone(steps)
	slices.SortStableFunc(ordered, func(a, b Step) int {
		switch {
		case a.Path == RecordFile:
			return 1
		case b.Path == RecordFile:
			return -1
		}
		return 0
	})
	for _, s := range ordered {
		path := filepath.Join(folder, filepath.FromSlash(s.Path))
		var err error
		switch s.Outcome {
		case Create:
			err = writeNew(path, s.Data)
		case Change, Conflict:
			err = replace(path, s.Data)
		case Remove:
			err = os.Remove(path)
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", s.Outcome, s.Path, err)
		}
	}
	return nil
}

func replace(path string, data []byte) error {
	mode := fs.FileMode(0o644)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".annex-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
