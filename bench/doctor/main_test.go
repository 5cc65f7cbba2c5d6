package doctor

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"k8s.io/klog/v2"

	"github.com/annex-api/annex/bench/internal/build"
	"github.com/annex-api/annex/bench/internal/namespace"
)

const (
	// insideVariable says that this process has a network of its own already.
	insideVariable = "ANNEX_DOCTOR_INSIDE"
	// binariesVariable names a folder with annex, kube-apiserver (the reference), etcd and kubectl;
	// else they are built.
	binariesVariable = "ANNEX_DOCTOR_BINARIES"
	// together is how many faults are under way at once: they mostly wait.
	together = "24"
)

// update writes docs/evidence/doctor.md.
var update = flag.Bool("update", false, "write docs/evidence/doctor.md from what is seen")

func TestMain(m *testing.M) {
	code, err := enterAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// enterAndRun runs the tests in a network of their own, where one can be made.
func enterAndRun(m *testing.M) (int, error) {
	flag.Parse()
	if os.Getenv(insideVariable) == "" {
		if err := os.Setenv(insideVariable, "yes"); err != nil {
			return 0, err
		}
		err := namespace.Run(context.Background(), os.Args[1:]...)
		var ended *exec.ExitError
		switch {
		case errors.As(err, &ended):
			return ended.ExitCode(), nil
		case errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL):
			fmt.Println("nothing is tested:", err)
			return 0, nil
		}
		return 0, err
	}
	if err := errors.Join(namespace.Enter(), flag.Set("test.parallel", together)); err != nil {
		return 0, err
	}
	klog.SetSlogLogger(slog.New(slog.DiscardHandler)) // servers of this process log into their Pods
	defer stopAll()
	return m.Run(), nil
}

// programs are the paths of what is run.
func programs(ctx context.Context, dir string) (map[string]string, error) {
	given := os.Getenv(binariesVariable)
	paths := map[string]string{}
	bin := filepath.Join(dir, "bin") // dir itself has a folder for each server
	if err := os.Mkdir(bin, 0o700); err != nil {
		return nil, err
	}
	for name, path := range map[string]string{
		"annex":          "github.com/annex-api/annex/cmd/annex",
		"kube-apiserver": "github.com/annex-api/annex/bench/reference",
		"etcd":           "go.etcd.io/etcd/server/v3",
		"kubectl":        "k8s.io/kubernetes/cmd/kubectl",
	} {
		if given != "" {
			paths[name] = filepath.Join(given, name)
			continue
		}
		paths[name] = filepath.Join(bin, name)
		if err := build.One(ctx, build.Package{Path: path, Binary: paths[name]}); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

// systemPath is where Debian puts what is not on everybody's path.
const systemPath = "/usr/sbin"

func installed(program string) bool {
	_, err := exec.LookPath(program)
	if err != nil {
		_, err = exec.LookPath(filepath.Join(systemPath, program))
	}
	return err == nil
}

// nft changes the firewall: all commands or none.
func nft(ctx context.Context, commands ...string) error {
	path, err := exec.LookPath("nft")
	if err != nil {
		path = filepath.Join(systemPath, "nft")
	}
	cmd := exec.CommandContext(ctx, path, "-f", "-")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("set the firewall: %w: %s", err, out)
	}
	return nil
}
