package console

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// openers are the commands that open a file as the desktop would.
var openers = map[string][]string{
	"darwin":  {"open"},
	"windows": {"rundll32", "url.dll,FileProtocolHandler"},
}

// openBrowser opens an address that holds a secret. Arguments of a command can be read by every user
// of the machine, so that the browser gets a file that leads there, which only the caller can
// read. Remove deletes it, and is never nil.
func openBrowser(address string) (remove func(), err error) {
	opener := openers[runtime.GOOS]
	if opener == nil {
		opener = []string{"xdg-open"}
	}
	program, err := exec.LookPath(opener[0])
	if err != nil {
		return func() {}, fmt.Errorf("there is no command %s", opener[0])
	}
	dir, err := privateDir()
	if err != nil {
		return func() {}, err
	}
	remove = func() { _ = os.RemoveAll(dir) } // what is left cannot be read by others
	file := filepath.Join(dir, "console.html")
	page := fmt.Sprintf(`<!doctype html><meta charset="utf-8"><title>Annex console</title><meta http-equiv="refresh" content="0; url=%s">`, address)
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		return remove, fmt.Errorf("write the file that leads to the page: %w", err)
	}
	cmd := exec.Command(program, append(opener[1:], file)...)
	if err := cmd.Start(); err != nil {
		return remove, fmt.Errorf("run %s: %w", opener[0], err)
	}
	// The browser may be this very process: it outlives the command.
	return remove, errors.Join(cmd.Process.Release())
}

// privateDir is a folder below the user's own where there is one: browsers that are shut in do not
// see the folder for temporary files.
func privateDir() (string, error) {
	if cache, err := os.UserCacheDir(); err == nil {
		parent := filepath.Join(cache, "annex")
		if os.MkdirAll(parent, 0o700) == nil {
			if dir, err := os.MkdirTemp(parent, "console-"); err == nil {
				return dir, nil
			}
		}
	}
	dir, err := os.MkdirTemp("", "annex-console-")
	if err != nil {
		return "", fmt.Errorf("make a folder for the file that leads to the page: %w", err)
	}
	return dir, nil
}
