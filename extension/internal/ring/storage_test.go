package ring_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	"k8s.io/apiserver/pkg/storage"

	"github.com/annex-api/annex/extension/internal/ring"
)

func config(change ...func(*ring.Config)) ring.Config {
	c := ring.Config{
		Resource: schema.GroupResource{Group: "example.com", Resource: "pods"},
		New:      func() runtime.Object { return &example.Pod{} },
		NewList:  func() runtime.Object { return &example.PodList{} },
	}
	for _, f := range change {
		f(&c)
	}
	return c
}

func newStorage(t *testing.T, change ...func(*ring.Config)) *ring.Storage {
	t.Helper()
	s, err := ring.NewStorage(config(change...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func named(names ...string) []runtime.Object {
	var pods []runtime.Object
	for _, name := range names {
		pods = append(pods, &example.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	return pods
}

func names(t *testing.T, s storage.Interface, opts storage.ListOptions) (found []string, list *example.PodList, err error) {
	t.Helper()
	opts.Recursive = true
	if opts.Predicate.Label == nil {
		p := storage.Everything
		p.Limit, p.Continue = opts.Predicate.Limit, opts.Predicate.Continue
		opts.Predicate = p
	}
	list = &example.PodList{}
	err = s.GetList(t.Context(), "/example.com/pods/", opts, list)
	for _, p := range list.Items {
		found = append(found, p.Name)
	}
	return found, list, err
}

func TestConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*ring.Config){
		"no resource": func(c *ring.Config) { c.Resource.Resource = "" },
		"no New":      func(c *ring.Config) { c.New = nil },
		"no NewList":  func(c *ring.Config) { c.NewList = nil },
	} {
		if _, err := ring.NewStorage(config(change)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestWhatCannotBeServedIsRefused: all of an answer, which leaves the last one standing.
func TestWhatCannotBeServedIsRefused(t *testing.T) {
	pod := func(namespace, name string) runtime.Object {
		return &example.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	}
	panics := func(c *ring.Config) {
		c.Attributes = func(o runtime.Object) (labels.Set, fields.Set, error) {
			if o.(*example.Pod).Name == "bad" {
				panic("oh")
			}
			return nil, nil, nil
		}
	}
	namespaced := func(c *ring.Config) { c.Namespaced = true }
	for name, tt := range map[string]struct {
		object runtime.Object
		with   func(*ring.Config)
		want   string
	}{
		"no metadata":                   {&metav1.Status{}, nil, "without metadata"},
		"no name":                       {pod("", ""), nil, "has no name"},
		"a name that is a path":         {pod("", "a/b"), nil, "cannot be in a path"},
		"a namespace that is a path":    {pod("..", "a"), namespaced, "cannot be in a path"},
		"no namespace":                  {pod("", "a"), namespaced, "has no namespace"},
		"a namespace":                   {pod("a", "a"), nil, "its kind has none"},
		"there twice":                   {pod("", "good"), nil, "is there twice"},
		"selectable fields that panic":  {pod("", "bad"), panics, "panic: oh"},
		"selectable fields that do not": {pod("", "fine"), panics, ""},
	} {
		t.Run(name, func(t *testing.T) {
			change := tt.with
			if change == nil {
				change = func(*ring.Config) {}
			}
			s := newStorage(t, change)
			good := named("good")
			if strings.Contains(name, "namespace") && tt.with != nil {
				good = []runtime.Object{pod("ns", "good")}
			}
			if err := s.Update(good); err != nil {
				t.Fatal(err)
			}
			err := s.Update(append([]runtime.Object{tt.object}, good...))
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if found, _, err := names(t, s, storage.ListOptions{}); err != nil || fmt.Sprint(found) != "[good]" {
				t.Errorf("the last answer does not stand: %q, %v", found, err)
			}
			if tt.want == "is there twice" {
				return
			}
			if err := s.Put(tt.object); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Put: got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestListWaitsForTheFirstAnswer, but not for ever, and not after the end.
func TestListWaitsForTheFirstAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStorage(t)
		began := time.Now()
		_, _, err := names(t, s, storage.ListOptions{})
		if !apierrors.IsServiceUnavailable(err) || time.Since(began) != 5*time.Minute {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		go func() {
			time.Sleep(time.Second)
			if err := s.Update(named("a")); err != nil {
				t.Error(err)
			}
		}()
		began = time.Now()
		found, _, err := names(t, s, storage.ListOptions{})
		if err != nil || len(found) != 1 || time.Since(began) != time.Second {
			t.Errorf("after %s: %q, %v", time.Since(began), found, err)
		}
		s.Unavailable(errors.New("too old"))
		if _, _, err := names(t, s, storage.ListOptions{}); !apierrors.IsServiceUnavailable(err) {
			t.Errorf("a list of an answer that is withdrawn: %v", err)
		}
		if err := s.Put(named("b")[0]); err != nil {
			t.Error(err)
		}
		if s.ReadinessCheck() == nil {
			t.Error("one object made an answer that is withdrawn count again")
		}
		if err := s.Update(named("a")); err != nil {
			t.Error(err)
		}
		if err := s.ReadinessCheck(); err != nil {
			t.Errorf("a new answer does not count: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := newStorage(t)
		go func() {
			time.Sleep(time.Second)
			s.Close()
		}()
		began := time.Now()
		if _, _, err := names(t, s, storage.ListOptions{}); err == nil || time.Since(began) != time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		if s.ReadinessCheck() == nil {
			t.Error("ready after the end")
		}
	})
}

// TestStorageLists what the watch cache does not: pages and lists at a resourceVersion
// that it has forgotten, for clients, and pages for itself.
func TestStorageLists(t *testing.T) {
	s := newStorage(t)
	if err := s.Update(named("a", "b", "c", "d")); err != nil {
		t.Fatal(err)
	}
	_, first, err := names(t, s, storage.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	page := storage.ListOptions{}
	page.Predicate.Limit = 3
	found, list, err := names(t, s, page)
	if err != nil || fmt.Sprint(found) != "[a b c]" || list.RemainingItemCount == nil || *list.RemainingItemCount != 1 {
		t.Errorf("the first page is %q with %v to come, %v", found, list.RemainingItemCount, err)
	}
	s.Remove("", "d")
	s.Remove("", "a")
	page.Predicate.Continue = list.Continue
	if found, list, err = names(t, s, page); err != nil || fmt.Sprint(found) != "[d]" || list.Continue != "" {
		t.Errorf("the second page is %q, %v", found, err)
	}
	exact := storage.ListOptions{ResourceVersion: first.ResourceVersion, ResourceVersionMatch: metav1.ResourceVersionMatchExact}
	if found, list, err = names(t, s, exact); err != nil || fmt.Sprint(found) != "[a b c d]" || list.ResourceVersion != first.ResourceVersion {
		t.Errorf("the list of then is %q at %s, %v", found, list.ResourceVersion, err)
	}
	exact.Predicate = storage.SelectionPredicate{Label: labels.Everything(), Field: fields.OneTermEqualSelector("metadata.name", "b"), GetAttrs: s.Attributes}
	if found, _, err = names(t, s, exact); err != nil || fmt.Sprint(found) != "[b]" {
		t.Errorf("the selected list of then is %q, %v", found, err)
	}
	if found, _, err = names(t, s, storage.ListOptions{}); err != nil || fmt.Sprint(found) != "[b c]" {
		t.Errorf("the list of now is %q, %v", found, err)
	}
	for version, is := range map[string]func(error) bool{
		"1":                   apierrors.IsResourceExpired,
		"9223372036854775807": storage.IsTooLargeResourceVersion,
		"x":                   apierrors.IsBadRequest,
	} {
		exact.ResourceVersion = version
		if _, _, err := names(t, s, exact); !is(err) {
			t.Errorf("a list at %s: %v", version, err)
		}
	}
}

// TestWritersRefuse.
func TestWritersRefuse(t *testing.T) {
	s := newStorage(t)
	for verb, err := range map[string]error{
		"create": s.Create(t.Context(), "/example.com/pods/a", &example.Pod{}, nil, 0),
		"delete": s.Delete(t.Context(), "/example.com/pods/a", nil, nil, nil, nil, storage.DeleteOptions{}),
		"update": s.GuaranteedUpdate(t.Context(), "/example.com/pods/a", nil, false, nil, nil, nil),
	} {
		if !apierrors.IsMethodNotSupported(err) {
			t.Errorf("%s: %v", verb, err)
		}
	}
}

// everything are the options of the watch cache's own watch.
func everything(version string) storage.ListOptions {
	return storage.ListOptions{Recursive: true, Predicate: storage.Everything, ResourceVersion: version, ProgressNotify: true}
}

func next(t *testing.T, w watch.Interface) string {
	t.Helper()
	select {
	case e, open := <-w.ResultChan():
		if !open {
			return "closed"
		}
		switch o := e.Object.(type) {
		case *example.Pod:
			return strings.TrimSpace(fmt.Sprintf("%s %s @%s", e.Type, o.Name, o.ResourceVersion))
		case *metav1.Status:
			return fmt.Sprintf("%s %d", e.Type, o.Code)
		}
		return fmt.Sprintf("%s %T", e.Type, e.Object)
	case <-time.After(10 * time.Second):
		return "nothing"
	}
}

func current(t *testing.T, s *ring.Storage) string {
	t.Helper()
	v, err := s.GetCurrentResourceVersion(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return strconv.FormatUint(v, 10)
}

// TestProgress: when asked, a watch tells how far it is, after its events.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStorage(t)
		if err := s.Update(nil); err != nil {
			t.Fatal(err)
		}
		w, err := s.Watch(t.Context(), s.Prefix(), everything(current(t, s)))
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		if err := s.Update(named("a")); err != nil {
			t.Fatal(err)
		}
		if err := s.RequestWatchProgress(t.Context()); err != nil {
			t.Fatal(err)
		}
		v := current(t, s)
		for _, want := range []string{"ADDED a @" + v, "BOOKMARK  @" + v, "nothing"} {
			if got := next(t, w); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
	})
}

// TestWatchInBatches: more events than are taken at once come all, in order, and the
// sign of progress after them.
func TestWatchInBatches(t *testing.T) {
	s := newStorage(t)
	if err := s.Update(nil); err != nil {
		t.Fatal(err)
	}
	from := current(t, s)
	const many = 1234
	var all []string
	for n := range many {
		all = append(all, fmt.Sprintf("%05d", n))
	}
	if err := s.Update(named(all...)); err != nil {
		t.Fatal(err)
	}
	w, err := s.Watch(t.Context(), s.Prefix(), everything(from))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if err := s.RequestWatchProgress(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		if got := next(t, w); !strings.HasPrefix(got, "ADDED "+name) {
			t.Fatalf("got %s, want %s", got, name)
		}
	}
	if got, want := next(t, w), "BOOKMARK  @"+current(t, s); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestWatchTooSlow ends with 410, and so does one from what is forgotten.
func TestWatchTooSlow(t *testing.T) {
	s := newStorage(t, func(c *ring.Config) { c.Window = ring.Window{Events: 1, Most: 1} })
	if err := s.Update(nil); err != nil {
		t.Fatal(err)
	}
	from := current(t, s)
	w, err := s.Watch(t.Context(), s.Prefix(), everything(from))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if err := s.Update(named("a", "b", "c")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ERROR 410", "closed"} {
		if got := next(t, w); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if _, err := s.Watch(t.Context(), s.Prefix(), everything(from)); !apierrors.IsResourceExpired(err) {
		t.Errorf("a watch from what is forgotten: %v", err)
	}
	if got, want := s.CompactRevision(), from; strconv.FormatInt(got, 10) <= want {
		t.Errorf("forgotten up to %d, which leaves %s", got, want)
	}
}

// TestWatchEnds with its context, by Stop, and with the storage, which waits for it.
func TestWatchEnds(t *testing.T) {
	for how, end := range map[string]func(*ring.Storage, watch.Interface, context.CancelFunc){
		"stop":    func(_ *ring.Storage, w watch.Interface, _ context.CancelFunc) { w.Stop(); w.Stop() },
		"context": func(_ *ring.Storage, _ watch.Interface, cancel context.CancelFunc) { cancel() },
		"close":   func(s *ring.Storage, _ watch.Interface, _ context.CancelFunc) { s.Close() },
	} {
		t.Run(how, func(t *testing.T) {
			s := newStorage(t)
			if err := s.Update(nil); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			w, err := s.Watch(ctx, s.Prefix(), everything(current(t, s)))
			if err != nil {
				t.Fatal(err)
			}
			end(s, w, cancel)
			if got := next(t, w); got != "closed" {
				t.Errorf("got %s, want the end", got)
			}
		})
	}
}

// TestWatchIsForTheCache: what only the cache can do is not done half.
func TestWatchIsForTheCache(t *testing.T) {
	s := newStorage(t)
	if err := s.Update(nil); err != nil {
		t.Fatal(err)
	}
	yes := true
	for name, change := range map[string]func(*storage.ListOptions){
		"selector":       func(o *storage.ListOptions) { o.Predicate.Field = fields.OneTermEqualSelector("metadata.name", "a") },
		"one object":     func(o *storage.ListOptions) { o.Recursive = false },
		"initial events": func(o *storage.ListOptions) { o.SendInitialEvents = &yes },
	} {
		o := everything(current(t, s))
		change(&o)
		if _, err := s.Watch(t.Context(), s.Prefix(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestStopBeforeTheFirstAnswer does not wait for it.
func TestStopBeforeTheFirstAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := ring.NewStorage(config())
		if err != nil {
			t.Fatal(err)
		}
		c, err := ring.NewCache(s)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		began := time.Now()
		c.Stop()
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %s to stop", took)
		}
		c.Stop()
	})
}

// TestReplicas differ, mostly.
func TestReplicas(t *testing.T) {
	seen := map[ring.Replica]bool{}
	for range 100 {
		seen[ring.NewReplica()%1024] = true
	}
	if len(seen) < 50 {
		t.Errorf("%d different ones of 100", len(seen))
	}
}
