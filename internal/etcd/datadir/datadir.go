// Package datadir claims a directory for one server process.
package datadir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// LockFile names the file that marks a directory as ours and, while locked, as in use.
// It holds the process id of the last holder.
const LockFile = "annex.lock"

// Dir is a claimed directory. It is held until Release or the end of the process.
type Dir struct {
	path string
	lock *os.File
}

// Path returns the absolute path.
func (d *Dir) Path() string { return d.path }

// Claim creates path with mode 0700 where needed and locks it. A directory that is not empty and
// was not made by Claim, or belongs to another user, is refused untouched: whoever owns it can
// read and replace the keys in it. Every error is one sentence with its remedy.
func Claim(path string) (*Dir, error) {
	if path == "" {
		return nil, errors.New("there is no home directory to keep data in; name a directory with --data-dir")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find the absolute path of data directory %q: %w", path, err)
	}
	if err := prepare(abs); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(abs, LockFile), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, describe(abs, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, &InUseError{Path: abs, PID: readPID(f)}
		}
		return nil, fmt.Errorf("data directory %s cannot be locked (%w); choose one on a local file system", abs, err)
	}
	if err := writePID(f); err != nil {
		f.Close()
		return nil, describe(abs, err)
	}
	return &Dir{path: abs, lock: f}, nil
}

// Release gives the directory up. The lock file stays as the mark of its origin.
func (d *Dir) Release() error {
	if err := d.lock.Truncate(0); err != nil {
		d.lock.Close()
		return fmt.Errorf("clear %s: %w", d.lock.Name(), err)
	}
	return d.lock.Close()
}

// InUseError says that another process holds the directory.
type InUseError struct {
	Path string
	PID  int // 0 when not known
}

func (e *InUseError) Error() string {
	holder := "another process"
	if e.PID > 0 {
		holder = fmt.Sprintf("process %d", e.PID)
		if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", e.PID)); err == nil {
			holder += " (" + strings.TrimSpace(string(name)) + ")"
		}
	}
	return fmt.Sprintf("data directory %s is in use by %s; stop it or choose another directory", e.Path, holder)
}

// prepare makes the directory, or checks that an existing one is ours or empty.
func prepare(path string) error {
	if link, err := os.Lstat(path); err == nil && link.Mode()&os.ModeSymlink != 0 {
		if err := checkOwner(path, link); err != nil { // who may lead it elsewhere at any time
			return err
		}
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := os.MkdirAll(path, 0o700); err != nil {
			return describe(path, err)
		}
		return nil
	case err != nil:
		return describe(path, err)
	case !info.IsDir():
		return fmt.Errorf("data directory %s is a file; move it away or choose another directory", path)
	}
	if err := checkOwner(path, info); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(path, LockFile)); errors.Is(err, os.ErrNotExist) {
		entries, err := os.ReadDir(path)
		if err != nil {
			return describe(path, err)
		}
		// A concurrent first Claim may have made the lock file in between.
		for _, e := range entries {
			if e.Name() != LockFile {
				return fmt.Errorf("data directory %s was not made by annex and holds other files (%s); choose an empty or new directory", path, e.Name())
			}
		}
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(path, 0o700); err != nil {
			return fmt.Errorf("data directory %s is open to other users and cannot be closed (%w); make it your own with mode 0700", path, err)
		}
	}
	return nil
}

func checkOwner(path string, info os.FileInfo) error {
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("data directory %s belongs to user %d, and this is user %d; start as that user, change its owner, or name another one with --data-dir",
			path, owner.Uid, os.Geteuid())
	}
	return nil
}

func describe(path string, err error) error {
	switch {
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("data directory %s is not writable by user %d (%w); change its owner or choose another directory", path, os.Geteuid(), err)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("data directory %s lies below a file (%w); choose another directory", path, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("data directory %s has no space left (%w); free some or choose another directory", path, err)
	}
	return fmt.Errorf("data directory %s cannot be used (%w); choose another directory", path, err)
}

func readPID(f *os.File) int {
	b, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 1 {
		return 0
	}
	return pid
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}
