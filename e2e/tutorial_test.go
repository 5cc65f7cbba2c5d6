package e2e

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// tutorialPatience bounds each wait: a build on a busy machine is slow.
const tutorialPatience = 4 * time.Minute

// TestTutorial does what docs/extend/tutorial.md says, and compares what comes.
func TestTutorial(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds a project several times, which takes a minute or two")
	}
	text, err := os.ReadFile("../docs/extend/tutorial.md")
	if err != nil {
		t.Fatal(err)
	}
	reader := newTutorialReader(t)
	steps := tutorialSteps(t, string(text))
	if len(steps) < 20 {
		t.Fatalf("the tutorial has %d steps: its form is not understood", len(steps))
	}
	for _, s := range steps {
		switch {
		case s.language == "diff":
			reader.change(s.lines)
		case s.lines[0] == "^C":
			reader.interrupt()
		case strings.HasPrefix(s.lines[0], "$ annex dev"):
			reader.background(strings.TrimPrefix(s.lines[0], "$ "), s.lines[1:])
		case strings.HasPrefix(s.lines[0], "$ "):
			reader.run(s.lines)
		default:
			reader.follow(s.lines)
		}
	}
	if reader.running != nil {
		t.Error("the tutorial does not end what it starts")
	}
}

// tutorialStep is a block of the document.
type tutorialStep struct {
	language string
	lines    []string
}

func tutorialSteps(t *testing.T, text string) []tutorialStep {
	t.Helper()
	var steps []tutorialStep
	for _, m := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		switch m[1] {
		case "console", "diff":
			steps = append(steps, tutorialStep{m[1], strings.Split(strings.TrimSuffix(m[2], "\n"), "\n")})
		case "sh": // what a test cannot do: install, and deploy to a cluster
		default:
			t.Fatalf("a block of %q is neither console, diff nor sh", m[1])
		}
	}
	return steps
}

// tutorialReader does what the document says.
type tutorialReader struct {
	t       *testing.T
	folder  string
	env     []string
	running *exec.Cmd
	ended   chan struct{}

	mu    sync.Mutex
	lines []string // of what runs
	read  int      // how many of them were compared
}

func newTutorialReader(t *testing.T) *tutorialReader {
	t.Helper()
	folder := t.TempDir()
	goEnv := func(name string) string {
		out, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		return name + "=" + strings.TrimSpace(string(out))
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "KUBE") || strings.HasPrefix(v, "XDG_") || strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS")
	})
	env = append(env, goEnv("GOMODCACHE"), goEnv("GOCACHE"), "HOME="+filepath.Join(folder, "home"), "XDG_RUNTIME_DIR="+folder,
		"PATH="+binaries+string(os.PathListSeparator)+os.Getenv("PATH"))
	return &tutorialReader{t: t, folder: folder, env: env}
}

// command is a command in a shell.
func (r *tutorialReader) command(ctx context.Context, text string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", "-c", text)
	cmd.Dir, cmd.Env, cmd.WaitDelay = r.folder, r.env, 10*time.Second
	return cmd
}

// run runs the commands of a block, each with what is expected of it.
func (r *tutorialReader) run(lines []string) {
	r.t.Helper()
	for len(lines) > 0 {
		command := strings.TrimPrefix(lines[0], "$ ")
		lines = lines[1:]
		if strings.HasSuffix(command, "<<EOF") {
			end := slices.Index(lines, "EOF")
			command += "\n" + strings.Join(lines[:end+1], "\n")
			lines = lines[end+1:]
		}
		next := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "$ ") })
		if next < 0 {
			next = len(lines)
		}
		r.one(command, lines[:next])
		lines = lines[next:]
	}
}

// one runs a command. What only reads is asked again until the answer is the expected one:
// a server may be about to be swapped.
func (r *tutorialReader) one(command string, want []string) {
	r.t.Helper()
	if folder, ok := strings.CutPrefix(command, "cd "); ok {
		r.folder = filepath.Join(r.folder, folder)
		return
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), tutorialPatience)
	defer cancel()
	if assignment, ok := strings.CutPrefix(command, "export "); ok {
		name, value, _ := strings.Cut(assignment, "=")
		out, err := r.command(ctx, "printf %s "+value).Output()
		if err != nil {
			r.t.Fatalf("%s: %v", command, err)
		}
		r.env = append(r.env, name+"="+string(out))
		return
	}
	reads := regexp.MustCompile(`^kubectl (get|explain|wait) `).MatchString(command)
	form := tutorialForm(want)
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	for {
		out, _ := r.command(ctx, command).CombinedOutput() // what it says is compared, an error too
		var got strings.Builder
		for line := range strings.Lines(string(out)) {
			got.WriteString(strings.TrimRight(line, " \n") + "\n")
		}
		if form.MatchString(got.String()) {
			return
		}
		if reads {
			select {
			case <-ticker.C:
				continue
			case <-ctx.Done():
			}
		}
		r.t.Fatalf("$ %s\nsays\n%s\nand not\n%s\n\nannex dev said\n%s", command, out, strings.Join(want, "\n"), r.said())
	}
}

