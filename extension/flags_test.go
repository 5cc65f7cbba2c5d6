package extension

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// parsed are the options of arguments, with their defaults.
func parsed(t *testing.T, arguments ...string) *options {
	t.Helper()
	o := defaultOptions("things")
	f := o.flags("things")
	if err := f.Parse(arguments); err != nil {
		t.Fatal(err)
	}
	o.setDefaults(f)
	return o
}

// Wrong flags are named, each with what would be right, before anything begins.
func TestWrongFlagsAreNamed(t *testing.T) {
	for arguments, want := range map[string]string{
		"--storage=memory:// --storage-file=x":            "--storage-file: it is given in place of --storage",
		"--controllers-only --standalone=x":               "--controllers-only: there is no server then",
		"--controllers-only --storage-file=x":             "--controllers-only: there is no server then",
		"--controllers-only --without-controllers":        "--without-controllers: with --controllers-only there is nothing",
		"--admission=yes":                                 `--admission: "yes" is not on, auto or off`,
		"--fairness=":                                     `--fairness: "" is not on, auto or off`,
		"--audit-log-path=-":                              "--audit-policy-file: it goes together with --audit-log-path",
		"--audit-log-maxage=-1":                           "--audit-log-maxage: -1 is less than nothing",
		"--drain=2m":                                      "--drain: 2m0s is not between 0 and 1m",
		"--shutdown-delay-duration=-1s":                   "--shutdown-delay-duration: -1s is not between 0 and 1m",
		"--bind-address=::g":                              "--bind-address",
		"--standalone=x --bind-address=10.0.0.1":          "--bind-address: a standalone server serves on loopback",
		"--leader-elect=perhaps":                          "invalid argument",
		"--storage=memory:// --register":                  "--register: it needs --service",
		"--standalone=x --register --service=default/one": "--standalone: there is no host then",
	} {
		err := Run(t.Context(), "things", strings.Fields(arguments), io.Discard)
		var usage usageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", arguments, err, want)
		}
	}
	if err := Run(t.Context(), "things", []string{"--help"}, io.Discard); !errors.Is(err, pflag.ErrHelp) {
		t.Errorf("--help: %v", err)
	}
}

// What is given on the command line is what the configuration says, zero included.
func TestFlagsAreTheConfiguration(t *testing.T) {
	for _, c := range []struct {
		arguments   string
		delay       time.Duration
		drain       time.Duration
		admission   Feature
		fairness    Feature
		electionOff bool
		lease       types.NamespacedName
	}{
		{"", DefaultShutdownDelay, DefaultDrain, On, Auto, false, types.NamespacedName{Name: "things"}},
		{"--drain=0 --shutdown-delay-duration=0", -1, -1, On, Auto, false, types.NamespacedName{Name: "things"}},
		{"--listen-fd=3", -1, DefaultDrain, On, Auto, false, types.NamespacedName{Name: "things"}},
		{"--listen-fd=3 --shutdown-delay-duration=2s", 2 * time.Second, DefaultDrain, On, Auto, false, types.NamespacedName{Name: "things"}},
		{"--admission=off --fairness=on --leader-elect=false", DefaultShutdownDelay, DefaultDrain, Off, On, true, types.NamespacedName{Name: "things"}},
		{"--service=a/b --tls-secret=c/d", DefaultShutdownDelay, DefaultDrain, On, Auto, false, types.NamespacedName{Namespace: "a", Name: "things"}},
		{"--tls-secret=c/d", DefaultShutdownDelay, DefaultDrain, On, Auto, false, types.NamespacedName{Namespace: "c", Name: "things"}},
		{"--service=a/b --leader-elect-resource-namespace=e --leader-elect-resource-name=f", DefaultShutdownDelay, DefaultDrain, On, Auto, false, types.NamespacedName{Namespace: "e", Name: "f"}},
	} {
		o := parsed(t, strings.Fields(c.arguments)...)
		got := o.common("things")
		o.fill(&got)
		lease := types.NamespacedName{Namespace: got.LeaderElection.Namespace, Name: got.LeaderElection.Name}
		if got.ShutdownDelay != c.delay || got.Drain != c.drain || got.Admission != c.admission || got.Fairness != c.fairness || got.LeaderElection.Off != c.electionOff || lease != c.lease {
			t.Errorf("%s: %+v", c.arguments, got)
		}
	}
}

func TestThePrefixOfTheStorage(t *testing.T) {
	for arguments, want := range map[string]string{"": "/registry/things", "--storage-prefix=/registry/old.example.com": "/registry/old.example.com"} {
		o := parsed(t, strings.Fields(arguments)...)
		c := o.common("things")
		o.fill(&c)
		if got := c.WithDefaults().Prefix; got != want {
			t.Errorf("%q: %s, not %s", arguments, got, want)
		}
	}
}

func TestTheStorageMayBeInAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "storage")
	for content, want := range map[string]string{" postgres://a:b@c/d\n": "postgres://a:b@c/d", " \n": ""} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := parsed(t, "--storage-file="+path).storageURL()
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", content, got, err)
		}
	}
	if _, err := parsed(t, "--storage-file="+path+"-not").storageURL(); err == nil || !strings.Contains(err.Error(), "--storage-file: ") {
		t.Errorf("without the file: %v", err)
	}
}

