package tools

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/annex-api/annex/internal/cli/flags"
)

// endLimit is how long a command that was stopped may take to end. It is longer than what the deletion
// of a probe Pod takes, and the last answers of a console.
const endLimit = 15 * time.Second

// unasked is an error of a command that could not do what it was called for.
type unasked struct{ error }

func (e unasked) Unwrap() error { return e.error }

// ExitCode of the command. 1 is for what was found to be wrong.
func (unasked) ExitCode() int { return 2 }

// coded gives an error an exit code, where it has none.
func coded(err error) error {
	var has interface{ ExitCode() int }
	if err == nil || errors.As(err, &has) {
		return err
	}
	return unasked{err}
}

// atTheEdge has a command end soon after it was stopped, and each of its errors have an exit code,
// those of its flags too.
func atTheEdge(c *cobra.Command) {
	run, args := c.RunE, c.Args
	c.RunE = func(cmd *cobra.Command, words []string) error {
		return coded(within(cmd.Context(), endLimit, func() error { return run(cmd, words) }))
	}
	if args != nil {
		c.Args = func(cmd *cobra.Command, words []string) error { return coded(args(cmd, words)) }
	}
	c.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return coded(flags.Explain(cmd.Flags(), cmd.CommandPath(), err))
	})
}

// within runs f, and leaves it behind where it has not ended so long after ctx: nothing ends a command
// for credentials that hangs, or the reading of a file that has no end.
func within(ctx context.Context, limit time.Duration, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return fmt.Errorf("stopped, though not all had ended after %v", limit)
	}
}
