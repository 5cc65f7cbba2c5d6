package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	annexModule     = "github.com/annex-api/annex"
	referenceModule = "k8s.io/kubernetes"
	etcdModule      = "go.etcd.io/etcd/server/v3"
	buildLimit      = 40 * time.Minute
)

// module is where the suites are compiled: a generated module that requires
// what Annex requires, in the same versions, and the few modules that only the
// reference's tests import.
type module struct {
	dir         string // holds the generated go.mod
	subject     string // what is tested, for people
	etcdVersion string
}

// gomod is the part of `go mod edit -json` that is read here.
type gomod struct {
	Require []struct{ Path, Version string }
}

// prepareModule writes the generated module below o.cache and, unless the
// reference itself is tested, the edited copy of the reference beside it.
func prepareModule(ctx context.Context, o options) (module, error) {
	own, err := requirements(ctx, o.repo)
	if err != nil {
		return module{}, err
	}
	tests, err := requirements(ctx, filepath.Join(o.repo, "conformance"))
	if err != nil {
		return module{}, err
	}
	version := own.version(referenceModule)
	m := module{
		dir:         filepath.Join(o.cache, "annex"),
		subject:     "Annex, tests of " + referenceModule + " " + version,
		etcdVersion: own.version(etcdModule),
	}
	if version == "" || m.etcdVersion == "" {
		return m, fmt.Errorf("go.mod requires no %s or no %s", referenceModule, etcdModule)
	}
	edits := []string{"mod", "edit", "-module=" + annexModule + "/conformance/suites"}
	for _, r := range tests.Require {
		if own.version(r.Path) == "" {
			edits = append(edits, "-require="+r.Path+"@"+r.Version)
		}
	}
	if o.reference {
		m.dir = filepath.Join(o.cache, "reference")
		m.subject = "the reference, " + referenceModule + " " + version
	} else {
		source, err := download(ctx, o.repo, referenceModule+"@"+version)
		if err != nil {
			return m, err
		}
		replica := filepath.Join(o.cache, "kubernetes-"+version)
		if err := copyReference(source, replica); err != nil {
			return m, err
		}
		edits = append(
			edits,
			"-require="+annexModule+"@v0.0.0",
			"-replace="+annexModule+"="+o.repo,
			"-replace="+referenceModule+"="+replica,
		)
	}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return m, fmt.Errorf("making the module's folder: %w", err)
	}
	if err := concat(filepath.Join(m.dir, "go.mod"), filepath.Join(o.repo, "go.mod")); err != nil {
		return m, err
	}
	if err := concat(filepath.Join(m.dir, "go.sum"), filepath.Join(o.repo, "go.sum"), filepath.Join(o.repo, "conformance", "go.sum")); err != nil {
		return m, err
	}
	_, err = goOutput(ctx, m.dir, edits...)
	return m, err
}

// buildEtcd builds the etcd that the tests start, once a version, and returns its folder.
func buildEtcd(ctx context.Context, cache string, m module) (string, error) {
	dir := filepath.Join(cache, "etcd-"+m.etcdVersion)
	binary := filepath.Join(dir, "etcd")
	if _, err := os.Stat(binary); err == nil {
		return dir, nil
	}
	fmt.Printf("building etcd %s\n", m.etcdVersion)
	if _, err := goOutput(ctx, m.dir, "build", "-mod=mod", "-o", binary+".new", etcdModule); err != nil {
		return "", err
	}
	if err := os.Rename(binary+".new", binary); err != nil {
		return "", fmt.Errorf("keeping the etcd binary: %w", err)
	}
	return dir, nil
}

// compile builds the test binaries into the build cache.
func compile(ctx context.Context, m module, o options) error {
	for _, s := range o.suites {
		start := time.Now()
		args := append([]string{"test", "-mod=mod", "-c", "-o", os.DevNull}, o.testArgs...)
		if _, err := goOutput(ctx, m.dir, append(args, packageOf(s))...); err != nil {
			return err
		}
		fmt.Printf("compiled %s in %s\n", s, seconds(time.Since(start)))
	}
	return nil
}

func (g gomod) version(path string) string {
	for _, r := range g.Require {
		if r.Path == path {
			return r.Version
		}
	}
	return ""
}

func requirements(ctx context.Context, dir string) (gomod, error) {
	var g gomod
	out, err := goOutput(ctx, dir, "mod", "edit", "-json")
	if err != nil {
		return g, err
	}
	if err := json.Unmarshal(out, &g); err != nil {
		return g, fmt.Errorf("reading the requirements of %s: %w", dir, err)
	}
	return g, nil
}

// download returns the folder of a module in the module cache.
func download(ctx context.Context, dir, module string) (string, error) {
	out, err := goOutput(ctx, dir, "mod", "download", "-json", module)
	if err != nil {
		return "", err
	}
	var got struct{ Dir string }
	if err := json.Unmarshal(out, &got); err != nil || got.Dir == "" {
		return "", fmt.Errorf("downloading %s: no folder in the answer: %w", module, err)
	}
	return got.Dir, nil
}

func concat(target string, sources ...string) error {
	var all []byte
	for _, s := range sources {
		content, err := os.ReadFile(s)
		if err != nil {
			return fmt.Errorf("writing %s: %w", target, err)
		}
		all = append(all, content...)
	}
	if err := os.WriteFile(target, all, 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", target, err)
	}
	return nil
}

// goOutput runs the go command in dir and returns what it wrote to standard
// output. An error holds what it wrote to standard error.
func goOutput(ctx context.Context, dir string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = environment(dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s in %s: %w\n%s", strings.Join(args, " "), dir, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// environment is ours without a workspace, which would hide the generated module.
func environment(dir string) []string {
	return append(os.Environ(), "GOWORK=off", "PWD="+dir)
}
