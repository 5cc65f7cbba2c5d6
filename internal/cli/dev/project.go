package dev

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/annex-api/annex/internal/child"
)

const (
	sdk        = "github.com/annex-api/annex/extension"
	etcdDriver = sdk + "/storage/etcd"
	// stateFolder is what we keep, below the module.
	stateFolder = ".annex"
	// maxComplaint bounds what is shown of a compiler's output.
	maxComplaint = 64 << 10
)

// project is the module that is developed.
type project struct {
	// module is its folder, pkg the main package's path.
	module, pkg string
}

func (p project) state(path ...string) string {
	return filepath.Join(append([]string{p.module, stateFolder}, path...)...)
}

// program is where builds go.
func (p project) program() string { return p.state("bin", p.name()) }

// name is what the program is called.
func (p project) name() string {
	name := filepath.Base(p.pkg)
	if name == "." || name == string(filepath.Separator) {
		return "server"
	}
	return name
}

// find asks the go command in a folder for the main package, and checks what it links. ownEtcd says that the
// storage is our etcd.
func find(ctx context.Context, folder, pkg string, ownEtcd bool) (project, error) {
	var out, complaint strings.Builder
	err := goCommand(ctx, folder, &out, &complaint, "list", "-e", "-json=Name,ImportPath,Module,Deps,Incomplete,Error", pkg)
	if err != nil {
		return project{}, fmt.Errorf("%w: %s; run annex dev in the folder of the project, or name it by --folder", err, strings.TrimSpace(complaint.String()))
	}
	var found struct {
		Name, ImportPath string
		Module           *struct{ Path, Dir string }
		Deps             []string
		Incomplete       bool
		Error            *struct{ Err string }
	}
	if err := json.Unmarshal([]byte(out.String()), &found); err != nil {
		return project{}, fmt.Errorf("--package %s is not one package (%w)", pkg, err)
	}
	switch {
	case found.Module == nil || found.Module.Dir == "" || found.Name == "":
		why := "there is no module here"
		if found.Error != nil {
			why = found.Error.Err
		}
		return project{}, fmt.Errorf("package %s is not one of a Go module: %s; run annex dev in the folder of the project", pkg, strings.TrimSpace(why))
	case found.Name != "main":
		return project{}, fmt.Errorf("package %s is no program but package %s; name the main package by --package, such as ./cmd/%s", pkg, found.Name, filepath.Base(found.Module.Path))
	case found.Incomplete: // the build says what is wrong
	case !slices.Contains(found.Deps, sdk):
		return project{}, fmt.Errorf("the program %s does not use %s; annex dev runs programs whose main calls extension.Main", found.ImportPath, sdk)
	case ownEtcd && !slices.Contains(found.Deps, etcdDriver):
		return project{}, fmt.Errorf("the program %s cannot store in etcd, which two servers share during a swap; add extension.Drivers(etcd.Driver()) of %s to extension.Main, or name another storage by --storage", found.ImportPath, etcdDriver)
	}
	return project{module: found.Module.Dir, pkg: found.ImportPath}, nil
}

// prepare makes our folder.
func (p project) prepare() error {
	if err := os.MkdirAll(p.state("bin"), 0o700); err != nil {
		return fmt.Errorf("make the folder of annex dev: %w", err)
	}
	if err := os.WriteFile(p.state(".gitignore"), []byte("*\n"), 0o600); err != nil {
		return fmt.Errorf("keep git out of the folder of annex dev: %w", err)
	}
	return nil
}

// clear removes programs.
func (p project) clear() error { return os.RemoveAll(p.state("bin")) }

// build makes the program and gives a sum of its bytes.
func (p project) build(ctx context.Context) (string, error) {
	complaint := &bounded{left: maxComplaint}
	err := goCommand(ctx, p.module, complaint, complaint, "build", "-buildvcs=false", "-o", p.program(), p.pkg)
	if err != nil {
		if text := strings.TrimSpace(complaint.String()); text != "" && ctx.Err() == nil {
			return "", errors.New(text)
		}
		return "", err
	}
	file, err := os.Open(p.program())
	if err != nil {
		return "", fmt.Errorf("read the program that was built: %w", err)
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", fmt.Errorf("read the program that was built: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// takeProgram gives a server the program that was built last, which the next build does not touch.
func (p project) takeProgram(number int) (string, error) {
	path := fmt.Sprintf("%s.%d", p.program(), number)
	return path, os.Rename(p.program(), path)
}

// goCommand runs the go command in a folder until it ends or ctx does. It ends with us.
func goCommand(ctx context.Context, folder string, out, complaint io.Writer, args ...string) error {
	path, err := exec.LookPath("go")
	if err != nil {
		return fmt.Errorf("find the go command: %w", err)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = folder
	process, err := child.StartTo(cmd, out, complaint)
	if err != nil {
		return err
	}
	select {
	case <-process.Ended():
	case <-ctx.Done():
		if err := process.Stop(time.Second); err != nil {
			return err
		}
		return ctx.Err()
	}
	if err := process.Err(); err != nil {
		return fmt.Errorf("go %s: %w", args[0], err)
	}
	return nil
}

// bounded keeps the beginning of what is written.
type bounded struct {
	strings.Builder
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	kept := p[:min(len(p), b.left)]
	b.left -= len(kept)
	_, err := b.Builder.Write(kept)
	return len(p), err
}
