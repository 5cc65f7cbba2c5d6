// Package build makes the programs that a measurement runs.
package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
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

// All makes the binaries, in a folder that is kept so that the next run needs
// not link them again. It must be called in the repository.
func All(ctx context.Context, c Config) (Programs, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return Programs{}, fmt.Errorf("finding the user's cache folder: %w", err)
	}
	dir := filepath.Join(cache, "annex", "bench")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Programs{}, fmt.Errorf("making the folder of the binaries: %w", err)
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
	for _, t := range []struct{ server, tree, binary, pkg, ldflags string }{
		{"", "", p.Etcd, "go.etcd.io/etcd/server/v3", ""},
		{"", "", p.Backend, module + "/bench/backend", ""},
		{"", "", p.Bare, module + "/bench/bare", ""},
		{Reference, "", p.Servers[Reference][0], module + "/bench/reference", stamp},
		{Annex, c.Tree, p.Servers[Annex][0], module + "/cmd/annex", ""},
	} {
		if given := strings.Fields(c.Commands[t.server]); len(given) > 0 {
			p.Servers[t.server] = given
			continue
		}
		fmt.Fprintln(os.Stderr, "building", t.pkg)
		args := []string{"build", "-o", t.binary, t.pkg}
		if t.ldflags != "" {
			args = slices.Insert(args, 1, "-ldflags="+t.ldflags)
		}
		if _, err := goCommand(ctx, t.tree, args...); err != nil {
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
