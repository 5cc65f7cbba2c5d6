package extension_test

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
)

// The stages of a widget's life, in this order.
const (
	absent = iota
	created
	changed
	deleted
)

// stages are how far a widget has come: the last write that was acknowledged, and the last that was asked for.
type stages struct{ acknowledged, asked int }

// ledger is what a writer knows of widgets that nobody else writes.
type ledger struct {
	name     string
	count    atomic.Int64
	known    map[string]*stages
	versions []uint64 // of acknowledged writes, in order
}

func acknowledged(ledgers []*ledger) (n int64) {
	for _, l := range ledgers {
		n += l.count.Load()
	}
	return n
}

// write makes widgets, changes each, and deletes every third. One whose write was not answered is left as it is.
func (l *ledger) write(ctx context.Context, board dynamic.ResourceInterface) {
	for i := 0; ctx.Err() == nil; i++ {
		name := fmt.Sprintf("%s-%d", l.name, i)
		s := &stages{}
		l.known[name] = s
		last := changed
		if i%3 == 0 {
			last = deleted
		}
		for stage := created; stage <= last; stage++ {
			s.asked = stage
			version, err := writeStage(ctx, board, name, stage)
			if err != nil {
				select {
				case <-time.After(50 * time.Millisecond): // the server is away
				case <-ctx.Done():
				}
				break
			}
			s.acknowledged = stage
			if version != 0 {
				l.versions = append(l.versions, version)
			}
			l.count.Add(1)
		}
	}
}

// writeStage brings a widget to a stage, and gives its resourceVersion; a deletion tells none.
func writeStage(ctx context.Context, board dynamic.ResourceInterface, name string, stage int) (version uint64, err error) {
	var got *unstructured.Unstructured
	switch stage {
	case created:
		got, err = board.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": killedWidgets.GroupVersion().String(), "kind": "Widget",
			"metadata": map[string]any{"name": name}, "spec": map[string]any{"owner": "created"},
		}}, metav1.CreateOptions{})
	case changed:
		got, err = board.Patch(ctx, name, types.MergePatchType, []byte(`{"spec":{"owner":"changed"}}`), metav1.PatchOptions{})
	case deleted:
		return 0, board.Delete(ctx, name, metav1.DeleteOptions{})
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(got.GetResourceVersion(), 10, 64)
}

// checkLedgers compares what is there with what was acknowledged and asked for, and counts what is lost.
func checkLedgers(t *testing.T, board dynamic.ResourceInterface, ledgers []*ledger) (lost int) {
	t.Helper()
	list, err := board.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	owners := map[string]string{}
	for i := range list.Items {
		owners[list.Items[i].GetName()], _, _ = unstructured.NestedString(list.Items[i].Object, "spec", "owner")
	}
	for _, l := range ledgers {
		for name, s := range l.known {
			at := map[string]int{"": absent, "created": created, "changed": changed}[owners[name]]
			if at == absent && s.asked == deleted {
				at = deleted
			}
			if at < s.acknowledged || at > s.asked {
				t.Errorf("%s is at stage %d; %d was acknowledged, %d was asked for", name, at, s.acknowledged, s.asked)
				lost++
			}
		}
	}
	return lost
}

// follower watches as a client does that keeps the resourceVersion it saw last: it goes on from there, and
// lists where the server says that it cannot.
type follower struct {
	mu      sync.Mutex
	objects map[string]string // resourceVersions by name
	told    map[uint64]int    // how often an event told of a resourceVersion
	gaps    []gap
	begun   int
	faults  []string
}

// gap is from the last version that was told to that of the list in its place.
type gap struct{ after, to uint64 }

