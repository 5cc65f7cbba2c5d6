package extension_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/extensiontest"
)

// processLog is where klog writes while tests run: to the standard error, and to what
// listens. It is set once, for klog's own settings must not change while servers log.
var processLog splitLog

type splitLog struct {
	mu        sync.Mutex
	listeners []*bytes.Buffer
}

func (l *splitLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.listeners {
		b.Write(p)
	}
	return os.Stderr.Write(p)
}

// logged gives what the process logs while it does something.
func logged(do func()) string {
	var log bytes.Buffer
	l := &processLog
	l.mu.Lock()
	l.listeners = append(l.listeners, &log)
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.listeners = slices.DeleteFunc(l.listeners, func(b *bytes.Buffer) bool { return b == &log })
	}()
	do()
	klog.Flush()
	l.mu.Lock()
	defer l.mu.Unlock()
	return log.String()
}

// boomLabel names the hook that panics for an object.
const boomLabel = "boom"

// boom panics in the hook that an object names, by its label or, where that is not to be
// written, by its phase.
func boom(o *thing, hook string) {
	if o.Labels[boomLabel] == hook || o.Status.Phase == hook {
		panic("boom in " + hook)
	}
}

// explosive is a kind whose every hook may panic.
func explosive() extension.Part {
	validate := func(hook string) func(context.Context, *thing, *thing) field.ErrorList {
		return func(_ context.Context, o, _ *thing) field.ErrorList { boom(o, hook); return nil }
	}
	prepare := func(hook string) func(context.Context, *thing, *thing) {
		return func(_ context.Context, o, _ *thing) { boom(o, hook) }
	}
	return named(things{
		Status: true, Default: func(o *thing) { boom(o, "Default") },
		PrepareForCreate:       func(_ context.Context, o *thing) { boom(o, "PrepareForCreate") },
		Validate:               func(_ context.Context, o *thing) field.ErrorList { boom(o, "Validate"); return nil },
		WarningsOnCreate:       func(_ context.Context, o *thing) []string { boom(o, "WarningsOnCreate"); return nil },
		PrepareForUpdate:       prepare("PrepareForUpdate"),
		ValidateUpdate:         validate("ValidateUpdate"),
		WarningsOnUpdate:       func(_ context.Context, o, _ *thing) []string { boom(o, "WarningsOnUpdate"); return nil },
		PrepareForStatusUpdate: prepare("PrepareForStatusUpdate"),
		ValidateStatusUpdate:   validate("ValidateStatusUpdate"),
		ValidateDelete:         func(_ context.Context, o *thing) error { boom(o, "ValidateDelete"); return nil },
		PrepareForDelete:       func(_ context.Context, o *thing) { boom(o, "PrepareForDelete") },
		Columns:                extension.Columns(extension.Column("Text", func(o *thing) any { boom(o, "Column"); return o.Spec.Text })),
		Versions: extension.Versions(extension.Spoke("v1beta1",
			func(from *oldThing, to *thing) error {
				boom(&thing{ObjectMeta: from.ObjectMeta}, "ToHub")
				to.Spec.Text = from.Spec.Text
				return nil
			},
			func(from *thing, to *oldThing) error {
				boom(from, "FromHub")
				to.Spec.Text = from.Spec.Text
				return nil
			})),
		Sub: extension.Sub(
			extension.Action("action", func(_ context.Context, o *thing, _ *struct{}) (*struct{}, error) { boom(o, "Action"); return nil, nil }),
			extension.Connect("connect", func(_ context.Context, o *thing) (http.Handler, error) {
				boom(o, "Connect")
				return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { boom(o, "Handler") }), nil
			}),
			extension.Update("size", extension.UpdateOf[thing]{
				Fields:           []string{".spec.replicas"},
				PrepareForUpdate: prepare("UpdateOf.PrepareForUpdate"), ValidateUpdate: validate("UpdateOf.ValidateUpdate"),
			}),
		),
	})
}

