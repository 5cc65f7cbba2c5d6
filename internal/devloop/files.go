package devloop

import (
	"context"
	"hash/fnv"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// look is the time between two looks at the files. What changed is taken when it is the same
	// in the next look: editors and git write several files, one after another.
	look = 150 * time.Millisecond
	// maxFiles bounds a look. A bigger project is watched as far as its first files.
	maxFiles = 50_000
)

// Watch sends to the channel that it returns after the files below a folder changed, until ctx
// ends; it closes done when it has ended. Several changes may be one. Hidden files and folders,
// tests, and folders that no Go program is built from are left out.
func Watch(ctx context.Context, folder string) (changed <-chan struct{}, done <-chan struct{}) {
	c, ended := make(chan struct{}, 1), make(chan struct{})
	first := fingerprint(folder)
	go func() {
		defer close(ended)
		ticker := time.NewTicker(look)
		defer ticker.Stop()
		for told, last := first, first; ; {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			now := fingerprint(folder)
			if now == last && now != told {
				told = now
				select {
				case c <- struct{}{}:
				default: // one is waiting
				}
			}
			last = now
		}
	}()
	return c, ended
}

// fingerprint is another one after any file changed its name, size or time.
func fingerprint(folder string) uint64 {
	sum, files := fnv.New64a(), 0
	// What cannot be read is left out: it may be gone again.
	_ = filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil
		case path == folder:
			return nil
		case d.IsDir():
			if leftOut(d.Name()) {
				return fs.SkipDir
			}
			return nil
		case strings.HasPrefix(d.Name(), ".") || strings.HasSuffix(d.Name(), "_test.go") || strings.HasSuffix(d.Name(), "~"):
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		if files++; files > maxFiles {
			return fs.SkipAll
		}
		_, _ = sum.Write([]byte(path + "\x00" + strconv.FormatInt(info.Size(), 10) + "\x00" + strconv.FormatInt(info.ModTime().UnixNano(), 10) + "\x00"))
		return nil
	})
	return sum.Sum64()
}

func leftOut(folder string) bool {
	return strings.HasPrefix(folder, ".") || folder == "node_modules" || folder == "testdata"
}
