// Package definitions reads files of CustomResourceDefinitions for commands.
package definitions

import (
	"fmt"
	"io"
	"os"

	"github.com/annex-api/annex/internal/scaffold"
	"github.com/annex-api/annex/internal/scaffold/crd"
)

// Read gives the group and the kinds of a file, with their types, and tells what they do
// not carry.
func Read(out io.Writer, file string, controller bool) (group string, kinds []scaffold.Kind, own []scaffold.File, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", nil, nil, fmt.Errorf("--from-crd: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, crd.MaxFile+1))
	if err != nil {
		return "", nil, nil, fmt.Errorf("--from-crd: %w", err)
	}
	read, err := crd.Read(file, data)
	if err != nil {
		return "", nil, nil, err
	}
	group, kinds, own, err = scaffold.FromCRDs(read, controller)
	if err != nil {
		return "", nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, k := range read {
		for _, w := range k.Warnings {
			fmt.Fprintf(out, "Warning: %s\n", w)
		}
	}
	return group, kinds, own, nil
}