// A panic in a hook is a 500 for that request with a line in the log that says where it came
// from, and the server lives: in every hook, and on every way into it.
func TestAPanicInAHookIsA500(t *testing.T) {
	running := extensiontest.Start(t, nil, explosive())
	c := client(t, running.Server, extensiontest.Admin())
	labelled := func(name, hook string) *unstructured.Unstructured {
		o := object(name, "")
		o.SetLabels(map[string]string{boomLabel: hook})
		return o
	}
	v1, v1beta1 := pathOf("v1"), pathOf("v1beta1")
	body := func(version, hook string) string {
		return fmt.Sprintf(`{"apiVersion":"things.example.com/%s","kind":"Thing","metadata":{"name":"refused","labels":{%q:%q}}}`, version, boomLabel, hook)
	}
	made(t, c, object("fine", ""))
	merge := http.Header{"Content-Type": {"application/merge-patch+json"}}
	apply := http.Header{"Content-Type": {"application/apply-patch+yaml"}}
	table := http.Header{"Accept": {"application/json;as=Table;g=meta.k8s.io;v=v1"}}
	label := func(hook string) string {
		return fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, boomLabel, hook)
	}
	phase := func(hook string) string { return fmt.Sprintf(`{"status":{"phase":%q}}`, hook) }
	type request struct {
		hook, method, path, body string
		header                   http.Header
	}
	requests := []request{
		{"UpdateOf.PrepareForUpdate", http.MethodPatch, v1 + "/NAME/size", `{"spec":{"replicas":3}}`, merge},
		{"UpdateOf.ValidateUpdate", http.MethodPatch, v1 + "/NAME/size", `{"spec":{"replicas":3}}`, merge},
		{"ValidateDelete", http.MethodDelete, v1 + "/NAME", "", nil},
		{"ValidateDelete", http.MethodDelete, v1 + "?labelSelector=boom%3DValidateDelete", "", nil},
		{"PrepareForDelete", http.MethodDelete, v1 + "/NAME", "", nil},
		{"PrepareForDelete", http.MethodDelete, v1 + "?labelSelector=boom%3DPrepareForDelete", "", nil},
		{"Column", http.MethodGet, v1 + "/NAME", "", table},
		{"Column", http.MethodGet, v1 + "?labelSelector=boom%3DColumn", "", table},
		{"FromHub", http.MethodGet, v1beta1 + "/NAME", "", nil},
		{"FromHub", http.MethodGet, v1beta1 + "?labelSelector=boom%3DFromHub", "", nil},
		{"FromHub", http.MethodPatch, v1beta1 + "/NAME", `{"spec":{"text":"other"}}`, merge},
		{"Action", http.MethodPost, v1 + "/NAME/action", "{}", nil},
		{"Action", http.MethodPost, v1 + "/NAME/action", "", nil},
		{"Connect", http.MethodGet, v1 + "/NAME/connect", "", nil},
		{"Connect", http.MethodPost, v1 + "/NAME/connect", "", nil},
		{"Handler", http.MethodGet, v1 + "/NAME/connect", "", nil},
	}
	for _, r := range requests { // they are about what is there, which to make panics nowhere
		o := labelled(strings.ToLower(r.hook), r.hook)
		o.SetFinalizers([]string{"example.com/hold"})
		if _, err := c.Create(t.Context(), o, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	for _, hook := range []string{"Default", "PrepareForCreate", "Validate", "WarningsOnCreate"} {
		requests = append(requests, request{hook, http.MethodPost, v1, body("v1", hook), nil}, request{hook, http.MethodPost, v1beta1, body("v1beta1", hook), nil},
			request{hook, http.MethodPatch, v1 + "/refused?fieldManager=test", body("v1", hook), apply})
	}
	requests = append(requests, request{"ToHub", http.MethodPost, v1beta1, body("v1beta1", "ToHub"), nil},
		request{"ToHub", http.MethodPatch, v1beta1 + "/fine", label("ToHub"), merge})
	for _, hook := range []string{"Default", "PrepareForUpdate", "ValidateUpdate", "WarningsOnUpdate"} {
		requests = append(requests, request{hook, http.MethodPatch, v1 + "/fine", label(hook), merge}, request{hook, http.MethodPatch, v1beta1 + "/fine", label(hook), merge})
	}
	for _, hook := range []string{"PrepareForStatusUpdate", "ValidateStatusUpdate"} {
		requests = append(requests, request{hook, http.MethodPatch, v1 + "/fine/status", phase(hook), merge})
	}
	for _, r := range requests {
		var got answer
		log := logged(func() {
			got = ask(t, running, r.method, strings.Replace(r.path, "NAME", strings.ToLower(r.hook), 1), r.body, r.header)
		})
		if got.code != http.StatusInternalServerError {
			t.Errorf("%s, %s %s: %d %.300s, want 500", r.hook, r.method, r.path, got.code, got.body)
		}
		if !strings.Contains(log, "A hook panicked") || !strings.Contains(log, "boom in "+r.hook) || !strings.Contains(log, "panic_test.go:") {
			t.Errorf("%s, %s %s: the log does not say where it panicked:\n%.2000s", r.hook, r.method, r.path, log)
		}
	}
	if _, err := c.Get(t.Context(), "refused", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("what was answered with 500 before it was stored is there: %v", err)
	}
	if o, err := c.Get(t.Context(), "fine", metav1.GetOptions{}); err != nil || o.GetLabels() != nil {
		t.Errorf("afterwards the server answers %v, %v", o, err)
	}
}

// A projection's hooks are as those of what is stored.
func TestAPanicInAHookOfAProjectionIsA500(t *testing.T) {
	p := projected(t, func(_ *pair, n *extension.Projection[Note, corev1.ConfigMap]) {
		from, allowed := n.From, n.Allowed
		n.From = func(ctx context.Context, o *Note, into *corev1.ConfigMap) error {
			if o.Text == "From" {
				panic("boom in From")
			}
			return from(ctx, o, into)
		}
		n.Allowed = func(ctx context.Context, verb string, o *Note) bool {
			if o.Text == "Allowed" && verb == "get" {
				panic("boom in Allowed")
			}
			return allowed(ctx, verb, o)
		}
		n.Validate = func(_ context.Context, o *Note) field.ErrorList {
			if o.Text == "Validate" {
				panic("boom in Validate")
			}
			return nil
		}
	})
	const path = "/apis/notes.example.com/v1/namespaces/default/notes"
	note := func(text string) string {
		return fmt.Sprintf(`{"apiVersion":"notes.example.com/v1","kind":"Note","metadata":{"name":%q},"text":%q}`, strings.ToLower(text), text)
	}
	if got := ask(t, p.front, http.MethodPost, path, note("Allowed"), nil); got.code != http.StatusCreated {
		t.Fatalf("%d %s", got.code, got.body)
	}
	for hook, do := range map[string]func() answer{
		"From":     func() answer { return ask(t, p.front, http.MethodPost, path, note("From"), nil) },
		"Validate": func() answer { return ask(t, p.front, http.MethodPost, path, note("Validate"), nil) },
		"Allowed":  func() answer { return ask(t, p.front, http.MethodGet, path+"/allowed", "", nil) },
	} {
		var got answer
		log := logged(func() { got = do() })
		if got.code != http.StatusInternalServerError || !strings.Contains(log, "panicked") || !strings.Contains(log, "boom in "+hook) {
			t.Errorf("%s: %d %s, want 500, and in the log where it panicked:\n%.2000s", hook, got.code, got.body, log)
		}
	}
	if got := ask(t, p.front, http.MethodPost, path, note("fine"), nil); got.code != http.StatusCreated {
		t.Errorf("afterwards the server answers %d %s", got.code, got.body)
	}
}
