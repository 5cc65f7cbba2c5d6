package view

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/annex-api/annex/extension/internal/ring"
)

// TestMain tells the watch cache once, outside of all bubbles of synctest.
func TestMain(m *testing.M) {
	if !ring.SupportWatchList(context.Background()) {
		fmt.Fprintln(os.Stderr, "the watch cache will not serve watches with initial events")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const mine, other = 1, 2 // replicas

// lab is a Resource of pods over a running cache, in a bubble where time is free.
type lab struct {
	*Resource
	t    *testing.T
	ring *ring.Storage
}

// inLab runs a test with a Resource that has had an empty first answer.
func inLab(t *testing.T, window ring.Window, config Config, test func(l lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		letWaitsEnd(t)
		l := newLab(t, window, config)
		l.update()
		time.Sleep(time.Second) // the cache starts, and has some patience with slow watches
		test(l)
	})
}

// letWaitsEnd is for bubbles: the cache leaves a goroutine for each wait, which ends when the
// longest wait would have.
func letWaitsEnd(t *testing.T) {
	t.Cleanup(func() { time.Sleep(patience) })
}

func newLab(t *testing.T, window ring.Window, config Config) lab {
	t.Helper()
	return newLabWhere(t, nil, window, config)
}

// newLabWhere says what is the same to a watcher.
func newLabWhere(t *testing.T, equal func(old, object runtime.Object) bool, window ring.Window, config Config) lab {
	t.Helper()
	s, err := ring.NewStorage(ring.Config{
		Resource:   schema.GroupResource{Resource: "pods"},
		Namespaced: true,
		New:        func() runtime.Object { return &example.Pod{} },
		NewList:    func() runtime.Object { return &example.PodList{} },
		Attributes: attributes,
		Equal:      equal,
		Replica:    mine,
		Window:     window,
	})
	if err != nil {
		t.Fatal(err)
	}
	cache, err := ring.NewCache(s)
	if err != nil {
		t.Fatal(err)
	}
	r := New(cache, config)
	t.Cleanup(r.Destroy)
	return lab{r, t, s}
}

func attributes(o runtime.Object) (labels.Set, fields.Set, error) {
	pod, ok := o.(*example.Pod)
	if !ok {
		return nil, nil, errors.New("not a pod")
	}
	return pod.Labels, fields.Set{
		"metadata.name": pod.Name, "metadata.namespace": pod.Namespace, "spec.nodeName": pod.Spec.NodeName,
	}, nil
}

// pod makes one of "namespace/name label=value ...". The label node is its
// node's name.
func pod(t *testing.T, text string) *example.Pod {
	t.Helper()
	words := strings.Fields(text)
	namespace, name, ok := strings.Cut(words[0], "/")
	if !ok {
		t.Fatalf("%q names no pod", text)
	}
	p := &example.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{}}}
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		if key == "node" {
			p.Spec.NodeName = value
		} else {
			p.Labels[key] = value
		}
	}
	return p
}

// show is the opposite of pod, without the resourceVersion.
func show(o runtime.Object) string {
	if wrapped, ok := o.(runtime.CacheableObject); ok {
		o = wrapped.GetObject()
	}
	p, ok := o.(*example.Pod)
	if !ok {
		return fmt.Sprintf("a %T", o)
	}
	words := []string{p.Namespace + "/" + p.Name}
	for key, value := range p.Labels {
		words = append(words, key+"="+value)
	}
	if p.Spec.NodeName != "" {
		words = append(words, "node="+p.Spec.NodeName)
	}
	slices.Sort(words[1:])
	return strings.Join(words, " ")
}

func (l lab) update(pods ...string) {
	l.t.Helper()
	var objects []runtime.Object
	for _, p := range pods {
		objects = append(objects, pod(l.t, p))
	}
	if err := l.ring.Update(objects); err != nil {
		l.t.Fatal(err)
	}
}

// put gives the new resourceVersion, when all that are awake have taken notice.
func (l lab) put(text string) string {
	l.t.Helper()
	v := l.putAtOnce(text)
	synctest.Wait()
	return v
}

func (l lab) putAtOnce(text string) string {
	l.t.Helper()
	if err := l.ring.Put(pod(l.t, text)); err != nil {
		l.t.Fatal(err)
	}
	return l.last()
}

func (l lab) remove(text string) string {
	l.t.Helper()
	p := pod(l.t, text)
	l.ring.Remove(p.Namespace, p.Name)
	return l.last()
}

func (l lab) last() string {
	l.t.Helper()
	_, last := l.ring.Known(0)
	return strconv.FormatUint(last, 10)
}

