package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// testServer is the one file of the reference that is edited in the copy: it
// starts the API server of every integration test.
const testServer = "cmd/kube-apiserver/app/testing/testserver.go"

// edits turn the reference's server chain in testServer into ours. Each old
// text must be found exactly once.
var edits = []struct{ old, new string }{
	{
		"\n\t\"k8s.io/kubernetes/cmd/kube-apiserver/app\"\n",
		"\n\tannex \"github.com/annex-api/annex/kubeapiserver\"\n\t\"k8s.io/kubernetes/cmd/kube-apiserver/app\"\n",
	},
	{"app.CreateServerChain(completed)", "annex.CreateServerChain(completed)"},
}

// edit returns the source with every edit done, or an error that names the text
// that was not there exactly once.
func edit(source string) (string, error) {
	for _, e := range edits {
		if n := strings.Count(source, e.old); n != 1 {
			return "", fmt.Errorf("%s has %q %d times, not once: the reference has changed, the edit must follow it", testServer, strings.TrimSpace(e.old), n)
		}
		source = strings.Replace(source, e.old, e.new, 1)
	}
	return source, nil
}

// copyReference makes target a copy of the module in source with testServer
// edited. A complete copy is kept and only its edit is brought up to date, so
// that the build cache stays valid; an interrupted one leaves nothing under
// target's name.
func copyReference(source, target string) error {
	original, err := os.ReadFile(filepath.Join(source, testServer))
	if err != nil {
		return fmt.Errorf("reading the reference's test server: %w", err)
	}
	edited, err := edit(string(original))
	if err != nil {
		return err
	}
	if _, err := os.Stat(target); errors.Is(err, fs.ErrNotExist) {
		if err := copyTree(source, target); err != nil {
			return fmt.Errorf("copying %s to %s: %w", source, target, err)
		}
	} else if err != nil {
		return fmt.Errorf("looking for an earlier copy: %w", err)
	}
	file := filepath.Join(target, testServer)
	if now, err := os.ReadFile(file); err == nil && string(now) == edited {
		return nil
	}
	if err := os.WriteFile(file, []byte(edited), 0o600); err != nil {
		return fmt.Errorf("writing the edited test server: %w", err)
	}
	return nil
}

// copyTree copies regular files and folders to a temporary name beside target
// and renames the whole at the end.
func copyTree(source, target string) error {
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(filepath.Dir(target), ".copy-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp) // After the rename nothing is left under this name.
	err = filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, path)
		if err != nil {
			return err
		}
		to := filepath.Join(temp, rel)
		if d.IsDir() {
			return os.MkdirAll(to, 0o700)
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is not a regular file", path)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, content, 0o600)
	})
	if err != nil {
		return err
	}
	return os.Rename(temp, target)
}
