package extension_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cbor "k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/storage/kine/memory"
)

// asProgram says that this process is the program of a kind, and not a test: with
// controllers where it says so.
const asProgram, withControllers = "EXTENSION_TEST_PROGRAM", "with controllers"

func TestMain(m *testing.M) {
	if as := os.Getenv(asProgram); as != "" {
		parts := []extension.Part{named(things{}), extension.Drivers(memory.Driver())}
		if as == withControllers {
			parts = append(parts, extension.Reconcile[thing](newGreeter))
		}
		extension.Main("things", parts...)
	}
	klog.LogToStderr(false)
	klog.SetOutput(&processLog)
	os.Exit(m.Run())
}

// newGreeter makes a reconciler that answers what things say.
func newGreeter(mgr manager.Manager) (reconcile.Reconciler, error) {
	return reconcile.Func(func(ctx context.Context, r reconcile.Request) (reconcile.Result, error) {
		var o thing
		if err := mgr.GetClient().Get(ctx, r.NamespacedName, &o); err != nil || o.Spec.Text != "hello" {
			return reconcile.Result{}, ctrlclient.IgnoreNotFound(err)
		}
		o.Spec.Text = "hello " + o.Name
		return reconcile.Result{}, mgr.GetClient().Update(ctx, &o)
	}), nil
}

// launch starts this binary as a program. end asks it to end, and tells how it did.
func launch(t *testing.T, as string, files []*os.File, arguments ...string) (end func() (code int, log string)) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.CommandContext(t.Context(), self, arguments...)
	cmd.Env, cmd.Stderr, cmd.ExtraFiles = append(os.Environ(), asProgram+"="+as), &log, files
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() (int, string) {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		_ = cmd.Wait() // its code tells
		return cmd.ProcessState.ExitCode(), log.String()
	}
}

