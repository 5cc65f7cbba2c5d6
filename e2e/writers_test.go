package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// sequence is the annotation that says which write an object holds.
const sequence = "example.com/sequence"

// record is what one writer knows of one object.
type record struct {
	exists   bool
	sequence int    // of the last acknowledged write
	version  uint64 // its resourceVersion, as acknowledged
	// A write without an answer may have happened or not.
	pending         bool
	pendingDelete   bool
	pendingSequence int
}

// writer creates, updates and deletes objects of its own, one request at a time.
type writer struct {
	name     string
	resource schema.GroupVersionResource
	kind     string
	content  func() map[string]any
	objects  map[string]*record
	next     int
	random   *rand.Rand
}

func newWriter(name string, resource schema.GroupVersionResource, kind string, seed uint64, content func() map[string]any) *writer {
	w := &writer{name: name, resource: resource, kind: kind, content: content, objects: map[string]*record{}, random: rand.New(rand.NewPCG(seed, 1))}
	for i := range 30 {
		w.objects[fmt.Sprintf("%s-%d", name, i)] = &record{}
	}
	return w
}

// write writes until a request fails, and counts what is acknowledged. Refusals are errors: the
// server knows nothing that this writer does not.
func (w *writer) write(ctx context.Context, client dynamic.Interface, acknowledged *atomic.Int64) error {
	things := client.Resource(w.resource).Namespace(metav1.NamespaceDefault)
	for ctx.Err() == nil {
		name := fmt.Sprintf("%s-%d", w.name, w.random.IntN(len(w.objects)))
		r := w.objects[name]
		w.next++
		r.pending, r.pendingSequence, r.pendingDelete = true, w.next, r.exists && w.random.IntN(10) == 0
		var got *unstructured.Unstructured
		var err error
		switch {
		case r.pendingDelete:
			err = things.Delete(ctx, name, metav1.DeleteOptions{})
		case r.exists:
			got, err = things.Update(ctx, w.object(name, strconv.FormatUint(r.version, 10)), metav1.UpdateOptions{})
		default:
			got, err = things.Create(ctx, w.object(name, ""), metav1.CreateOptions{})
		}
		if err != nil {
			if apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.IsAlreadyExists(err) {
				return fmt.Errorf("write %d of %s: the server lost or made up an object: %w", w.next, name, err)
			}
			return nil
		}
		*r = record{exists: !r.pendingDelete, sequence: w.next}
		if got != nil {
			if r.version, err = strconv.ParseUint(got.GetResourceVersion(), 10, 64); err != nil {
				return err
			}
		}
		acknowledged.Add(1)
	}
	return nil
}

func (w *writer) object(name, version string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: w.content()}
	u.SetGroupVersionKind(w.resource.GroupVersion().WithKind(w.kind))
	u.SetName(name)
	u.SetResourceVersion(version)
	u.SetAnnotations(map[string]string{sequence: strconv.Itoa(w.next)})
	return u
}

// verify compares what is there with what was acknowledged, and goes on from what is there.
func (w *writer) verify(ctx context.Context, client dynamic.Interface) error {
	list, err := client.Resource(w.resource).Namespace(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list %s: %w", w.resource.Resource, err)
	}
	found := map[string]*unstructured.Unstructured{}
	for i := range list.Items {
		found[list.Items[i].GetName()] = &list.Items[i]
	}
	for name, r := range w.objects {
		u := found[name]
		if u == nil {
			if r.exists && !(r.pending && r.pendingDelete) {
				return fmt.Errorf("%s %s is lost; write %d was acknowledged at version %d", w.kind, name, r.sequence, r.version)
			}
			*r = record{}
			continue
		}
		version, err := strconv.ParseUint(u.GetResourceVersion(), 10, 64)
		if err != nil {
			return err
		}
		got, err := strconv.Atoi(u.GetAnnotations()[sequence])
		if err != nil {
			return fmt.Errorf("%s %s: %w", w.kind, name, err)
		}
		asAcknowledged := r.exists && got == r.sequence && version == r.version
		asPending := r.pending && !r.pendingDelete && got == r.pendingSequence && version > r.version
		if !asAcknowledged && !asPending {
			return fmt.Errorf("%s %s holds write %d at version %d; known is %+v", w.kind, name, got, version, *r)
		}
		*r = record{exists: true, sequence: got, version: version}
	}
	return nil
}

// load runs writers until all of them have met a failure or their end.
type load struct {
	acknowledged atomic.Int64
	group        sync.WaitGroup
	errors       chan error
}

func startLoad(ctx context.Context, client dynamic.Interface, writers []*writer) *load {
	l := &load{errors: make(chan error, len(writers))}
	for _, w := range writers {
		l.group.Go(func() { l.errors <- w.write(ctx, client, &l.acknowledged) })
	}
	return l
}

// wait returns the first error of a writer.
func (l *load) wait() error {
	l.group.Wait()
	close(l.errors)
	for err := range l.errors {
		if err != nil {
			return err
		}
	}
	return nil
}
