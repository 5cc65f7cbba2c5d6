package storagetest

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/klog/v2"
)

var podResource = schema.GroupResource{Resource: "pods"}

const (
	// sideBySide is how many functions run at a time: nearly all of them wait.
	sideBySide = "40"
	memoryDir  = "/dev/shm"
	// known makes the test binary run a function that is known to fail.
	known = "ANNEX_TEST_KNOWN_FAILURE"
	// hurried is what upstream says where it waited 150 ms for an event and no longer, which on a busy machine
	// tells nothing of the driver.
	hurried = "cannot receive enough events within specific time"
	// hurriedRuns is how often a function is run that only ever fails so.
	hurriedRuns = 5
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", sideBySide); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// What is synced is synced elsewhere (TestKill); here it would be waited for by all functions at once.
	if _, err := os.Stat(memoryDir); err == nil {
		if err := os.Setenv("TMPDIR", memoryDir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	// Both say much of what tests do on purpose.
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	logrus.SetOutput(io.Discard)
	os.Exit(m.Run())
}

// TestStorage runs upstream's functions over every driver, most of them side by side.
func TestStorage(t *testing.T) {
	everyDriver(t, func(t *testing.T, d driver) {
		t.Parallel()
		runAll(t, d, func(f function) bool { return !alone[f.name] }, (*testing.T).Parallel)
	})
}

// TestStorageAlone runs those that nothing may run beside.
func TestStorageAlone(t *testing.T) {
	everyDriver(t, func(t *testing.T, d driver) {
		if d.name != "memory" && testing.Short() {
			t.Skip("left out of the short form: one after the other takes its time")
		}
		runAll(t, d, func(f function) bool { return alone[f.name] }, func(*testing.T) {})
	})
}

func everyDriver(t *testing.T, run func(t *testing.T, d driver)) {
	for _, d := range drivers {
		t.Run(d.name, func(t *testing.T) {
			if d.long && testing.Short() {
				t.Skip("left out of the short form")
			}
			run(t, d)
		})
	}
}

func runAll(t *testing.T, d driver, chosen func(function) bool, begin func(*testing.T)) {
	empty := d.empty(t)
	for layer, functions := range map[string][]function{"store": overStore, "cache": overCache} {
		for _, f := range functions {
			if !chosen(f) {
				continue
			}
			t.Run(layer+"/"+f.name, func(t *testing.T) {
				begin(t)
				if failure, ok := knownFailures[d.name+"/"+layer+"/"+f.name]; ok && os.Getenv(known) == "" {
					stillFails(t, failure)
					return
				}
				f.run(t.Context(), t, set(t, empty(t), f))
			})
		}
	}
}

// stillFails runs this test alone in a process of its own, where exactly the known part of it must fail.
func stillFails(t *testing.T, failure failure) {
	t.Helper()
	path := "^" + strings.Join(strings.Split(t.Name(), "/"), "$/^") + "$"
	want := slices.Sorted(slices.Values(failure.cases))
	if len(want) == 0 {
		want = []string{""}
	}
	for run := 1; ; run++ {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", path, "-test.timeout", "2m")
		cmd.Env = append(os.Environ(), known+"=1")
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Fatalf("this passes now; take it off the list of known failures (%s)", failure.reason)
		}
		failed := failedCases(t.Name(), string(out))
		if slices.Equal(failed, want) {
			break
		}
		if run == hurriedRuns || !strings.Contains(string(out), hurried) {
			t.Fatalf("failed: %q, known to fail: %q\n%s", failed, want, out)
		}
	}
	t.Skipf("known to fail: %s", failure.reason)
}

// failedCases are the parts of a test that failed and have no parts that did, without the test's name.
func failedCases(test, output string) []string {
	var failed []string
	for line := range strings.Lines(output) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "--- FAIL: "+test)
		if !ok {
			continue
		}
		name, _, _ := strings.Cut(rest, " ")
		failed = append(failed, strings.TrimPrefix(name, "/"))
	}
	if len(failed) > 1 {
		failed = slices.DeleteFunc(failed, func(name string) bool { return name == "" })
	}
	slices.Sort(failed)
	return failed
}
