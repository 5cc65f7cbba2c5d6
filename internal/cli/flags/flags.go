// Package flags explains what is wrong with a command line.
package flags

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/annex-api/annex/diagnosis"
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
	if near := diagnosis.Nearest("--"+name, visible(fs)); len(near) > 0 {
		return fmt.Errorf("unknown flag --%s; did you mean %s?", name, strings.Join(near, " or "))
	}
	return fmt.Errorf("unknown flag --%s; %s", name, help)
}

// visible are the names of the flags that a help text shows, with their dashes.
func visible(fs *pflag.FlagSet) []string {
	var names []string
	fs.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && f.Deprecated == "" {
			names = append(names, "--"+f.Name)
		}
	})
	return names
}
