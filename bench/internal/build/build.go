// Package build makes the programs that a measurement runs.
package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The servers that are compared.
const (
	Reference = "reference"
	Annex     = "annex"
	// Bare is Go's own reverse proxy with nothing around it.
	Bare = "bare"
)

const (
	module = "github.com/annex-api/annex"
	etcd   = "go.etcd.io/etcd/server/v3"
	limit  = 40 * time.Minute
)

// Config says what to build.
type Config struct {
	// Commands replace the building of a server: binary and leading arguments,
	// separated by spaces. Empty ones are built.
	Commands map[string]string
	// Tree is the folder of the repository that Annex is built from; empty for
	// the working directory's. All else comes from the latter.
	Tree string
}

// Programs are the commands, binary and leading arguments, that a run needs.
type Programs struct {
	Servers map[string][]string `json:"servers"`
	Etcd    string              `json:"etcd"`
	Backend string              `json:"backend"`
	Bare    string              `json:"bare"`
}

// Package is a program to build.
type Package struct {
	// Path is its import path.
	Path string
	// Tree is the folder of the module that it is built in; empty for the working directory's.
	Tree string
	// Binary is the file to make.
	Binary string

	ldflags string
}

// Folder makes the folder of binaries, which is kept so that the next run needs not link
// them again.
func Folder() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the user's cache folder: %w", err)
	}
	dir := filepath.Join(cache, "annex", "bench")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("making the folder of the binaries: %w", err)
	}
	return dir, nil
}

// One makes one binary, and has the kernel keep it in memory: what a process is slow at for the
// first time must not depend on which file was read last.
func One(ctx context.Context, p Package) error {
	fmt.Fprintln(os.Stderr, "building", p.Path)
	args := []string{"build", "-o", p.Binary, p.Path}
	if p.ldflags != "" {
		args = slices.Insert(args, 1, "-ldflags="+p.ldflags)
	}
	if _, err := goCommand(ctx, p.Tree, args...); err != nil {
		return err
	}
	return read(p.Binary)
}

// read reads a file to its end.
func read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading what was built: %w", err)
	}
	defer f.Close()
	if _, err := io.Copy(io.Discard, f); err != nil {
		return fmt.Errorf("reading what was built: %w", err)
	}
	return nil
}

// All makes the binaries in Folder. It must be called in the repository.
func All(ctx context.Context, c Config) (Programs, error) {
	dir, err := Folder()
	if err != nil {
		return Programs{}, err
	}
	annex := "annex"
	if c.Tree != "" {
		if _, err := os.Stat(filepath.Join(c.Tree, "go.mod")); err != nil {
			return Programs{}, fmt.Errorf("looking for the repository to build: %w", err)
		}
		annex += "-" + treeName(c.Tree)
	}
	p := Programs{
		Servers: map[string][]string{
			Reference: {filepath.Join(dir, "kube-apiserver")},
			Annex:     {filepath.Join(dir, annex), "serve"},
		},
		Etcd:    filepath.Join(dir, "etcd"),
		Backend: filepath.Join(dir, "backend"),
		Bare:    filepath.Join(dir, "bare"),
	}
	stamp, err := referenceStamp(ctx)
	if err != nil {
		return p, err
	}
	for _, t := range []struct {
		server string
		Package
	}{
		{"", Package{Path: etcd, Binary: p.Etcd}},
		{"", Package{Path: module + "/bench/backend", Binary: p.Backend}},
		{"", Package{Path: module + "/bench/bare", Binary: p.Bare}},
		{Reference, Package{Path: module + "/bench/reference", Binary: p.Servers[Reference][0], ldflags: stamp}},
		{Annex, Package{Path: module + "/cmd/annex", Tree: c.Tree, Binary: p.Servers[Annex][0]}},
	} {
		if given := strings.Fields(c.Commands[t.server]); len(given) > 0 {
			p.Servers[t.server] = given
			continue
		}
		if err := One(ctx, t.Package); err != nil {
			return p, err
		}
	}
	return p, nil
}

// treeName tells binaries of several trees apart.
func treeName(tree string) string {
	if absolute, err := filepath.Abs(tree); err == nil {
		tree = absolute
	}
	h := fnv.New32a()
	h.Write([]byte(tree)) // It never fails.
	return fmt.Sprintf("%08x", h.Sum32())
}

// referenceStamp makes the reference tell its version as a released binary does.
func referenceStamp(ctx context.Context) (string, error) {
	version, err := goCommand(ctx, "", "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes")
	return "-X k8s.io/component-base/version.gitVersion=" + version, err
}

// goCommand answers with what the go command printed.
func goCommand(ctx context.Context, dir string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("no end after %v", limit)
		}
		return "", fmt.Errorf("go %s (run this in the repository): %w\n%s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}
