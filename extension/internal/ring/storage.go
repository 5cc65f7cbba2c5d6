package ring

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Config is what a Storage must know of its kind.
type Config struct {
	// Resource names the kind in errors, and begins the keys of its objects.
	Resource schema.GroupResource
	// Namespaced says that every object must have a namespace; otherwise none may.
	Namespaced bool
	// New and NewList make an empty object and an empty list.
	New, NewList func() runtime.Object
	// Attributes gives what selectors see. It must be a pure function. Nil gives labels,
	// name and namespace.
	Attributes func(runtime.Object) (labels.Set, fields.Set, error)
	// Equal says that two objects are the same to a watcher; nil compares everything
	// but metadata.resourceVersion. See Latest for the newer one.
	Equal func(old, object runtime.Object) bool
	// Replica is that of the process.
	Replica Replica
	// ByMoment makes resourceVersions of moments (NewStateByMoment). Equal and After are not
	// for it.
	ByMoment bool
	// After is the latest resourceVersion that an earlier process is known to have
	// issued, or zero.
	After uint64
	// Window is how many events are remembered; zero means DefaultWindow.
	Window Window
}

// errClosed is what a Storage answers after Close.
var errClosed = errors.New("the server is stopping")

// Storage is the shell around a State: a storage.Interface for reading. Its writers
// are Update, Put and Remove. It is not ready until the first Update.
type Storage struct {
	config Config

	// changing is held from Compare to Apply. It is taken before mu, and never by a reader.
	changing sync.Mutex

	mu    sync.RWMutex
	state *State
	// answered is set by the first Update.
	answered bool
	// problem is why the objects are too old to be shown, or nil.
	problem error
	// progress counts the requests for a sign of progress.
	progress uint64
	// changed is closed, and another put in its place, whenever something above has changed.
	changed chan struct{}

	closed  chan struct{}
	closing sync.Once
	watches sync.WaitGroup
}

// NewStorage is empty, and not ready.
func NewStorage(config Config) (*Storage, error) {
	switch {
	case config.Resource.Resource == "":
		return nil, errors.New("a kind without a resource name cannot be remembered")
	case config.New == nil || config.NewList == nil:
		return nil, fmt.Errorf("%s: New and NewList are needed", config.Resource)
	}
	if config.Window == (Window{}) {
		config.Window = DefaultWindow()
	}
	state := NewState(time.Now(), config.Replica, config.After, config.Window, config.Equal)
	if config.ByMoment {
		state = NewStateByMoment(config.Replica, config.Window, config.Equal)
	}
	return &Storage{
		config:  config,
		state:   state,
		changed: make(chan struct{}),
		closed:  make(chan struct{}),
	}, nil
}

// Close ends all watches, and waits for them.
func (s *Storage) Close() {
	s.closing.Do(func() {
		s.mu.Lock() // no watch begins between the two
		close(s.closed)
		s.mu.Unlock()
	})
	s.watches.Wait()
}

// Update makes objects all that there is. It keeps none of them. An object
// that cannot be served refuses them all, and nothing changes.
func (s *Storage) Update(objects []runtime.Object) error {
	sourced := make([]Sourced, len(objects))
	for i, object := range objects {
		sourced[i].Object = object
	}
	return s.UpdateAt(sourced, 0)
}

// Sourced is an object with the moment of its source.
type Sourced struct {
	Object runtime.Object
	Moment Moment
}

