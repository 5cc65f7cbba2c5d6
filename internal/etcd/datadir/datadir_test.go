package datadir_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/annex-api/annex/internal/etcd/datadir"
)

func TestClaimMakesAPrivateDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	d, err := datadir.Claim(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Release()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, error %v; want 0700", info.Mode(), err)
	}
}

func TestClaimClosesAnOpenEmptyDirectory(t *testing.T) {
	path := t.TempDir()
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	d, err := datadir.Claim(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Release()
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, want 0700", info.Mode())
	}
}

func TestSecondClaimNamesTheHolder(t *testing.T) {
	path := t.TempDir()
	d, err := datadir.Claim(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = datadir.Claim(path)
	var inUse *datadir.InUseError
	if !errors.As(err, &inUse) || inUse.PID != os.Getpid() {
		t.Fatalf("second claim: %v; want process %d named", err, os.Getpid())
	}
	if err := d.Release(); err != nil {
		t.Fatal(err)
	}
	d, err = datadir.Claim(path)
	if err != nil {
		t.Fatalf("claim after release: %v", err)
	}
	d.Release()
}

func TestForeignDirectoryIsRefusedUntouched(t *testing.T) {
	path := t.TempDir()
	os.WriteFile(filepath.Join(path, "thesis.txt"), []byte("x"), 0o644)
	os.Chmod(path, 0o755)
	_, err := datadir.Claim(path)
	if err == nil || !strings.Contains(err.Error(), "thesis.txt") {
		t.Fatalf("error %v; want the foreign file named", err)
	}
	entries, _ := os.ReadDir(path)
	if info, _ := os.Stat(path); len(entries) != 1 || info.Mode().Perm() != 0o755 {
		t.Errorf("the directory was changed: %v %v", entries, info.Mode())
	}
}

func TestUnusablePaths(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o600)
	for path, want := range map[string]string{
		file:                              "is a file",
		filepath.Join(file, "below"):      "lies below a file",
		"/proc/annex":                     "data directory /proc/annex",
		filepath.Join("/dev/null", "sub"): "lies below a file",
	} {
		_, err := datadir.Claim(path)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "choose another directory") {
			t.Errorf("%s: error %v; want %q and a remedy", path, err, want)
		}
	}
}

// Whoever owns the directory can read the keys in it, and put others in their place.
func TestAnotherUsersDirectoryIsRefusedUntouched(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a directory to another user")
	}
	path := filepath.Join(t.TempDir(), "theirs")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	_, err := datadir.Claim(path)
	if err == nil || !strings.Contains(err.Error(), "belongs to user 65534") || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("error %v; want the owner named, and a remedy", err)
	}
	entries, _ := os.ReadDir(path)
	if info, _ := os.Stat(path); len(entries) != 0 || info.Mode().Perm() != 0o755 {
		t.Errorf("the directory was changed: %v %v", entries, info.Mode())
	}
}

// Whoever owns a link can lead it to another directory after it was looked at.
func TestAnotherUsersLinkIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a link to another user")
	}
	folder := t.TempDir()
	path, own := filepath.Join(folder, "link"), filepath.Join(folder, "own")
	if err := errors.Join(os.Mkdir(own, 0o700), os.Symlink(own, path), os.Lchown(path, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	if _, err := datadir.Claim(path); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
		t.Errorf("error %v; want the owner named", err)
	}
	if entries, _ := os.ReadDir(own); len(entries) != 0 {
		t.Errorf("the directory was changed: %v", entries)
	}
	if err := os.Lchown(path, 0, 0); err != nil {
		t.Fatal(err)
	}
	dir, err := datadir.Claim(path)
	if err != nil {
		t.Fatalf("a link of one's own: %v", err)
	}
	if err := dir.Release(); err != nil {
		t.Error(err)
	}
}

func TestNoDirectoryIsNamed(t *testing.T) {
	if _, err := datadir.Claim(""); err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("error %v; want a remedy", err)
	}
}
