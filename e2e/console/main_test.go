package console

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// patience bounds every wait for what is expected to happen, on a busy machine too.
const patience = time.Minute

var update = flag.Bool("update", false, "write the screenshots to docs/images")

var (
	// annex is the binary, of this folder or built from this checkout.
	annex string
	// browser is what tabs are opened in; nil where there is no Chromium.
	browser context.Context
)

// binariesVariable names a folder where the binary is already, as for the other tests of e2e.
const binariesVariable = "ANNEX_E2E_BINARIES"

func TestMain(m *testing.M) {
	if config := os.Getenv(extensionVariable); config != "" {
		fmt.Fprintln(os.Stderr, serveExtension(config))
		os.Exit(1)
	}
	flag.Parse()
	code, err := prepareAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func prepareAndRun(m *testing.M) (int, error) {
	chromium := findChromium()
	if chromium == "" {
		return m.Run(), nil
	}
	dir, err := os.MkdirTemp("", "annex-console-e2e-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if built := os.Getenv(binariesVariable); built != "" {
		annex = filepath.Join(built, "annex")
	} else {
		annex = filepath.Join(dir, "annex")
		build := exec.Command("go", "build", "-ldflags=-s -w", "-o", annex, "./cmd/annex")
		build.Dir = filepath.Join("..", "..")
		if out, err := build.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build annex: %w\n%s", err, out)
		}
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium),
		chromedp.UserDataDir(filepath.Join(dir, "profile")),
		chromedp.Flag("no-sandbox", os.Getuid() == 0)) // it does not run as root otherwise
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	defer cancel()
	var end context.CancelFunc
	browser, end = chromedp.NewContext(allocator)
	defer end()
	if err := chromedp.Do(browser); err != nil {
		return 0, fmt.Errorf("start %s: %w", chromium, err)
	}
	return m.Run(), nil
}

func findChromium() string {
	for _, name := range []string{"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// required says that there must be a browser: make console-test and CI set it.
const required = "ANNEX_BROWSER_REQUIRED"

func needBrowser(t *testing.T) {
	t.Helper()
	if browser != nil {
		return
	}
	if os.Getenv(required) != "" {
		t.Fatal("there is no Chromium: install the package chromium or chromium-headless-shell")
	}
	t.Skip("there is no Chromium here; make console-test says how to get one")
}
