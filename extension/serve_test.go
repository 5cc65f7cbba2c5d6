package extension_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/extensiontest"
)

// client reaches the things of a server as a user.
func client(t *testing.T, s *extension.Server, who extension.Caller) dynamic.ResourceInterface {
	t.Helper()
	config, err := s.As(who)
	if err != nil {
		t.Fatal(err)
	}
	c, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c.Resource(thingsV1.WithResource("things")).Namespace("default")
}

func object(name, text string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": thingsV1.String(), "kind": "Thing",
		"metadata": map[string]any{"name": name}, "spec": map[string]any{"text": text},
	}}
}

func text(t *testing.T, o *unstructured.Unstructured) string {
	t.Helper()
	value, _, err := unstructured.NestedString(o.Object, "spec", "text")
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// Every hook knows who calls, deletions included.
func TestHooksKnowTheCaller(t *testing.T) {
	alice := extension.Caller{Name: "alice", Groups: []string{"admin"}}
	running := extensiontest.Start(t, nil, named(things{
		PrepareForCreate: func(ctx context.Context, o *thing) { o.Spec.Text += " made by " + extension.CallerOf(ctx).Name },
		PrepareForUpdate: func(ctx context.Context, o, _ *thing) {
			r, _ := extension.RequestOf(ctx)
			o.Spec.Text += " changed by " + extension.CallerOf(ctx).Name + " with " + r.Verb
		},
		PrepareForDelete: func(ctx context.Context, o *thing) {
			if o.Annotations == nil {
				o.Annotations = map[string]string{}
			}
			o.Annotations["example.com/deleted-by"] = extension.CallerOf(ctx).Name
		},
		ValidateDelete: func(ctx context.Context, o *thing) error {
			if extension.CallerOf(ctx).Name != "alice" {
				return errors.New("only alice may")
			}
			return nil
		},
		WarningsOnCreate: func(ctx context.Context, _ *thing) []string { return []string{"dear " + extension.CallerOf(ctx).Name} },
	}))
	c := client(t, running.Server, alice)
	o := object("one", "a thing")
	o.SetFinalizers([]string{"example.com/hold"})
	made, err := c.Create(t.Context(), o, metav1.CreateOptions{})
	if err != nil || text(t, made) != "a thing made by alice" {
		t.Fatalf("create: %v, %q", err, text(t, made))
	}
	changed, err := c.Patch(t.Context(), "one", types.MergePatchType, []byte(`{"spec":{"text":"it"}}`), metav1.PatchOptions{})
	if err != nil || text(t, changed) != "it changed by alice with patch" {
		t.Errorf("patch: %v, %q", err, text(t, changed))
	}
	err = client(t, running.Server, extensiontest.Admin()).Delete(t.Context(), "one", metav1.DeleteOptions{})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "only alice may") {
		t.Errorf("somebody else's deletion gives %v, want Forbidden", err)
	}
	if err := c.Delete(t.Context(), "one", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	held, err := c.Get(t.Context(), "one", metav1.GetOptions{})
	if err != nil || held.GetAnnotations()["example.com/deleted-by"] != "alice" || held.GetDeletionTimestamp() == nil {
		t.Errorf("what is held: %v, %v", err, held)
	}
}

// Two servers of one process have a group, a kind and objects of the same names, and know
// nothing of each other.
func TestTwoServersInOneProcess(t *testing.T) {
	made := func(by string) extension.Part {
		return named(things{PrepareForCreate: func(_ context.Context, o *thing) { o.Spec.Text = by }})
	}
	first, second := extensiontest.Start(t, nil, made("first")), extensiontest.Start(t, nil, made("second"))
	for want, s := range map[string]*extension.Server{"first": first.Server, "second": second.Server} {
		o, err := client(t, s, extensiontest.Admin()).Create(t.Context(), object("one", ""), metav1.CreateOptions{})
		if err != nil || text(t, o) != want {
			t.Errorf("the %s server: %v, %q", want, err, text(t, o))
		}
	}
}

type sum struct{ A, B int }

type total struct {
	Total int    `json:"total"`
	Name  string `json:"name"`
}

func things3(t *testing.T) *extensiontest.Running {
	t.Helper()
	running := extensiontest.Start(t, nil, named(things{
		Status: true,
		Sub: extension.Sub(
			extension.Action("add", func(_ context.Context, o *thing, in *sum) (*total, error) {
				if in.A < 0 {
					return nil, apierrors.NewConflict(thingsV1.WithResource("things").GroupResource(), o.Name, errors.New("it is negative"))
				}
				return &total{in.A + in.B, o.Name}, nil
			}),
			extension.Update("size", extension.UpdateOf[thing]{
				Fields: []string{".spec.replicas"},
				ValidateUpdate: func(_ context.Context, o, _ *thing) field.ErrorList {
					if o.Spec.Replicas > 10 {
						return field.ErrorList{field.Invalid(field.NewPath("spec", "replicas"), o.Spec.Replicas, "at most 10")}
					}
					return nil
				},
			}),
			extension.Connect("echo", func(_ context.Context, o *thing) (http.Handler, error) {
				if o.Spec.Text == "closed" {
					return nil, apierrors.NewServiceUnavailable("it is closed")
				}
				return http.HandlerFunc(echo), nil
			}),
		),
	}))
	for name, text := range map[string]string{"one": "open", "two": "closed"} {
		if _, err := client(t, running.Server, extensiontest.Admin()).Create(t.Context(), object(name, text), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return running
}

func echo(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{}
	c, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer c.Close()
	for {
		kind, data, err := c.ReadMessage()
		if err != nil {
			return
		}
		if err := c.WriteMessage(kind, append([]byte(r.URL.Query().Get("prefix")), data...)); err != nil {
			return
		}
	}
}

func TestActions(t *testing.T) {
	running := things3(t)
	h, err := rest.HTTPClientFor(running.Config)
	if err != nil {
		t.Fatal(err)
	}
	post := func(name, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, running.Config.Host+"/apis/things.example.com/v1/namespaces/default/things/"+name+"/add", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		response, err := h.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		data, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(data)
	}
	for _, c := range []struct {
		name, body string
		code       int
		want       string
	}{
		{"one", `{"A":2,"B":3}`, http.StatusOK, `{"total":5,"name":"one"}`},
		{"one", ``, http.StatusOK, `{"total":0,"name":"one"}`},
		{"one", `{"A":2,"C":3}`, http.StatusBadRequest, `unknown field`},
		{"one", `{"A":2} {}`, http.StatusBadRequest, `more than one value`},
		{"one", `{"A":"two"}`, http.StatusBadRequest, `cannot unmarshal`},
		{"one", `{"A":-1}`, http.StatusConflict, `it is negative`},
		{"none", `{}`, http.StatusNotFound, `"none\" not found`},
		{"one", `{"A":` + strings.Repeat(" ", 3<<20) + `1}`, http.StatusRequestEntityTooLarge, `3145728`},
	} {
		if code, body := post(c.name, c.body); code != c.code || !strings.Contains(body, c.want) {
			t.Errorf("POST %s %.40s: %d %.200s, want %d with %s", c.name, c.body, code, body, c.code, c.want)
		}
	}
}

// A subresource changes its own fields and no others.
func TestUpdateSubresources(t *testing.T) {
	c := client(t, things3(t).Server, extensiontest.Admin())
	got, err := c.Patch(t.Context(), "one", types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}},"spec":{"text":"other","replicas":3},"status":{"phase":"x"}}`), metav1.PatchOptions{}, "size")
	if err != nil {
		t.Fatal(err)
	}
	replicas, _, err := unstructured.NestedInt64(got.Object, "spec", "replicas")
	if err != nil || replicas != 3 || text(t, got) != "open" || got.GetLabels() != nil || got.Object["status"] != nil && len(got.Object["status"].(map[string]any)) > 0 || got.GetGeneration() != 2 {
		t.Errorf("after a patch of size: %v, %v", got.Object, err)
	}
	if _, err := c.Patch(t.Context(), "one", types.MergePatchType, []byte(`{"spec":{"replicas":30}}`), metav1.PatchOptions{}, "size"); !apierrors.IsInvalid(err) {
		t.Errorf("too many give %v, want Invalid", err)
	}
}

func TestStreams(t *testing.T) {
	running := things3(t)
	dial := func(name string) (*websocket.Conn, *http.Response, error) {
		d := websocket.Dialer{NetDialContext: running.Config.Dial}
		header := http.Header{}
		if err := headersOf(running.Config, header); err != nil {
			t.Fatal(err)
		}
		return d.DialContext(t.Context(), "ws"+strings.TrimPrefix(running.Config.Host, "http")+"/apis/things.example.com/v1/namespaces/default/things/"+name+"/echo?prefix=re:", header)
	}
	c, _, err := dial("one")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.WriteMessage(websocket.TextMessage, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, data, err := c.ReadMessage(); err != nil || string(data) != "re:hello" {
		t.Errorf("the stream says %q, %v", data, err)
	}
	for name, want := range map[string]int{"two": http.StatusServiceUnavailable, "none": http.StatusNotFound} {
		_, response, err := dial(name)
		if err == nil || response == nil || response.StatusCode != want {
			t.Errorf("the stream of %s: %v, %v, want %d", name, err, response, want)
			continue
		}
		var status metav1.Status
		if err := json.NewDecoder(response.Body).Decode(&status); err != nil || int(status.Code) != want {
			t.Errorf("the stream of %s: %v, %v", name, err, status)
		}
	}
}

// headersOf are those that a configuration's wrappers would set.
func headersOf(config *rest.Config, into http.Header) error {
	r, err := http.NewRequest(http.MethodGet, config.Host, nil)
	if err != nil {
		return err
	}
	_, err = config.WrapTransport(capture(into)).RoundTrip(r)
	return err
}

type capture http.Header

func (c capture) RoundTrip(r *http.Request) (*http.Response, error) {
	for name, values := range r.Header {
		http.Header(c)[name] = values
	}
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
}

// A standalone server knows its tokens and their groups. What tells the user of a request
// within the process is believed of no connection from outside.
func TestStandaloneIdentity(t *testing.T) {
	const viewer, admin = "token-of-the-viewer", "token-of-the-admin"
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	running := extensiontest.Start(t, func(c *extension.Config) {
		c.Listener = listener
		c.Standalone.Tokens = map[string]extension.Caller{viewer: {Name: "v", Groups: []string{"view"}}, admin: {Name: "a", Groups: []string{"admin"}}}
	}, named(things{}))
	inside := http.Header{}
	if err := headersOf(running.Config, inside); err != nil || len(inside) != 1 {
		t.Fatal(err, inside)
	}
	const list = "/apis/things.example.com/v1/things"
	for _, c := range []struct {
		method, path, token string
		header              http.Header
		want                int
	}{
		{http.MethodGet, list, "", nil, http.StatusForbidden},
		{http.MethodGet, list, "wrong-and-long-enough", nil, http.StatusUnauthorized},
		{http.MethodGet, list, "", inside, http.StatusForbidden},
		{http.MethodGet, list, viewer, nil, http.StatusOK},
		{http.MethodDelete, "/apis/things.example.com/v1/namespaces/default/things", viewer, nil, http.StatusForbidden},
		{http.MethodDelete, "/apis/things.example.com/v1/namespaces/default/things", admin, nil, http.StatusOK},
		{http.MethodGet, "/readyz", "", nil, http.StatusOK},
		{http.MethodGet, "/metrics", "", nil, http.StatusForbidden},
		{http.MethodGet, "/apis", viewer, nil, http.StatusOK},
	} {
		h, err := rest.HTTPClientFor(&rest.Config{Host: "https://" + running.Server.Address().String(), TLSClientConfig: rest.TLSClientConfig{Insecure: true}, BearerToken: c.token})
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), c.method, "https://"+running.Server.Address().String()+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, values := range c.header {
			r.Header[name] = values
		}
		response, err := h.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := bufio.NewReader(response.Body).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != c.want {
			t.Errorf("%s: %d %.200s, want %d", fmt.Sprint(c.method, c.path, " by ", c.token), response.StatusCode, body, c.want)
		}
	}
}

// A standalone server serves nobody but its own machine.
func TestStandaloneServesOnLoopbackOnly(t *testing.T) {
	listener, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, err = extension.New(t.Context(), extension.Config{Name: "things", Storage: "none://", Listener: listener, Standalone: &extension.Standalone{}}, named(things{}))
	if err == nil || !strings.Contains(err.Error(), "loopback only") {
		t.Errorf("on all addresses: %v", err)
	}
}