// Of programs that start at a time, all have the token of one.
func TestProgramsShareTheTokenOfOne(t *testing.T) {
	o := &options{standalone: t.TempDir()}
	tokens := make([]string, 16)
	var all sync.WaitGroup
	for i := range tokens {
		all.Go(func() {
			var err error
			if tokens[i], err = o.token(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if slices.Sort(tokens); len(slices.Compact(tokens)) != 1 {
		t.Errorf("the tokens are %d", len(slices.Compact(tokens)))
	}
	entries, err := os.ReadDir(o.standalone)
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder has %v, %v", entries, err)
	}
	info, err := os.Stat(filepath.Join(o.standalone, "token"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(filepath.Join(o.standalone, "token"), []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := o.token(); err == nil || !strings.Contains(err.Error(), "fewer than 16 bytes") {
		t.Errorf("a short token: %v", err)
	}
}

// controllerOf is a controller that does nothing.
func controllerOf(name string) Part {
	return Controller(name, func(manager.Manager) error { return nil })
}

// Where there are a host and controllers, there is a lease, or an error that says what to
// set: never an election that is off unseen.
func TestControllersHaveALease(t *testing.T) {
	host := &rest.Config{Host: "http://127.0.0.1:1"}
	service := &Registration{Service: types.NamespacedName{Namespace: "a", Name: "b"}}
	for what, c := range map[string]struct {
		config Config
		want   types.NamespacedName
		err    string
	}{
		"registered":          {Config{Host: host, Register: service}, types.NamespacedName{Namespace: "a", Name: "things"}, ""},
		"with a Secret":       {Config{Host: host, Serving: Serving{Secret: types.NamespacedName{Namespace: "c", Name: "d"}}}, types.NamespacedName{Namespace: "c", Name: "things"}, ""},
		"given":               {Config{Host: host, Register: service, LeaderElection: LeaderElection{Namespace: "e", Name: "f"}}, types.NamespacedName{Namespace: "e", Name: "f"}, ""},
		"switched off":        {Config{Host: host, Register: service, LeaderElection: LeaderElection{Off: true}}, types.NamespacedName{}, ""},
		"without a host":      {Config{Standalone: &Standalone{}}, types.NamespacedName{}, ""},
		"without a namespace": {Config{Host: host}, types.NamespacedName{}, "LeaderElection: the controllers of several replicas need a lease: set its Namespace, or Off"},
	} {
		c.config.Name = "things"
		got, err := c.config.WithDefaults().lease()
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, %v", what, got, err)
		}
		if c.err == "" {
			continue
		}
		for name, make := range map[string]func(Config, ...Part) error{
			"New":            func(c Config, parts ...Part) error { _, err := New(context.Background(), c, parts...); return err },
			"NewControllers": func(c Config, parts ...Part) error { _, err := NewControllers(c, parts...); return err },
		} {
			if err := make(c.config, controllerOf("one")); err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %s gives %v", what, name, err)
			}
		}
	}
}

// Rights are asked for where the things are that they are for.
func TestRightsAreOfTheirNamespaces(t *testing.T) {
	a, err := assemble([]Part{controllerOf("one")})
	if err != nil {
		t.Fatal(err)
	}
	c := Config{
		Name: "things", Host: &rest.Config{}, Register: &Registration{Service: types.NamespacedName{Namespace: "a", Name: "b"}},
		Serving: Serving{Secret: types.NamespacedName{Namespace: "c", Name: "d"}}, LeaderElection: LeaderElection{Namespace: "e"},
	}.WithDefaults()
	in := map[string]string{}
	for _, r := range c.rights(a) {
		in[r.Resource] = r.Namespace
	}
	if in["secrets"] != "c" || in["leases"] != "e" {
		t.Errorf("the namespaces are %v", in)
	}
	c.LeaderElection.Off = true
	for _, r := range c.rights(a) {
		if r.Resource == "leases" {
			t.Error("a lease is asked for that nobody needs")
		}
	}
}

// A configuration that says nothing fails closed, and is heard.
func TestDefaultsAreSafe(t *testing.T) {
	c := Config{Host: &rest.Config{}}.WithDefaults()
	if c.Admission != On || c.Fairness != Auto {
		t.Errorf("admission is %d, fairness %d", c.Admission, c.Fairness)
	}
	if c.Log.GetSink() != klog.Background().GetSink() {
		t.Error("what the server says goes nowhere")
	}
	if c.ShutdownDelay != 0 {
		t.Error("without a listener there is nothing to wait for")
	}
	for f, want := range map[Feature]string{0: "", Auto: "", On: "", Off: "", Off + 1: "is not Auto, On or Off", -1: "is not Auto, On or Off"} {
		err := Config{Name: "things", Standalone: &Standalone{}, Admission: f}.WithDefaults().Validate()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v", f, err)
		}
	}
}