// program starts a program of things as a process of its own, and waits until it is ready.
// Its kubeconfig is in its folder.
func program(t *testing.T, folder string, arguments ...string) (config *rest.Config, end func() (code int, log string)) {
	t.Helper()
	ready, tell, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	as := "yes"
	if slices.Contains(arguments, "--without-controllers") {
		as = withControllers
	}
	end = launch(t, as, []*os.File{tell}, append([]string{"--standalone", folder, "--secure-port", "0", "--ready-fd", "3", "--drain", "0"}, arguments...)...)
	tell.Close()
	if err := ready.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(ready).ReadString('\n'); err != nil || line != "ready\n" {
		_, log := end()
		t.Fatalf("the program says %q, %v\n%s", line, err, log)
	}
	if config, err = clientcmd.BuildConfigFromFlags("", filepath.Join(folder, "kubeconfig")); err != nil {
		t.Fatal(err)
	}
	return config, end
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
	config, end := program(t, t.TempDir(), "--storage-file", write("storage", "memory://\n"), "--audit-log-path", events, "--v", "2",
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

// A program takes and gives CBOR alone: it creates, validates, applies and watches in it.
func TestAProgramInCBOR(t *testing.T) {
	const media, things = "application/cbor", "/apis/things.example.com/v1/namespaces/default/things"
	config, end := program(t, t.TempDir(), "--storage", "memory://")
	h, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	send := func(method, path, contentType, accept string, body map[string]any) *http.Response {
		t.Helper()
		var data []byte
		if body != nil {
			if data, err = cbor.Marshal(body); err != nil {
				t.Fatal(err)
			}
		}
		r, err := http.NewRequestWithContext(ctx, method, config.Host+path, bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Accept", accept)
		response, err := h.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	asked := func(method, path, contentType string, body map[string]any, code int) map[string]any {
		t.Helper()
		response := send(method, path, contentType, media, body)
		defer response.Body.Close()
		data, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		var out map[string]any
		if err := cbor.Unmarshal(data, &out); err != nil || response.StatusCode != code || response.Header.Get("Content-Type") != media {
			t.Fatalf("%s %s: %s in %s, %v, want %d: %q", method, path, response.Status, response.Header.Get("Content-Type"), err, code, data)
		}
		return out
	}
	thing := func(name string, spec map[string]any) map[string]any {
		return map[string]any{"apiVersion": thingsV1.String(), "kind": "Thing", "metadata": map[string]any{"name": name}, "spec": spec}
	}
	textOf := func(o map[string]any) any { return o["spec"].(map[string]any)["text"] }

	made := asked(http.MethodPost, things, media, thing("one", map[string]any{"text": "a", "replicas": 3}), http.StatusCreated)
	if textOf(made) != "a" {
		t.Errorf("made: %v", made)
	}
	asked(http.MethodPost, things+"?dryRun=All", media, thing("two", map[string]any{"text": "a"}), http.StatusCreated)
	asked(http.MethodGet, things+"/two", media, nil, http.StatusNotFound)
	asked(http.MethodPost, things+"?fieldValidation=Strict", media, thing("two", map[string]any{"colour": "red"}), http.StatusBadRequest)
	asked(http.MethodPost, things, media, thing("a/b", nil), http.StatusUnprocessableEntity)
	made["spec"].(map[string]any)["text"] = "b"
	if changed := asked(http.MethodPut, things+"/one", media, made, http.StatusOK); textOf(changed) != "b" {
		t.Errorf("changed: %v", changed)
	}
	const apply = "application/apply-patch+cbor"
	if applied := asked(http.MethodPatch, things+"/three?fieldManager=a", apply, thing("three", map[string]any{"text": "c"}), http.StatusCreated); textOf(applied) != "c" {
		t.Errorf("applied: %v", applied)
	}
	conflict := asked(http.MethodPatch, things+"/three?fieldManager=b", apply, thing("three", map[string]any{"text": "d"}), http.StatusConflict)
	if conflict["kind"] != "Status" || conflict["reason"] != "Conflict" {
		t.Errorf("what another one owns: %v", conflict)
	}

	events := send(http.MethodGet, things+"?watch=true&fieldSelector=metadata.name%3Dthree", media, "application/cbor-seq", nil)
	defer events.Body.Close()
	if got := events.Header.Get("Content-Type"); events.StatusCode != http.StatusOK || got != "application/cbor-seq" {
		t.Fatalf("the watch: %s in %s", events.Status, got)
	}
	var data []byte
	var event map[string]any
	for cbor.Unmarshal(data, &event) != nil { // until the event is whole
		more := make([]byte, 4096)
		n, err := events.Body.Read(more)
		if err != nil {
			t.Fatalf("after %q: %v", data, err)
		}
		data = append(data, more[:n]...)
	}
	if o, ok := event["object"].(map[string]any); !ok || event["type"] != "ADDED" || textOf(o) != "c" {
		t.Errorf("the event is %v", event)
	}
	stop()
	if code, log := end(); code != 0 {
		t.Errorf("it ends with %d\n%s", code, log)
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

// Controllers that are a program of their own work on what the server has, and serve their
// health and their metrics. The server, which is the same program, has none then.
func TestControllersAlone(t *testing.T) {
	folder := t.TempDir()
	config, endServer := program(t, folder, "--storage", "memory://", "--without-controllers")
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	for check, want := range map[string]int{"ping": http.StatusOK, "controllers": http.StatusNotFound} {
		response, err := client.Get(config.Host + "/healthz/" + check)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("/healthz/%s of the server: %s, want %d", check, response.Status, want)
		}
	}
	c, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	objects := c.Resource(thingsV1.WithResource("things")).Namespace("default")
	if _, err := objects.Create(t.Context(), object("one", "hello"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	health, metrics := freeAddress(t), freeAddress(t)
	end := launch(t, withControllers, nil, "--controllers-only", "--kubeconfig", filepath.Join(folder, "kubeconfig"), "--leader-elect=false",
		"--controller-health-address", health, "--controller-metrics-address", metrics)
	var last error
	if err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		o, err := objects.Get(ctx, "one", metav1.GetOptions{})
		if err == nil && text(t, o) != "hello one" {
			err = fmt.Errorf("the object says %q", text(t, o))
		}
		for address, want := range map[string]string{
			"http://" + health + "/readyz":   "ok",
			"http://" + health + "/livez":    "ok",
			"http://" + metrics + "/metrics": `controller_runtime_reconcile_total{controller="thing",result="success"}`,
		} {
			err = errors.Join(err, answers(ctx, address, want))
		}
		last = err
		return err == nil, nil
	}); err != nil {
		t.Error(last)
	}
	if code, log := end(); code != 0 || t.Failed() {
		t.Errorf("the controllers end with %d, and say\n%s", code, log)
	}
	if code, log := endServer(); code != 0 {
		t.Errorf("the server ends with %d, and says\n%s", code, log)
	}
}

// freeAddress is one on loopback that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// answers is an error unless there is an answer of 200 with a text in it.
func answers(ctx context.Context, address, want string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(want)) {
		return fmt.Errorf("%s: %s without %q, %v", address, response.Status, want, err)
	}
	return nil
}
