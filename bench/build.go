package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	module     = "github.com/annex-api/annex"
	buildLimit = 40 * time.Minute
)

// programs are the commands, binary and leading arguments, that a run needs.
type programs struct {
	servers       map[string][]string
	etcd, backend string
}

// build makes the binaries, in a folder that is kept so that the next run needs
// not link them again.
func build(ctx context.Context, commands map[string]string) (programs, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return programs{}, fmt.Errorf("finding the user's cache folder: %w", err)
	}
	dir := filepath.Join(cache, "annex", "bench")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return programs{}, fmt.Errorf("making the folder of the binaries: %w", err)
	}
	p := programs{
		servers: map[string][]string{
			reference: {filepath.Join(dir, "kube-apiserver")},
			ours:      {filepath.Join(dir, "annex"), "serve"},
		},
		etcd:    filepath.Join(dir, "etcd"),
		backend: filepath.Join(dir, "backend"),
	}
	targets := map[string]string{p.etcd: "go.etcd.io/etcd/server/v3", p.backend: module + "/bench/backend"}
	packages := map[string]string{reference: module + "/bench/reference", ours: module + "/cmd/annex"}
	for name, command := range p.servers {
		if given := strings.Fields(commands[name]); len(given) > 0 {
			p.servers[name] = given
			continue
		}
		targets[command[0]] = packages[name]
	}
	stamp, err := referenceStamp(ctx)
	if err != nil {
		return p, err
	}
	for binary, pkg := range targets {
		fmt.Fprintln(os.Stderr, "building", pkg)
		args := []string{"build", "-o", binary, pkg}
		if pkg == packages[reference] {
			args = slices.Insert(args, 1, "-ldflags="+stamp)
		}
		if _, err := goCommand(ctx, args...); err != nil {
			return p, err
		}
	}
	return p, nil
}

// referenceStamp makes the reference tell its version as a released binary does.
func referenceStamp(ctx context.Context) (string, error) {
	version, err := goCommand(ctx, "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes")
	return "-X k8s.io/component-base/version.gitVersion=" + version, err
}

// goCommand answers with what the go command printed.
func goCommand(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s (run this in the repository): %w\n%s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}