// options are those of a request, by their names in a query.
func options(t *testing.T, query string) *metainternalversion.ListOptions {
	t.Helper()
	o := &metainternalversion.ListOptions{}
	for _, word := range strings.Fields(query) {
		key, value, _ := strings.Cut(word, "=")
		var err error
		switch key {
		case "rv":
			o.ResourceVersion = value
		case "match":
			o.ResourceVersionMatch = metav1.ResourceVersionMatch(value)
		case "limit":
			o.Limit, err = strconv.ParseInt(value, 10, 64)
		case "continue":
			o.Continue = value
		case "labels":
			o.LabelSelector, err = labels.Parse(value)
		case "fields":
			o.FieldSelector, err = fields.ParseSelector(value)
		case "bookmarks":
			o.AllowWatchBookmarks = true
		case "initial":
			initial := value != "false"
			o.SendInitialEvents = &initial
		default:
			t.Fatalf("unknown option %q", key)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return o
}

func (l lab) in(namespace string) context.Context {
	return request.WithNamespace(l.t.Context(), namespace)
}

// list gives what is in a list, its resourceVersion and its token.
func (l lab) list(query string) (pods []string, version, token string, err error) {
	l.t.Helper()
	return l.listIn("", query)
}

func (l lab) listIn(namespace, query string) (pods []string, version, token string, err error) {
	l.t.Helper()
	object, err := l.Resource.List(l.in(namespace), options(l.t, query))
	if err != nil {
		return nil, "", "", err
	}
	list := object.(*example.PodList)
	for i := range list.Items {
		pods = append(pods, show(&list.Items[i]))
	}
	return pods, list.ResourceVersion, list.Continue, nil
}

func (l lab) wantList(query, version string, want ...string) (token string) {
	l.t.Helper()
	pods, got, token, err := l.list(query)
	switch {
	case err != nil:
		l.t.Errorf("list %s: %v", query, err)
	case !slices.Equal(pods, want):
		l.t.Errorf("list %s gives %q, want %q", query, pods, want)
	case got != version:
		l.t.Errorf("list %s has the resourceVersion %s, want %s", query, got, version)
	}
	return token
}

// client is a watch that is being read.
type client struct {
	watch.Interface
	t *testing.T
}

func (l lab) watch(query string) client { l.t.Helper(); return l.watchIn("", query) }

func (l lab) watchIn(namespace, query string) client {
	l.t.Helper()
	w, err := l.Resource.Watch(l.in(namespace), options(l.t, query))
	if err != nil {
		l.t.Fatalf("watch %s: %v", query, err)
	}
	l.t.Cleanup(w.Stop)
	return client{w, l.t}
}

// want reads events, each as "ADDED a/b label=value @resourceVersion", and then
// nothing more.
func (c client) want(want ...string) {
	c.t.Helper()
	var got []string
	for range want {
		got = append(got, c.next())
	}
	synctest.Wait()
	select {
	case e, open := <-c.ResultChan():
		if open {
			got = append(got, describe(e))
		}
	default:
	}
	if !slices.Equal(got, want) {
		c.t.Errorf("the watch sends\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// next waits for an event, for less than the time after which bookmarks come.
func (c client) next() string {
	c.t.Helper()
	select {
	case e, open := <-c.ResultChan():
		if !open {
			return "closed"
		}
		return describe(e)
	case <-time.After(5 * time.Second):
		return "nothing"
	}
}

func describe(e watch.Event) string {
	if status, ok := e.Object.(*metav1.Status); ok {
		return fmt.Sprintf("%s %d %s", e.Type, status.Code, causes(status))
	}
	m := metadata(e.Object)
	if e.Type == watch.Bookmark {
		return strings.TrimSpace(fmt.Sprintf("BOOKMARK @%s %s", m.GetResourceVersion(), m.GetAnnotations()[metav1.InitialEventsAnnotationKey]))
	}
	return fmt.Sprintf("%s %s @%s", e.Type, show(e.Object), m.GetResourceVersion())
}

// metadata is also that of an object in the cache's wrapping.
func metadata(o runtime.Object) metav1.Object {
	m, err := meta.Accessor(o)
	if err != nil {
		panic(err)
	}
	return m
}

// causes are the reason of an error and what it says besides.
func causes(s *metav1.Status) string {
	words := []string{string(s.Reason)}
	if s.Details != nil {
		for _, c := range s.Details.Causes {
			if c.Type != "" {
				words = append(words, string(c.Type))
			}
		}
		if s.Details.RetryAfterSeconds > 0 {
			words = append(words, fmt.Sprintf("retry=%d", s.Details.RetryAfterSeconds))
		}
	}
	return strings.Join(words, " ")
}

func wantError(t *testing.T, what string, err error, want string) {
	t.Helper()
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		t.Errorf("%s: got %v, want %s", what, err, want)
		return
	}
	s := status.Status()
	if got := fmt.Sprintf("%d %s", s.Code, causes(&s)); got != want {
		t.Errorf("%s: got %s (%v), want %s", what, got, err, want)
	}
}

// elsewhere is a resourceVersion as another replica would issue it, at the same time.
func elsewhere(version string) string {
	v, _ := strconv.ParseUint(version, 10, 64)
	return strconv.FormatUint(v-mine+other, 10)
}

// later is a resourceVersion so many microseconds after another.
func later(version string, microseconds int64) string {
	v, _ := strconv.ParseInt(version, 10, 64)
	return strconv.FormatInt(v+microseconds<<10, 10)
}

// compareVersions is for sorting.
func compareVersions(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) }

const (
	expiredError = "410 Expired"
	tooLargeErr  = "504 Timeout ResourceVersionTooLarge retry=1"
)

// small is a window of two events.
func small() ring.Window { return ring.Window{Events: 2, Most: 2} }
