package ring

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/storage"
)

var _ storage.Interface = &Storage{}

// firstAnswer is how long a list waits for the first Update. The watch cache lists
// again a second after each failure, so that waiting makes a server ready sooner.
const firstAnswer = 5 * time.Minute

// retryAfter is what a client is told that is ahead of the ring, in seconds.
const retryAfter = 1

// Versioner implements storage.Interface.
func (s *Storage) Versioner() storage.Versioner { return storage.APIObjectVersioner{} }

// Get implements storage.Interface.
func (s *Storage) Get(_ context.Context, key string, opts storage.GetOptions, into runtime.Object) error {
	key, err := storage.PrepareKey(s.Prefix(), key, false)
	if err != nil {
		return err
	}
	least, err := s.Versioner().ParseResourceVersion(opts.ResourceVersion)
	if err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("invalid resource version: %v", err))
	}
	target, err := conversion.EnforcePtr(into)
	if err != nil {
		return err
	}

	s.mu.RLock()
	ready := s.readyLocked()
	object, found := s.state.Get(key)
	last := s.state.Last()
	s.mu.RUnlock()

	switch {
	case ready != nil:
		return unavailable(ready)
	case least > last:
		return storage.NewTooLargeResourceVersionError(least, last, retryAfter)
	case found:
		target.Set(reflect.ValueOf(object).Elem())
		return nil
	}
	target.SetZero()
	if opts.IgnoreNotFound {
		return nil
	}
	return storage.NewKeyNotFoundError(key, int64(last))
}

// GetList implements storage.Interface. It waits for the first Update.
func (s *Storage) GetList(ctx context.Context, key string, opts storage.ListOptions, list runtime.Object) error {
	key, err := storage.PrepareKey(s.Prefix(), key, opts.Recursive)
	if err != nil {
		return err
	}
	exact, from, err := storage.ValidateListOptions(key, s.Versioner(), opts)
	if err != nil {
		return err
	}
	if err := s.Await(ctx); err != nil {
		return unavailable(err)
	}
	objects, version, err := s.objectsAt(uint64(max(exact, 0)), opts)
	switch {
	case apierrors.IsResourceExpired(err) && from != "":
		return GoOnInconsistently(from, key)
	case err != nil:
		return err
	}
	return s.fill(list, page{key: key, from: from, version: version, objects: objects}, opts)
}

// GoOnInconsistently is the error for a page whose list is forgotten. Its token makes the client go
// on after the same key with what is there then.
func GoOnInconsistently(from, prefix string) error {
	expired := apierrors.NewResourceExpired("The list that this continue token belongs to is forgotten. Start a new list, or go on with the token " +
		"in this answer: what came, changed or went since the first page may then be missing or be there in its newer form.")
	if token, err := storage.EncodeContinue(from, prefix, -1); err == nil {
		expired.ErrStatus.ListMeta.Continue = token
	}
	return expired
}

// Await waits until there is something to read, or never will be. Then it is
// ReadinessCheck.
func (s *Storage) Await(ctx context.Context) error {
	enough := time.NewTimer(firstAnswer)
	defer enough.Stop()
	for {
		s.mu.RLock()
		err, changed := s.readyLocked(), s.changed
		waiting := !s.answered && s.problem == nil && !s.isClosed()
		s.mu.RUnlock()
		if !waiting {
			return err
		}
		select {
		case <-changed:
		case <-s.closed:
		case <-ctx.Done():
			return err
		case <-enough.C:
			return err
		}
	}
}

// objectsAt gives all objects by key, as they were at an exact resourceVersion, or
// as they are now and at least as new as is asked for.
func (s *Storage) objectsAt(exact uint64, opts storage.ListOptions) ([]Object, uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	last := s.state.Last()
	least := exact
	if opts.Predicate.Continue == "" {
		least, _ = s.Versioner().ParseResourceVersion(opts.ResourceVersion) // was validated
	}
	if least > last {
		return nil, 0, storage.NewTooLargeResourceVersionError(least, last, retryAfter)
	}
	if exact == 0 {
		return s.state.List(), last, nil
	}
	objects, ok := s.state.At(exact)
	if !ok {
		return nil, 0, apierrors.NewResourceExpired(fmt.Sprintf("The resourceVersion %d is too old, or not one of this server.", exact))
	}
	return objects, exact, nil
}

