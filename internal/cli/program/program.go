// Package program is what the programs of the command line have alike: streams, flags and
// --version of a root command, and the edge where an error becomes an exit code.
package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	cliflag "k8s.io/component-base/cli/flag"

	"github.com/annex-api/annex/internal/cli/flags"
	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/internal/cli/version"
	"github.com/annex-api/annex/internal/printable"
)

// Run runs the command line that args, without the program's name, spell. It returns the exit
// code: 0, or 1, or what the error says, after one line on the error stream if the error has a text. The first SIGINT or
// SIGTERM ends the command gracefully, the second ends the process.
func Run(root *cobra.Command, args []string, streams terminal.IO) int {
	ctx, stop := signals(streams.Err, root.DisplayName())
	defer stop()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if errors.Is(err, errVersion) {
		fmt.Fprintln(streams.Out, version.Text())
		return 0
	}
	if err == nil {
		return 0
	}
	if err.Error() != "" { // else it has been said
		fmt.Fprintf(streams.Err, "%s: %s\n", root.DisplayName(), Describe(err))
	}
	return exitCode(err)
}

func exitCode(err error) int {
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return 1
}

// Prepare gives a root command its streams, and one voice for errors.
func Prepare(root *cobra.Command, streams terminal.IO) {
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetGlobalNormalizationFunc(cliflag.WordSepNormalizeFunc)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return flags.Explain(cmd.Flags(), cmd.CommandPath(), err)
	})
}

// errVersion asks for the version in place of what the verb does.
var errVersion = errors.New("version wanted")

// Verbs makes a root command one of verbs alone: it has --version, and explains verbs that it
// does not know.
func Verbs(root *cobra.Command) {
	var show bool
	// Every verb takes it, but the help of the root shows it.
	root.Flags().BoolVar(&show, "version", false, "Print the version")
	root.PersistentFlags().BoolVar(&show, "version", false, "Print the version")
	root.PersistentFlags().Lookup("version").Hidden = true
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if show {
			return errVersion
		}
		return nil
	}
	root.Args = flags.Verb
	root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
}

// together is how long after the first signal further ones belong to it: timeout(1), for example,
// signals a process and its group a few milliseconds apart.
const together = time.Second

// signals returns a context that the first signal ends; a second one, sent on its own, ends the process.
func signals(w io.Writer, name string) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	c := make(chan os.Signal, 2)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case <-c:
			cancel()
		case <-done:
			return
		}
		for first := time.Now(); ; {
			select {
			case <-c:
				if time.Since(first) < together {
					continue
				}
				fmt.Fprintf(w, "%s: stopped by a second signal\n", name)
				os.Exit(1)
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(c)
		close(done)
		cancel()
	}
}

// maxLine bounds a line of an error, in bytes.
const maxLine = 8000

// Describe is an error as one line. What others say in it, or the words of the command line, is made
// printable.
func Describe(err error) string {
	var lines []string
	for line := range strings.Lines(err.Error()) {
		if line = printable.Line(line, maxLine); line != "" {
			lines = append(lines, line)
		}
	}
	if errors.Is(err, context.Canceled) && len(lines) == 1 && lines[0] == context.Canceled.Error() {
		return "stopped before it was ready"
	}
	return strings.Join(lines, "; ")
}