// UpdateAt is Update with what there was at a moment.
func (s *Storage) UpdateAt(objects []Sourced, at Moment) error {
	remembered := make([]Object, 0, len(objects))
	seen := make(map[string]struct{}, len(objects))
	for _, object := range objects {
		o, err := s.object(object.Object)
		if err != nil {
			return err
		}
		if _, twice := seen[o.Key]; twice {
			return fmt.Errorf("%s: %s is there twice", s.config.Resource, o.Key)
		}
		seen[o.Key] = struct{}{}
		o.Moment = object.Moment
		remembered = append(remembered, o)
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	changes := s.state.Compare(remembered)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Apply(time.Now(), changes)
	if s.config.ByMoment && !s.answered {
		s.state.Begin(at)
	}
	s.answered, s.problem = true, nil
	s.tell()
	return nil
}

// Put adds or changes one object. It keeps a copy.
func (s *Storage) Put(object runtime.Object) error { return s.PutAt(Sourced{Object: object}) }

// PutAt is Put of what its source became at a moment.
func (s *Storage) PutAt(object Sourced) error {
	o, err := s.object(object.Object)
	if err != nil {
		return err
	}
	o.Moment = object.Moment
	s.change(func() []Change { return s.state.CompareOne(o) })
	return nil
}

// Remove deletes one object, if there is one.
func (s *Storage) Remove(namespace, name string) { s.RemoveAt(namespace, name, 0) }

// RemoveAt is Remove of what its source ceased to be at a moment.
func (s *Storage) RemoveAt(namespace, name string, at Moment) {
	key := s.Key(namespace, name)
	s.change(func() []Change { return s.state.CompareGone(key, at) })
}

// change compares without holding mu, as readers may go on meanwhile and Equal is
// somebody else's code.
func (s *Storage) change(compare func() []Change) {
	s.changing.Lock()
	defer s.changing.Unlock()
	changes := compare()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Apply(time.Now(), changes)
	s.tell()
}

// tell wakes all who wait. It is for those who hold mu.
func (s *Storage) tell() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Unavailable makes reads fail with 503 until the next Update, for what is remembered is too
// old. Watches that run go on in silence.
func (s *Storage) Unavailable(problem error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problem = problem
	s.tell()
}

// ReadinessCheck says why nothing can be read now.
func (s *Storage) ReadinessCheck() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.readyLocked()
}

func (s *Storage) readyLocked() error {
	switch {
	case s.isClosed():
		return errClosed
	case s.problem != nil:
		return fmt.Errorf("%s are not known: %w", s.config.Resource, s.problem)
	case !s.answered:
		return fmt.Errorf("%s are not known yet", s.config.Resource)
	}
	return nil
}

func (s *Storage) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// unavailable makes a 503 of a reason.
func unavailable(err error) error { return apierrors.NewServiceUnavailable(err.Error()) }

// Known says what a client's resourceVersion is, and Last is the latest one.
func (s *Storage) Known(version uint64) (verdict Verdict, last uint64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.state.Known(version), s.state.Last()
}

// WaitFor is Known after the ring has come to a resourceVersion, or ctx has ended.
func (s *Storage) WaitFor(ctx context.Context, version uint64) (verdict Verdict, last uint64) {
	for {
		s.mu.RLock()
		verdict, last, changed := s.state.Known(version), s.state.Last(), s.changed
		s.mu.RUnlock()
		if verdict != Ahead {
			return verdict, last
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return verdict, last
		case <-s.closed:
			return verdict, last
		}
	}
}

// Showed says whether who knows an object by a resourceVersion, of this replica or of another,
// knows what it is now. object has the present resourceVersion. It is false where that is not
// known any more.
func (s *Storage) Showed(resourceVersion string, object runtime.Object) bool {
	version, err := strconv.ParseUint(resourceVersion, 10, 64)
	if err != nil {
		return false
	}
	m, err := meta.Accessor(object)
	if err != nil {
		return false
	}
	s.mu.RLock()
	if moment, ok := momentOf(version); ok && s.config.ByMoment {
		version = s.state.numbers.at(moment)
	}
	was, found := s.state.Was(s.Key(m.GetNamespace(), m.GetName()), version)
	s.mu.RUnlock()
	return version != 0 && version == versionOf(object) || found && s.state.equal(was, object)
}

