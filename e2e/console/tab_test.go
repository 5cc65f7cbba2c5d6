package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// output is what a process has written so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// start runs annex until it has printed what matches, which is returned. It ends with the test.
func start(t *testing.T, wanted *regexp.Regexp, args ...string) (*exec.Cmd, string) {
	t.Helper()
	out := &output{}
	cmd := exec.Command(annex, args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "KUBECONFIG=")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-ended:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			t.Errorf("annex %v did not end", args)
		}
		if t.Failed() {
			t.Logf("annex %v wrote:\n%s", args, out)
		}
	})
	found := ""
	eventually(t, "annex to print "+wanted.String(), func() error {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("annex %v ended: %v\n%s", args, err, out)
		default:
		}
		if found = wanted.FindString(out.String()); found == "" {
			return errors.New("not yet")
		}
		return nil
	})
	return cmd, found
}

// eventually tries until there is no error.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s: %v", what, err)
		}
	}
}

var address = regexp.MustCompile(`http://127\.0\.0\.1:\d+/console/#token=\S+`)

// tab is the page in a tab of its own.
type tab struct {
	context.Context
	t *testing.T

	mu       sync.Mutex
	problems []string
}

// open starts annex console on a kubeconfig, and opens it.
func open(t *testing.T, kubeconfig string) *tab {
	t.Helper()
	needBrowser(t)
	_, url := start(t, address, "console", "--kubeconfig", kubeconfig)
	return openPage(t, url)
}

// openPage opens the page at an address. Whatever it complains of, a breach of its policy first, fails
// the test.
func openPage(t *testing.T, url string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	p := &tab{Context: ctx, t: t}
	if err := chromedp.Listen(ctx, p.listen); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, problem := range p.problems {
			t.Errorf("the page complains: %s", problem)
		}
	})
	call(p, log.Enable, cdp.Empty{})
	call(p, runtime.Enable, cdp.Empty{})
	p.size(1440, 980)
	p.do(chromedp.Navigate(url))
	p.await("the page itself", `location.pathname === "/console/" && document.querySelector("h1") !== null`)
	return p
}

func (p *tab) listen(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork {
			p.problems = append(p.problems, string(e.Entry.Source)+": "+e.Entry.Text)
		}
	case *runtime.EventExceptionThrown:
		p.problems = append(p.problems, e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		p.problems = append(p.problems, fmt.Sprintf("console.%s", e.Type))
	}
}

func (p *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.Context, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// call sends a command of the browser's protocol.
func call[P, R any](p *tab, command cdp.Command[P, R], params P) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.Context, patience)
	defer cancel()
	if _, err := chromedp.Call(ctx, command, params); err != nil {
		p.t.Fatal(err)
	}
}

// eval is what an expression of the page gives.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	v, err := tryEval[T](p, expression)
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

func tryEval[T any](p *tab, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(p.Context, patience)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression))
}

func (p *tab) click(selector string) {
	p.t.Helper()
	p.do(chromedp.Click(chromedp.CSS(selector)))
}

// await waits until an expression of the page is true. While the page changes for another there
// is nothing to ask.
func (p *tab) await(what, expression string) {
	p.t.Helper()
	eventually(p.t, what, func() error {
		is, err := tryEval[bool](p, expression)
		if err != nil || is {
			return err
		}
		said, err := tryEval[string](p, `document.body?.innerText.slice(0, 3000) ?? ""`)
		return fmt.Errorf("%s is false; the page says:\n%s, %v", expression, said, err)
	})
}

func (p *tab) size(width, height int64) {
	p.t.Helper()
	call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 700})
}

func (p *tab) colours(scheme string) {
	p.t.Helper()
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
}

func (p *tab) press(keys ...string) {
	p.t.Helper()
	for _, key := range keys {
		p.do(chromedp.KeyEvent(key))
	}
}

// rows are what the page shows of APIServices, a line each.
func (p *tab) rows() []string {
	return eval[[]string](p, `[...document.querySelectorAll("button.service")].map((b) => b.innerText.replace(/\s+/g, " ").trim())`)
}

func rowHas(name, text string) string {
	return fmt.Sprintf(`(document.querySelector('[data-name="%s"]')?.innerText ?? "").replace(/\s+/g, " ").includes(%q)`, name, text)
}

// focused describes what has the keyboard.
func (p *tab) focused() string {
	return eval[string](p, `((e) => (e.dataset.name ?? e.id) || e.className || e.tagName)(document.activeElement)`)
}

var (
	tabKey = kb.Tab
	enter  = kb.Enter
	down   = kb.ArrowDown
	escape = kb.Escape
)

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
