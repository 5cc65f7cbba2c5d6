// Package gocommand runs the go command in a project.
package gocommand

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

const (
	// timeout bounds one command, which may have to download modules.
	timeout = 10 * time.Minute
	// stopTimeout is how long a command has to end once it was told to.
	stopTimeout = 5 * time.Second
	// shownLines of what it said are in an error.
	shownLines = 20
)

// Run runs the go command in a folder. What it says is in the error.
func Run(ctx context.Context, folder string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.WaitDelay = folder, stopTimeout
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		lines := strings.Split(strings.TrimSpace(said.String()), "\n")
		return fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, strings.Join(lines[max(0, len(lines)-shownLines):], "\n"))
	}
	return nil
}
