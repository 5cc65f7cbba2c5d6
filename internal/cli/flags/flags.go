// Package flags explains what is wrong with a command line's flags.
package flags

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Explain turns an error of parsing with fs into one sentence: an unknown flag's names flags with a
// similar name, any other's the command whose --help to see.
func Explain(fs *pflag.FlagSet, command string, err error) error {
	help := fmt.Sprintf("see %s --help", command)
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return fmt.Errorf("%w; %s", err, help)
	}
	name := strings.ReplaceAll(unknown.GetSpecifiedName(), "_", "-") // as flags of the server are read
	if short := unknown.GetSpecifiedShortnames(); short != "" {
		return fmt.Errorf("unknown flag -%s in -%s; %s", name, short, help)
	}
	if near := similar(fs, name); len(near) > 0 {
		return fmt.Errorf("unknown flag --%s; did you mean %s?", name, strings.Join(near, " or "))
	}
	return fmt.Errorf("unknown flag --%s; %s", name, help)
}

// similar returns up to three visible flags that are a few typing errors away, the nearest first, or
// that name begins.
func similar(fs *pflag.FlagSet, name string) []string {
	type candidate struct {
		name string
		far  int
	}
	var found []candidate
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" {
			return
		}
		d := distance(name, f.Name)
		if d > 2 && d > len(name)/5 && !(len(name) > 3 && strings.HasPrefix(f.Name, name)) {
			return
		}
		found = append(found, candidate{"--" + f.Name, d})
	})
	slices.SortStableFunc(found, func(a, b candidate) int { return a.far - b.far })
	var names []string
	for _, c := range found[:min(3, len(found))] {
		names = append(names, c.name)
	}
	return names
}

// distance is the number of letters to insert, remove or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