// page is what a list is cut from.
type page struct {
	// key is what all keys begin with, or the only one.
	key string
	// from is the first key, if a list goes on.
	from    string
	version uint64
	objects []Object
}

func (s *Storage) fill(list runtime.Object, p page, opts storage.ListOptions) error {
	items, err := meta.GetItemsPtr(list)
	if err != nil {
		return err
	}
	slice, err := conversion.EnforcePtr(items)
	if err != nil {
		return err
	}
	candidates := p.cut(opts.Recursive)
	slice.Set(reflect.MakeSlice(slice.Type(), 0, 0))
	lastKey, more := "", false
	for i, o := range candidates {
		if !opts.Predicate.Empty() {
			matches, err := opts.Predicate.Matches(o.Object)
			if err != nil {
				return err
			}
			if !matches {
				continue
			}
		}
		slice.Set(reflect.Append(slice, reflect.ValueOf(o.Object).Elem()))
		lastKey = o.Key
		if opts.Predicate.Limit > 0 && int64(slice.Len()) >= opts.Predicate.Limit {
			more = i < len(candidates)-1
			break
		}
	}
	token, remaining, err := storage.PrepareContinueToken(lastKey, p.key, int64(p.version), int64(len(candidates)), more, opts)
	if err != nil {
		return err
	}
	return s.Versioner().UpdateList(list, p.version, token, remaining)
}

// cut gives the objects below the key, beginning with from.
func (p page) cut(recursive bool) []Object {
	first, _ := slices.BinarySearchFunc(p.objects, max(p.key, p.from), func(o Object, key string) int {
		return cmp.Compare(o.Key, key)
	})
	rest := p.objects[first:]
	end := slices.IndexFunc(rest, func(o Object) bool {
		if recursive {
			return !strings.HasPrefix(o.Key, p.key)
		}
		return o.Key != p.key
	})
	if end < 0 {
		return rest
	}
	return rest[:end]
}

// GetCurrentResourceVersion implements storage.Interface.
func (s *Storage) GetCurrentResourceVersion(context.Context) (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.readyLocked(); err != nil {
		return 0, unavailable(err)
	}
	return s.state.Last(), nil
}

// CompactRevision implements storage.Interface: whoever asks for less gets 410.
func (s *Storage) CompactRevision() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return int64(s.state.Oldest()) - 1
}

// Stats implements storage.Interface.
func (s *Storage) Stats(context.Context) (storage.Stats, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return storage.Stats{ObjectCount: int64(s.state.Len())}, nil
}

// EnableResourceSizeEstimation implements storage.Interface. Nothing is encoded here, so nothing
// has a size.
func (s *Storage) EnableResourceSizeEstimation(storage.KeysFunc) error { return nil }

// IsWatchListSemanticsUnSupported makes the watch cache list first, and then watch.
func (s *Storage) IsWatchListSemanticsUnSupported() bool { return true }

// Create implements storage.Interface, and refuses.
func (s *Storage) Create(context.Context, string, runtime.Object, runtime.Object, uint64) error {
	return apierrors.NewMethodNotSupported(s.config.Resource, "create")
}

// Delete implements storage.Interface, and refuses.
func (s *Storage) Delete(context.Context, string, runtime.Object, *storage.Preconditions, storage.ValidateObjectFunc, runtime.Object, storage.DeleteOptions) error {
	return apierrors.NewMethodNotSupported(s.config.Resource, "delete")
}

// GuaranteedUpdate implements storage.Interface, and refuses.
func (s *Storage) GuaranteedUpdate(context.Context, string, runtime.Object, bool, *storage.Preconditions, storage.UpdateFunc, runtime.Object) error {
	return apierrors.NewMethodNotSupported(s.config.Resource, "update")
}
