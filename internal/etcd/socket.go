package etcd

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

const (
	socketName = "etcd.sock"
	// maxSocketPath is the shortest limit of the systems that we run on (108 bytes on Linux, 104 on
	// BSD), less the closing zero.
	maxSocketPath = 103
)

// Endpoint returns the client URL, unix://<absolute path>, that a member with this directory serves
// at, whether or not it runs.
func Endpoint(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find the absolute path of data directory %q: %w", dir, err)
	}
	socket, err := socketPath(abs)
	return "unix://" + socket, err
}

// socketPath returns where to listen: in dir, or, where that path is too long for a socket, in a
// private directory below XDG_RUNTIME_DIR or the directory for temporary files, named after dir.
func socketPath(dir string) (string, error) {
	if path := filepath.Join(dir, socketName); len(path) <= maxSocketPath {
		return path, nil
	}
	base := os.Getenv("XDG_RUNTIME_DIR")
	if base == "" {
		base = os.TempDir()
	}
	sum := sha256.Sum256([]byte(dir))
	private := filepath.Join(base, fmt.Sprintf("annex-%d-%s", os.Geteuid(), hex.EncodeToString(sum[:8])))
	path := filepath.Join(private, socketName)
	if len(path) > maxSocketPath {
		return "", fmt.Errorf("the path of data directory %s is too long for etcd's socket, and so is %s; choose a shorter data directory or XDG_RUNTIME_DIR", dir, base)
	}
	return path, nil
}

// ownSocketDir makes the private directory of a socket outside dir, and checks that it is ours: its
// name can be guessed.
func ownSocketDir(dir, socket string) error {
	private := filepath.Dir(socket)
	if private == dir {
		return nil
	}
	if err := os.Mkdir(private, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make a directory for etcd's socket (%w); choose a shorter data directory or another XDG_RUNTIME_DIR", err)
	}
	info, err := os.Lstat(private)
	if err != nil {
		return fmt.Errorf("look at the directory for etcd's socket (%w); choose a shorter data directory", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || info.Mode().Perm() != 0o700 || !ok || int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s, the directory for etcd's socket, is not a directory of user %d with mode 0700; remove it or choose a shorter data directory", private, os.Geteuid())
	}
	return nil
}

// removeSocketDir removes what ownSocketDir made, unless something else is in it.
func removeSocketDir(dir, socket string) {
	if private := filepath.Dir(socket); private != dir {
		_ = os.Remove(private) // it is made again where it is needed
	}
}
