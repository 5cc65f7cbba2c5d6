package store

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	"k8s.io/apiserver/pkg/storage"

	driver "github.com/annex-api/annex/extension/storage"
	"github.com/annex-api/annex/extension/storage/embedded"
	etcdserver "github.com/annex-api/annex/internal/etcd"
)

// limit is for what takes milliseconds where nothing is wrong.
const limit = 30 * time.Second

func TestCreateGetListWatch(t *testing.T) {
	opened := open(t)
	pods := decorated(t, opened)
	untilReady(t, opened)
	w, err := pods.Watch(t.Context(), "/pods/", storage.ListOptions{ResourceVersion: "0", Predicate: storage.Everything, Recursive: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()

	created := create(t, pods, "a")
	var got example.Pod
	if err := pods.Get(t.Context(), "/pods/default/a", storage.GetOptions{}, &got); err != nil || got.ResourceVersion != created.ResourceVersion {
		t.Errorf("get: %v, resourceVersion %s, want %s", err, got.ResourceVersion, created.ResourceVersion)
	}
	var list example.PodList
	if err := pods.GetList(t.Context(), "/pods/", storage.ListOptions{Predicate: storage.Everything, Recursive: true}, &list); err != nil || len(list.Items) != 1 {
		t.Errorf("list: %v, %d items, want 1", err, len(list.Items))
	}
	select {
	case event := <-w.ResultChan():
		if key, err := podKey(event.Object); err != nil || event.Type != watch.Added || key != "/pods/default/a" {
			t.Errorf("event %v of %s %v", event.Type, key, err)
		}
	case <-time.After(limit):
		t.Error("no event")
	}
	err = pods.Create(t.Context(), "/pods/default/a", &example.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, nil, 0)
	if !storage.IsExist(err) {
		t.Errorf("create again: %v", err)
	}
}

// A streaming list goes through the watch cache only where the storage is known to report progress.
func TestStreamingListsAreServed(t *testing.T) {
	opened := open(t)
	pods := decorated(t, opened)
	untilReady(t, opened)
	create(t, pods, "a")
	everything := storage.Everything
	everything.AllowWatchBookmarks = true
	initial := true
	w, err := pods.Watch(t.Context(), "/pods/", storage.ListOptions{
		ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, Predicate: everything, Recursive: true, SendInitialEvents: &initial,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	var types []watch.EventType
	for range 2 {
		select {
		case event := <-w.ResultChan():
			types = append(types, event.Type)
		case <-time.After(limit):
			t.Fatalf("after %v no event", types)
		}
	}
	if fmt.Sprint(types) != "[ADDED BOOKMARK]" {
		t.Errorf("initial events %v", types)
	}
}

func TestCloseEndsWatchesAndIsWhole(t *testing.T) {
	closed := make(chan struct{})
	endpoint := embeddedEndpoint(t)
	inner := endpoint.Close
	endpoint.Close = func() error { close(closed); return inner() }
	opened, err := Open(t.Context(), endpoint)
	if err != nil {
		t.Fatal(err)
	}
	pods := decorated(t, opened)
	untilReady(t, opened)
	w, err := pods.Watch(t.Context(), "/pods/", storage.ListOptions{ResourceVersion: "0", Predicate: storage.Everything, Recursive: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := opened.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-closed:
	default:
		t.Error("the endpoint is still open")
	}
	select {
	case _, more := <-w.ResultChan():
		if more {
			t.Error("an event after the end")
		}
	case <-time.After(limit):
		t.Error("the watch goes on")
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	opened, err := Open(t.Context(), &driver.Endpoint{Name: "etcd nowhere", Targets: []string{"unix://" + filepath.Join(t.TempDir(), "none.sock")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, opened) })
	pods := decorated(t, opened)
	if err := opened.Ready(); err == nil {
		t.Error("ready")
	}
	everything := storage.ListOptions{Predicate: storage.Everything, Recursive: true}
	poll := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, limit, true, func(context.Context) (bool, error) {
		err = pods.GetList(t.Context(), "/pods/", everything, &example.PodList{})
		// The watch cache asks to come again, until the storage is known to be away.
		return !apierrors.IsTooManyRequests(err), nil
	})
	if poll != nil || !apierrors.IsServiceUnavailable(err) {
		t.Errorf("list: %v (%v)", err, poll)
	}
	err = pods.Create(t.Context(), "/pods/default/a", &example.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, nil, 0)
	if !apierrors.IsServiceUnavailable(err) {
		t.Errorf("create: %v", err)
	}
}

func open(t *testing.T) *Opened {
	t.Helper()
	opened, err := Open(t.Context(), embeddedEndpoint(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, opened) })
	return opened
}

func embeddedEndpoint(t *testing.T) *driver.Endpoint {
	t.Helper()
	endpoint, err := driver.Open(t.Context(), "embedded://"+filepath.Join(t.TempDir(), "etcd"), logr.Discard(), embedded.Driver())
	if err != nil {
		t.Fatal(err)
	}
	return endpoint
}

func closeStore(t *testing.T, opened *Opened) {
	t.Helper()
	if err := opened.Close(); err != nil {
		t.Error(err)
	}
}

func untilReady(t *testing.T, opened *Opened) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 5*time.Millisecond, limit, true, func(context.Context) (bool, error) {
		return opened.Ready() == nil, nil
	})
	if err != nil {
		t.Fatal(opened.Ready())
	}
}

func create(t *testing.T, pods storage.Interface, name string) *example.Pod {
	t.Helper()
	out := &example.Pod{}
	pod := &example.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	if err := pods.Create(t.Context(), "/pods/default/"+name, pod, out, 0); err != nil {
		t.Fatal(err)
	}
	return out
}

// An etcd with users lets a server read below its own prefix alone.
func TestAnEtcdWithUsers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	server, err := etcdserver.Start(t.Context(), etcdserver.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	admin, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	for _, step := range []func() error{
		func() error { _, err := admin.RoleAdd(t.Context(), "root"); return err },
		func() error { _, err := admin.UserAdd(t.Context(), "root", "root"); return err },
		func() error { _, err := admin.UserGrantRole(t.Context(), "root", "root"); return err },
		func() error { _, err := admin.RoleAdd(t.Context(), "pods"); return err },
		func() error {
			_, err := admin.RoleGrantPermission(t.Context(), "pods", "/registry/test/", clientv3.GetPrefixRangeEnd("/registry/test/"), clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error { _, err := admin.UserAdd(t.Context(), "pods", "s3cret"); return err },
		func() error { _, err := admin.UserGrantRole(t.Context(), "pods", "pods"); return err },
		func() error { _, err := admin.AuthEnable(t.Context()); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	opened, err := Open(t.Context(), &driver.Endpoint{Name: "etcd", Targets: []string{server.Endpoint()}, User: "pods", Password: "s3cret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, opened) })
	pods := decorated(t, opened)
	untilReady(t, opened)
	create(t, pods, "a")
	if got := names(list(t, pods)); len(got) != 1 {
		t.Errorf("listed %v", got)
	}
}
