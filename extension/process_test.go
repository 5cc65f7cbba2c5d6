package extension_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/storage/kine/memory"
)

// asProgram says that this process is the program of a kind, and not a test.
const asProgram = "EXTENSION_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		extension.Main("things", named(things{}), extension.Drivers(memory.Driver()))
	}
	os.Exit(m.Run())
}

// program starts a program of things as a process of its own, and waits until it is ready.
func program(t *testing.T, arguments ...string) (config *rest.Config, end func() (code int, log string)) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	ready, tell, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	var log bytes.Buffer
	cmd := exec.CommandContext(t.Context(), self, append([]string{"--standalone", folder, "--secure-port", "0", "--ready-fd", "3", "--drain", "0"}, arguments...)...)
	cmd.Env, cmd.Stderr, cmd.ExtraFiles = append(os.Environ(), asProgram+"=1"), &log, []*os.File{tell}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tell.Close()
	if err := ready.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(ready).ReadString('\n'); err != nil || line != "ready\n" {
		_ = cmd.Wait()
		t.Fatalf("the program says %q, %v\n%s", line, err, log.String())
	}
	if config, err = clientcmd.BuildConfigFromFlags("", filepath.Join(folder, "kubeconfig")); err != nil {
		t.Fatal(err)
	}
	return config, func() (int, string) {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // its code tells
		return cmd.ProcessState.ExitCode(), log.String()
	}
}

// A program answers in CBOR whoever asks for it, takes the URL of its storage from a file,
// so that its arguments do not tell it, and writes down what its audit policy says.
func TestAProgram(t *testing.T) {
	folder := t.TempDir()
	write := func(name, content string) string {
		t.Helper()
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	events := filepath.Join(folder, "audit.log")
	config, end := program(t, "--storage-file", write("storage", "memory://\n"), "--audit-log-path", events, "--v", "2",
		"--audit-policy-file", write("policy.yaml", "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n"))
	c, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Resource(thingsV1.WithResource("things")).Namespace("default").Create(t.Context(), object("one", "in CBOR"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	h, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/one", ""} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, config.Host+"/apis/things.example.com/v1/namespaces/default/things"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", "application/cbor")
		response, err := h.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		// 0xd9d9f7 says that it is CBOR.
		if err != nil || response.Header.Get("Content-Type") != "application/cbor" || !bytes.HasPrefix(body, []byte{0xd9, 0xd9, 0xf7}) || !bytes.Contains(body, []byte("in CBOR")) {
			t.Errorf("%s %s %q, %v", response.Status, response.Header.Get("Content-Type"), body, err)
		}
	}
	if code, log := end(); code != 0 || !strings.Contains(log, "graceful-termination") {
		t.Errorf("it ends with %d, and at -v 2 it says\n%s", code, log)
	}
	data, err := os.ReadFile(events)
	if err != nil {
		t.Fatal(err)
	}
	created := 0
	for line := range bytes.Lines(data) {
		var event struct {
			Verb, Stage string
			User        struct{ Username string }
			ObjectRef   struct{ Name, APIGroup string }
		}
		if err := json.Unmarshal(line, &event); err != nil {
			t.Fatal(err)
		}
		if event.Verb == "create" && event.Stage == "ResponseComplete" && event.User.Username == "admin" && event.ObjectRef.Name == "one" && event.ObjectRef.APIGroup == thingsV1.Group {
			created++
		}
	}
	if created != 1 {
		t.Errorf("the creation was written down %d times:\n%s", created, data)
	}
}

// A library leaves alone what the whole process has: CBOR is not served where the process
// did not say so.
func TestALibraryLeavesTheProcessAlone(t *testing.T) {
	s, stop, ended := runs(t, extension.Config{}, named(things{}))
	h, err := rest.HTTPClientFor(admin(t, s))
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, admin(t, s).Host+"/apis/things.example.com/v1/things", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "application/cbor, application/json")
	response, err := h.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s %s", response.Status, response.Header.Get("Content-Type"))
	}
	stop()
	if err := await(t, ended); err != nil {
		t.Error(err)
	}
}
