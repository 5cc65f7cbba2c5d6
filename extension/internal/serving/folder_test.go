package serving

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestFolderOutlivesTheProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "serving")
	o := lives(Options{Folder: dir})
	before, _ := open(t, o).CurrentCertKeyContent()
	if after, _ := open(t, o).CurrentCertKeyContent(); !bytes.Equal(before, after) {
		t.Error("a restart has made another certificate")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	modes := map[string]fs.FileMode{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		modes[e.Name()] = info.Mode()
	}
	if len(modes) != 2 || modes[chainFile] != 0o600 || modes[bundleFile] != 0o600 {
		t.Errorf("the folder has %v", modes)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder is %v, %v", info.Mode(), err)
	}
}

// TestOneProcessMakesTheFirstChain: servers that start together show one certificate.
func TestOneProcessMakesTheFirstChain(t *testing.T) {
	o := lives(Options{Folder: filepath.Join(t.TempDir(), "serving")})
	certs := make([][]byte, 8)
	var all sync.WaitGroup
	for i := range certs {
		all.Go(func() {
			c, err := New(t.Context(), o)
			if err != nil {
				t.Error(err)
				return
			}
			certs[i], _ = c.CurrentCertKeyContent()
		})
	}
	all.Wait()
	for i := range certs {
		if !bytes.Equal(certs[i], certs[0]) {
			t.Errorf("server %d shows another certificate", i)
		}
	}
}

func TestBrokenFolderIsMended(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "serving")
	synctest.Test(t, func(t *testing.T) {
		c := open(t, lives(Options{Folder: dir}))
		stop := run(t, c)
		before, _ := c.CurrentCertKeyContent()
		for what, spoil := range map[string]func(path string) error{
			"cut":  func(path string) error { return os.Truncate(path, 100) },
			"gone": os.Remove,
		} {
			path := filepath.Join(dir, chainFile)
			if err := spoil(path); err != nil {
				t.Fatal(err)
			}
			time.Sleep(sharedPause + time.Second)
			again, err := New(t.Context(), lives(Options{Folder: dir}))
			if err != nil {
				t.Fatal(err)
			}
			if after, _ := again.CurrentCertKeyContent(); !bytes.Equal(before, after) {
				t.Errorf("%s: the certificate that is shown was not written back", what)
			}
		}
		stop()
	})
}

// TestCrashWhileWriting: a file that was not put in its place changes nothing.
func TestCrashWhileWriting(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "serving")
	before, _ := open(t, lives(Options{Folder: dir})).CurrentCertKeyContent()
	f := &folder{dir: dir}
	crash := errors.New("crash")
	if err := f.write(chainFile, []byte("half"), func(string, string) error { return crash }); !errors.Is(err, crash) {
		t.Fatal(err)
	}
	if after, _ := open(t, lives(Options{Folder: dir})).CurrentCertKeyContent(); !bytes.Equal(before, after) {
		t.Error("the certificate is another one")
	}
}
