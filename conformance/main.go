// Command conformance runs the reference's own integration tests, as they lie
// in the module k8s.io/kubernetes, over Annex's server chain.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// suites are the packages below k8s.io/kubernetes/test/integration that run by default.
var suites = []string{"examples", "apiserver/discovery", "apiserver/openapi"}

type options struct {
	repo      string
	cache     string
	logs      string
	reference bool
	prepare   bool
	timeout   time.Duration
	suites    []string
	testArgs  []string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		stop()
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("conformance/run", flag.ContinueOnError)
	f.StringVar(&o.cache, "cache", "", "`folder` for the edited copy of the reference and the etcd binary (default: annex/conformance in the user's cache folder)")
	f.StringVar(&o.logs, "logs", "", "`folder` for the logs, one a suite (default: logs below the cache folder)")
	f.BoolVar(&o.reference, "reference", false, "run the suites on the reference itself, to compare")
	f.BoolVar(&o.prepare, "prepare", false, "copy and compile everything, run no test")
	f.DurationVar(&o.timeout, "timeout", 30*time.Minute, "time limit of one suite's tests")
	f.Usage = func() {
		fmt.Fprintf(f.Output(), "Usage: conformance/run [flags] [suite...] [-- go test arguments]\n\nSuites: %s\n\nFlags:\n", strings.Join(suites, ", "))
		f.PrintDefaults()
	}
	if i := slices.Index(args, "--"); i >= 0 {
		o.testArgs, args = args[i+1:], args[:i]
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.timeout <= 0 {
		return o, fmt.Errorf("-timeout must be positive, not %v", o.timeout)
	}
	o.suites = f.Args()
	if len(o.suites) == 0 {
		o.suites = suites
	}
	for _, s := range o.suites {
		if !filepath.IsLocal(s) {
			return o, fmt.Errorf("suite %q is not a folder below test/integration", s)
		}
	}
	return o, setDefaults(&o)
}

func setDefaults(o *options) error {
	here, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("finding the repository: %w", err)
	}
	o.repo = filepath.Dir(here)
	if o.cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("finding the user's cache folder, name one with -cache: %w", err)
		}
		o.cache = filepath.Join(user, "annex", "conformance")
	}
	if o.cache, err = filepath.Abs(o.cache); err != nil {
		return fmt.Errorf("resolving the cache folder: %w", err)
	}
	if o.logs == "" {
		o.logs = filepath.Join(o.cache, "logs")
	}
	if o.logs, err = filepath.Abs(o.logs); err != nil {
		return fmt.Errorf("resolving the log folder: %w", err)
	}
	return nil
}

func run(ctx context.Context, o options) error {
	m, err := prepareModule(ctx, o)
	if err != nil {
		return err
	}
	etcd, err := buildEtcd(ctx, o.cache, m)
	if err != nil {
		return err
	}
	fmt.Printf("suites on %s\n", m.subject)
	if o.prepare {
		return compile(ctx, m, o)
	}
	var results []result
	for _, s := range o.suites {
		r, err := runSuite(ctx, m, o, s, etcd)
		if err != nil {
			return fmt.Errorf("suite %s: %w", s, err)
		}
		results = append(results, r)
	}
	return report(os.Stdout, results)
}