// Latest gives what an object has become since without a change to a watcher; nil where it is
// what it was. Nobody may change it.
func (s *Storage) Latest(object metav1.Object) runtime.Object {
	version, err := strconv.ParseUint(object.GetResourceVersion(), 10, 64)
	if err != nil {
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	latest, ok := s.state.Latest(s.Key(object.GetNamespace(), object.GetName()), version)
	if !ok {
		return nil
	}
	return latest
}

// EventAt gives the event with this resourceVersion, if it is remembered. Nobody may
// change its objects.
func (s *Storage) EventAt(version uint64) (Event, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.state.EventAt(version)
}

// Check says why an object cannot be served, or nil.
func (s *Storage) Check(object runtime.Object) error {
	_, err := s.object(object)
	return err
}

// VersionOf gives the resourceVersion of an object; zero if there is none.
func (s *Storage) VersionOf(namespace, name string) uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	object, ok := s.state.Get(s.Key(namespace, name))
	if !ok {
		return 0
	}
	version, err := s.Versioner().ObjectResourceVersion(object)
	if err != nil {
		return 0 // the ring wrote it itself
	}
	return version
}

// Prefix begins every key, and ends with a slash.
func (s *Storage) Prefix() string {
	if s.config.Resource.Group == "" {
		return "/" + s.config.Resource.Resource + "/"
	}
	return "/" + s.config.Resource.Group + "/" + s.config.Resource.Resource + "/"
}

// Key is that of an object.
func (s *Storage) Key(namespace, name string) string {
	if namespace == "" {
		return s.Prefix() + name
	}
	return s.Prefix() + namespace + "/" + name
}

// object checks that an object can be served, and gives it its key. What is found
// here cannot fail later, in the watch cache, where nobody could be told.
func (s *Storage) object(o runtime.Object) (Object, error) {
	m, err := meta.Accessor(o)
	if err != nil {
		return Object{}, fmt.Errorf("%s: an object without metadata: %w", s.config.Resource, err)
	}
	namespace, name := m.GetNamespace(), m.GetName()
	called := fmt.Sprintf("%s: the object %q in the namespace %q", s.config.Resource, name, namespace)
	switch wrong := content.IsPathSegmentName(name); {
	case name == "":
		return Object{}, fmt.Errorf("%s has no name", called)
	case len(wrong) > 0:
		return Object{}, fmt.Errorf("%s has a name that cannot be in a path: %v", called, wrong)
	case s.config.Namespaced && namespace == "":
		return Object{}, fmt.Errorf("%s has no namespace, but its kind has", called)
	case !s.config.Namespaced && namespace != "":
		return Object{}, fmt.Errorf("%s has a namespace, but its kind has none", called)
	}
	if wrong := content.IsPathSegmentName(namespace); len(wrong) > 0 {
		return Object{}, fmt.Errorf("%s has a namespace that cannot be in a path: %v", called, wrong)
	}
	if _, _, err := s.Attributes(o); err != nil {
		return Object{}, fmt.Errorf("%s: %w", called, err)
	}
	return Object{Key: s.Key(namespace, name), Object: o}, nil
}

// Attributes gives what selectors see of an object. A panic becomes an error.
func (s *Storage) Attributes(o runtime.Object) (l labels.Set, f fields.Set, err error) {
	if s.config.Attributes == nil {
		return s.plainAttributes(o)
	}
	defer func() {
		if p := recover(); p != nil {
			l, f, err = nil, nil, fmt.Errorf("its selectable fields: panic: %v", p)
		}
	}()
	return s.config.Attributes(o)
}

func (s *Storage) plainAttributes(o runtime.Object) (labels.Set, fields.Set, error) {
	m, err := meta.Accessor(o)
	if err != nil {
		return nil, nil, err
	}
	f := fields.Set{"metadata.name": m.GetName()}
	if s.config.Namespaced {
		f["metadata.namespace"] = m.GetNamespace()
	}
	return m.GetLabels(), f, nil
}
