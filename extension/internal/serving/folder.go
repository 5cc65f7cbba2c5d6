package serving

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// The files of a folder. The chain is one file, so that it is written as a whole; the
// bundle beside it is for clients to read.
const (
	chainFile  = "serving.json"
	bundleFile = "ca.crt"
)

// maxFile bounds what is read of a file, in bytes.
const maxFile = 1 << 20

// folder keeps a chain in a folder of one server. Two processes of it may overlap:
// what the first has made, the second takes over.
type folder struct {
	dir    string
	loaded bool
}

func (f *folder) String() string { return "folder " + f.dir }

func (f *folder) load(context.Context) (map[string][]byte, error) {
	f.loaded = false
	if err := f.prepare(); err != nil {
		return nil, permanent{err}
	}
	text, err := readFile(filepath.Join(f.dir, chainFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, permanent{err}
	}
	f.loaded = true
	var data map[string][]byte
	if err := json.Unmarshal(text, &data); err != nil || len(data) == 0 {
		// A chain that cannot be read is a broken one, and is made again.
		return map[string][]byte{keyCA: text}, nil
	}
	return data, nil
}

// prepare makes the folder, and refuses one that others may use.
func (f *folder) prepare() error {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of the certificate: %w", err)
	}
	info, err := os.Stat(f.dir)
	if err != nil {
		return fmt.Errorf("look at the folder of the certificate: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("the folder %s has mode %04o, and keys are kept in it: chmod 700, or name a folder that is not there yet", f.dir, mode)
	}
	return nil
}

func (f *folder) save(_ context.Context, data map[string][]byte) error {
	text, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encode the certificate: %w", err)
	}
	// Only one process makes the first chain; later ones replace what they have read.
	put := os.Rename
	if !f.loaded {
		put = os.Link
	}
	switch err := f.write(chainFile, text, put); {
	case errors.Is(err, fs.ErrExist):
		return errConflict
	case err != nil:
		return permanent{err}
	}
	if err := f.write(bundleFile, data[keyBundle], os.Rename); err != nil {
		return permanent{err}
	}
	return nil
}

// write puts a file in its place as a whole: after a crash it is the old one or the new.
func (f *folder) write(name string, data []byte, put func(from, to string) error) (err error) {
	temporary, err := os.CreateTemp(f.dir, name+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer func() {
		if e := os.Remove(temporary.Name()); e != nil && !errors.Is(e, fs.ErrNotExist) && err == nil {
			err = fmt.Errorf("write %s: %w", name, e)
		}
	}()
	_, err = temporary.Write(data)
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := put(temporary.Name(), filepath.Join(f.dir, name)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	dir, err := os.Open(f.dir)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// readFile reads a file of at most maxFile bytes.
func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("read %s: it has more than %d bytes", path, maxFile)
	}
	return text, nil
}