// tutorialForm matches what is expected: … is anything in a line, or any lines.
func tutorialForm(lines []string) *regexp.Regexp {
	var b strings.Builder
	for _, line := range lines {
		if line == "…" {
			b.WriteString(`(?:[^\n]*\n)*`)
			continue
		}
		b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(strings.TrimRight(line, " ")), "…", `[^\n]*`) + `\n`)
	}
	return regexp.MustCompile(`^` + b.String() + `$`)
}

// background starts what goes on running.
func (r *tutorialReader) background(command string, want []string) {
	r.t.Helper()
	args := strings.Fields(command)
	cmd := exec.Command(filepath.Join(binaries, args[0]), args[1:]...)
	cmd.Dir, cmd.Env = r.folder, r.env
	out, in, err := os.Pipe()
	if err != nil {
		r.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	_ = in.Close() // it is the child's
	r.running, r.ended = cmd, make(chan struct{})
	go func() {
		defer close(r.ended)
		defer out.Close()
		for s := bufio.NewScanner(io.Reader(out)); s.Scan(); {
			r.mu.Lock()
			r.lines = append(r.lines, s.Text())
			r.mu.Unlock()
		}
		_ = cmd.Wait() // interrupt looks at its exit code
	}()
	r.t.Cleanup(func() {
		if r.running != nil {
			_ = cmd.Process.Signal(syscall.SIGINT) // the test failed before it said so
			<-r.ended
		}
	})
	r.follow(want)
}

// follow waits until what runs has said lines, in their order, with others between.
func (r *tutorialReader) follow(want []string) {
	r.t.Helper()
	deadline := time.After(tutorialPatience)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for _, line := range want {
		form := tutorialForm([]string{line})
		for !r.next(form) {
			select {
			case <-ticker.C:
			case <-deadline:
				r.t.Fatalf("it does not say %q:\n%s", line, r.said())
			case <-r.ended:
				r.t.Fatalf("it ended before it said %q:\n%s", line, r.said())
			}
		}
	}
}

// next looks for a line among those that were not compared yet.
func (r *tutorialReader) next(form *regexp.Regexp) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for ; r.read < len(r.lines); r.read++ {
		if form.MatchString(strings.TrimRight(r.lines[r.read], " ") + "\n") {
			r.read++
			return true
		}
	}
	return false
}

func (r *tutorialReader) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, "\n")
}

// interrupt ends what runs, as Ctrl-C does.
func (r *tutorialReader) interrupt() {
	r.t.Helper()
	if err := r.running.Process.Signal(syscall.SIGINT); err != nil {
		r.t.Fatal(err)
	}
	select {
	case <-r.ended:
	case <-time.After(tutorialPatience):
		r.t.Fatalf("it does not end:\n%s", r.said())
	}
	if code := r.running.ProcessState.ExitCode(); code != 0 {
		r.t.Errorf("it ends with code %d:\n%s", code, r.said())
	}
	r.running = nil
}

// change edits a file as a diff says: its lines are one after the other in the file.
func (r *tutorialReader) change(lines []string) {
	r.t.Helper()
	name := filepath.Join(r.folder, strings.TrimPrefix(lines[0], "--- "))
	var before, after []string
	for _, line := range lines[1:] {
		switch {
		case strings.HasPrefix(line, "-"):
			before = append(before, line[1:])
		case strings.HasPrefix(line, "+"):
			after = append(after, line[1:])
		default:
			line = strings.TrimPrefix(line, " ")
			before, after = append(before, line), append(after, line)
		}
	}
	text, err := os.ReadFile(name)
	if err != nil {
		r.t.Fatal(err)
	}
	old := strings.Join(before, "\n") + "\n"
	if n := strings.Count(string(text), old); n != 1 {
		r.t.Fatalf("%s has the lines\n%s%d times:\n%s", lines[0], old, n, text)
	}
	if err := os.WriteFile(name, []byte(strings.Replace(string(text), old, strings.Join(after, "\n")+"\n", 1)), 0o644); err != nil {
		r.t.Fatal(err)
	}
}