func (f *follower) follow(ctx context.Context, board dynamic.ResourceInterface) {
	var at uint64
	for listed := false; ctx.Err() == nil; {
		var err error
		if !listed {
			at, err = f.list(ctx, board, at)
			listed = err == nil
		}
		if listed {
			at, err = f.watch(ctx, board, at)
			listed = !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err)
		}
		if err != nil {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
}

func (f *follower) list(ctx context.Context, board dynamic.ResourceInterface, after uint64) (at uint64, err error) {
	list, err := board.List(ctx, metav1.ListOptions{})
	if err != nil {
		return after, err
	}
	if at, err = strconv.ParseUint(list.GetResourceVersion(), 10, 64); err != nil {
		return after, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if at < after {
		f.faults = append(f.faults, fmt.Sprintf("a list of version %d after %d was told", at, after))
	}
	f.gaps = append(f.gaps, gap{after, at})
	clear(f.objects)
	for i := range list.Items {
		f.objects[list.Items[i].GetName()] = list.Items[i].GetResourceVersion()
	}
	return at, nil
}

func (f *follower) watch(ctx context.Context, board dynamic.ResourceInterface, at uint64) (uint64, error) {
	w, err := board.Watch(ctx, metav1.ListOptions{ResourceVersion: strconv.FormatUint(at, 10), AllowWatchBookmarks: true})
	if err != nil {
		return at, err
	}
	defer w.Stop()
	f.mu.Lock()
	f.begun++
	f.mu.Unlock()
	for event := range w.ResultChan() {
		if event.Type == watch.Error {
			return at, apierrors.FromObject(event.Object)
		}
		if at, err = f.tell(event, at); err != nil {
			return at, err
		}
	}
	return at, nil
}

// tell takes an event after a version, and gives its version.
func (f *follower) tell(event watch.Event, at uint64) (uint64, error) {
	o, ok := event.Object.(metav1.Object)
	if !ok {
		return at, fmt.Errorf("an event of %T", event.Object)
	}
	version, err := strconv.ParseUint(o.GetResourceVersion(), 10, 64)
	if err != nil {
		return at, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if version < at || version == at && event.Type != watch.Bookmark {
		f.faults = append(f.faults, fmt.Sprintf("%s of %s at version %d after %d was told", event.Type, o.GetName(), version, at))
	}
	switch event.Type {
	case watch.Bookmark:
	case watch.Deleted:
		delete(f.objects, o.GetName())
	default:
		f.objects[o.GetName()] = o.GetResourceVersion()
		f.told[version]++
	}
	return version, nil
}

func (f *follower) view() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.objects)
}

// check: each acknowledged write was told once, or lies before a list that the server asked for.
func (f *follower) check(t *testing.T, ledgers []*ledger) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fault := range f.faults {
		t.Error(fault)
	}
	told := 0
	for _, l := range ledgers {
		for _, version := range l.versions {
			listed := false
			for _, g := range f.gaps {
				listed = listed || version > g.after && version <= g.to
			}
			if n := f.told[version]; n != 1 && (n != 0 || !listed) {
				t.Errorf("the write of version %d was told %d times", version, n)
			} else {
				told += n
			}
		}
	}
	if told < len(ledgers) {
		t.Errorf("only %d writes were told by events", told)
	}
	t.Logf("%d writes were told by the events of %d watches, the others by %d lists: the first, and where the server said that it could not go on", told, f.begun, len(f.gaps))
}

// listsAndWatches says of a client that it cannot stream lists.
type listsAndWatches struct{}

func (listsAndWatches) IsWatchListSemanticsUnSupported() bool { return true }

// killedInformer is client-go's.
func killedInformer(board dynamic.ResourceInterface, able any) cache.SharedIndexInformer {
	return cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return board.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return board.Watch(ctx, o)
		},
	}, able), &unstructured.Unstructured{}, 0, nil)
}

func versionsOf(objects []any) map[string]string {
	versions := map[string]string{}
	for _, obj := range objects {
		if o, ok := obj.(metav1.Object); ok {
			versions[o.GetName()] = o.GetResourceVersion()
		}
	}
	return versions
}

func sameVersions(got, want map[string]string) error {
	for name, version := range want {
		if got[name] != version {
			return fmt.Errorf("%s is shown at version %q, it is at %s", name, got[name], version)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			return fmt.Errorf("%s is shown, and is not there", name)
		}
	}
	return nil
}
