package ring

import (
	"cmp"
	"maps"
	"slices"
	"sort"
	"strconv"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// Object is an object with the key under which it is remembered. It must have
// object metadata.
type Object struct {
	Key    string
	Object runtime.Object
	// Moment is when its source became what it is.
	Moment Moment
}

// Event is one change of one object. Nobody may change the objects.
type Event struct {
	Type            watch.EventType
	Key             string
	ResourceVersion uint64
	// At is when it was noticed.
	At time.Time
	// Object has the event's resourceVersion. That of a deletion is the last one
	// otherwise.
	Object runtime.Object
	// Previous is what was there before; nil for an addition.
	Previous runtime.Object
	// Size is about how many bytes are kept for the event alone.
	Size int64
}

// Window says how many events are remembered: those younger than Age, and Events at
// least, but never more than Most, nor than Bytes. Zero is no bound of Bytes.
type Window struct {
	Age          time.Duration
	Events, Most int
	Bytes        int64
}

// DefaultWindow is the window that a Storage has unless told otherwise. Events is what the watch
// cache keeps anyway.
func DefaultWindow() Window {
	return Window{Age: 5 * time.Minute, Events: 100, Most: 100_000, Bytes: 64 << 20}
}

// settling is how long an event is remembered whatever its size: the watch cache has to take it
// first.
const settling = 2 * time.Second

// State is what is remembered: the objects as of now and the events of the window.
// It is for one goroutine at a time; those that only read may be many.
type State struct {
	numbers numbers
	window  Window
	equal   func(a, b runtime.Object) bool

	objects map[string]runtime.Object
	// latest are objects that came after those and are the same to a watcher, with their
	// resourceVersions; nil where none are kept.
	latest map[string]runtime.Object
	events []Event
	// size is that of all events.
	size int64
	// start is the first resourceVersion that was issued, oldest the one before the
	// first event that is remembered, last the latest.
	start, oldest, last uint64
}

// NewState is empty. after is a resourceVersion that this kind is known to have issued before,
// or zero: all that are issued now are later. equal says that two objects are the
// same to a watcher; nil compares everything but metadata.resourceVersion.
func NewState(now time.Time, replica Replica, after uint64, window Window, equal func(a, b runtime.Object) bool) *State {
	return newState(numbers{replica: replica}, replica.next(now, after), window, equal)
}

// NewStateByMoment is a State whose resourceVersions are those of its source, of which each
// replica can tell the moment. Each change of the source is an event then, also one by which
// the object stays the same. Its first events come by Begin.
func NewStateByMoment(replica Replica, window Window, equal func(a, b runtime.Object) bool) *State {
	n := numbers{replica: replica, byMoment: true}
	return newState(n, n.inexact(1), window, equal)
}

func newState(n numbers, start uint64, window Window, equal func(a, b runtime.Object) bool) *State {
	var latest map[string]runtime.Object
	if equal == nil {
		equal = equalButVersion // then there is nothing newer in what is the same
	} else {
		latest = map[string]runtime.Object{}
	}
	return &State{
		numbers: n, window: window, equal: equal, latest: latest,
		objects: map[string]runtime.Object{},
		start:   start, oldest: start, last: start,
	}
}

// Change is an event that has not happened yet.
type Change struct {
	kind        watch.EventType
	key         string
	object, old runtime.Object
	moment      Moment
	size        int64
}

func added(o Object) Change {
	return Change{kind: watch.Added, key: o.Key, object: o.Object.DeepCopyObject(), moment: o.Moment, size: eventSize}
}

// modified keeps what was there, which nothing else does any more.
func modified(o Object, old runtime.Object) Change {
	return Change{kind: watch.Modified, key: o.Key, object: o.Object.DeepCopyObject(), old: old, moment: o.Moment, size: eventSize + sizeOf(old)}
}

func deleted(key string, old runtime.Object, at Moment) Change {
	return Change{kind: watch.Deleted, key: key, object: old.DeepCopyObject(), old: old, moment: at, size: eventSize + 2*sizeOf(old)}
}

// same is no event, and replaces what is shown to those who get or list.
const same watch.EventType = ""

func unchanged(o Object, old runtime.Object) Change {
	c := Change{kind: same, key: o.Key, object: o.Object.DeepCopyObject()}
	setVersion(c.object, versionOf(old))
	return c
}

// Compare finds what leads from what is remembered to a complete answer, and changes
// nothing. The order is deletions by key, and then by moment, changes, additions, key. The
// objects are copied where they differ. Of two with one key the last counts.
func (s *State) Compare(objects []Object) []Change {
	answer := make(map[string]Object, len(objects))
	for _, o := range objects {
		answer[o.Key] = o
	}
	var changes []Change
	for key, old := range s.objects {
		if _, ok := answer[key]; !ok {
			changes = append(changes, deleted(key, old, 0))
		}
	}
	for _, o := range answer {
		changes = append(changes, s.CompareOne(o)...)
	}
	order := func(c Change) int {
		return slices.Index([]watch.EventType{watch.Deleted, watch.Modified, watch.Added, same}, c.kind)
	}
	slices.SortFunc(changes, func(a, b Change) int {
		if a.kind == watch.Deleted || b.kind == watch.Deleted {
			return cmp.Or(cmp.Compare(order(a), order(b)), cmp.Compare(a.key, b.key))
		}
		return cmp.Or(cmp.Compare(a.moment, b.moment), cmp.Compare(order(a), order(b)), cmp.Compare(a.key, b.key))
	})
	return changes
}

// CompareOne is Compare for one object that is there.
func (s *State) CompareOne(o Object) []Change {
	old, exists := s.objects[o.Key]
	switch {
	case !exists:
		return []Change{added(o)}
	case s.equal(old, o.Object) && s.numbers.at(o.Moment) <= versionOf(old):
		if s.latest == nil {
			return nil
		}
		return []Change{unchanged(o, old)}
	}
	return []Change{modified(o, old)}
}

// CompareGone is Compare for one object that is no longer there.
func (s *State) CompareGone(key string, at Moment) []Change {
	old, exists := s.objects[key]
	if !exists {
		return nil
	}
	return []Change{deleted(key, old, at)}
}

// Apply makes changes happen. Nothing may have been applied since they were found.
func (s *State) Apply(now time.Time, changes []Change) []Event {
	events := make([]Event, 0, len(changes))
	for _, c := range changes {
		if c.kind == same {
			s.latest[c.key] = c.object
			continue
		}
		delete(s.latest, c.key)
		if c.kind == watch.Deleted && c.moment == 0 {
			s.last = s.numbers.soonAfter(now, s.last)
		} else {
			s.last = s.numbers.next(now, s.last, c.moment)
		}
		setVersion(c.object, s.last)
		events = append(events, Event{
			Type: c.kind, Key: c.key, ResourceVersion: s.last, At: now, Object: c.object, Previous: c.old, Size: c.size,
		})
		s.size += c.size
		if c.kind == watch.Deleted {
			delete(s.objects, c.key)
		} else {
			s.objects[c.key] = c.object
		}
	}
	s.events = append(s.events, events...)
	s.Trim(now)
	return events
}

// Begin forgets how a State by moment came about, which is complete as of a moment: its source
// had other events before, and what they were is not known.
func (s *State) Begin(at Moment) {
	s.last = max(s.last, s.numbers.at(at))
	s.start, s.oldest = s.last, s.last
	s.events, s.size = nil, 0
}

// Update compares a complete answer with what is remembered, and makes the
// difference happen.
func (s *State) Update(now time.Time, objects []Object) []Event {
	return s.Apply(now, s.Compare(objects))
}

// Put adds or changes one object, unless it is the same as before.
func (s *State) Put(now time.Time, o Object) []Event { return s.Apply(now, s.CompareOne(o)) }

// Remove deletes one object, if there is one.
func (s *State) Remove(now time.Time, key string) []Event {
	return s.Apply(now, s.CompareGone(key, 0))
}

// Trim forgets the events that are out of the window.
func (s *State) Trim(now time.Time) {
	forget := 0
	for left := len(s.events); forget < len(s.events); forget, left = forget+1, left-1 {
		age := now.Sub(s.events[forget].At)
		old := left > s.window.Events && age > s.window.Age
		large := s.window.Bytes > 0 && s.size > s.window.Bytes && age > settling
		if !old && !large && left <= s.window.Most {
			break
		}
		s.size -= s.events[forget].Size
	}
	if forget == 0 {
		return
	}
	s.oldest = s.events[forget-1].ResourceVersion
	clear(s.events[:forget]) // lets the objects go before the array does
	s.events = s.events[forget:]
}

// Known says what a client's resourceVersion is.
func (s *State) Known(version uint64) Verdict {
	mine := s.numbers.issued(version)
	switch {
	case version > s.last && mine:
		return Ahead
	case s.numbers.later(version, s.last):
		return AheadElsewhere
	case version == s.oldest:
		return Known
	case mine && version < s.oldest, version < s.start && !s.numbers.byMoment:
		return TooOld
	}
	if _, ok := s.EventAt(version); ok {
		return Known
	}
	return Unknown
}

// Last is the latest resourceVersion that was issued: that of the objects as a whole.
func (s *State) Last() uint64 { return s.last }

// Oldest is the earliest resourceVersion that is Known.
func (s *State) Oldest() uint64 { return s.oldest }

// Len is the number of objects.
func (s *State) Len() int { return len(s.objects) }

// Get gives an object by its key.
func (s *State) Get(key string) (runtime.Object, bool) {
	object, ok := s.objects[key]
	return object, ok
}

// Latest gives what came after an object with this resourceVersion, and is the same to a watcher,
// if there is any.
func (s *State) Latest(key string, version uint64) (runtime.Object, bool) {
	object, ok := s.latest[key]
	return object, ok && versionOf(object) == version
}

// List gives all objects by key.
func (s *State) List() []Object { return sorted(s.objects) }

// At gives all objects as they were at a Known resourceVersion.
func (s *State) At(version uint64) ([]Object, bool) {
	if s.Known(version) != Known {
		return nil, false
	}
	then := maps.Clone(s.objects)
	for _, e := range slices.Backward(s.events[s.after(version):]) {
		if e.Type == watch.Added {
			delete(then, e.Key)
		} else {
			then[e.Key] = e.Previous
		}
	}
	return sorted(then), true
}

// Since gives the events after a resourceVersion, the first most of them. It is false if some are
// forgotten.
func (s *State) Since(version uint64, most int) ([]Event, bool) {
	if version < s.oldest {
		return nil, false
	}
	events := s.events[s.after(version):]
	return slices.Clone(events[:min(len(events), most)]), true
}

// EventAt gives the event with this resourceVersion, if it is remembered.
func (s *State) EventAt(version uint64) (Event, bool) {
	i, found := slices.BinarySearchFunc(s.events, version, func(e Event, v uint64) int {
		return cmp.Compare(e.ResourceVersion, v)
	})
	if !found {
		return Event{}, false
	}
	return s.events[i], true
}

// Was gives an object as it was, if it had just this resourceVersion then and has changed
// since.
func (s *State) Was(key string, version uint64) (runtime.Object, bool) {
	for _, e := range s.events[s.after(version):] {
		if e.Key == key {
			return e.Previous, e.Previous != nil && versionOf(e.Previous) == version
		}
	}
	return nil, false
}

// after is the index of the first event after a resourceVersion.
func (s *State) after(version uint64) int {
	return sort.Search(len(s.events), func(i int) bool { return s.events[i].ResourceVersion > version })
}

func sorted(objects map[string]runtime.Object) []Object {
	list := make([]Object, 0, len(objects))
	for _, key := range slices.Sorted(maps.Keys(objects)) {
		list = append(list, Object{Key: key, Object: objects[key]})
	}
	return list
}

// setVersion is for objects whose metadata was found when they came in.
func setVersion(o runtime.Object, version uint64) {
	if m, err := meta.Accessor(o); err == nil {
		m.SetResourceVersion(strconv.FormatUint(version, 10))
	}
}

// versionOf is what setVersion set.
func versionOf(o runtime.Object) uint64 {
	m, err := meta.Accessor(o)
	if err != nil {
		return 0
	}
	version, err := strconv.ParseUint(m.GetResourceVersion(), 10, 64)
	if err != nil {
		return 0
	}
	return version
}

// equalButVersion compares everything but metadata.resourceVersion.
func equalButVersion(old, object runtime.Object) bool {
	was, err := meta.Accessor(old)
	if err != nil {
		return false
	}
	same := object.DeepCopyObject()
	is, err := meta.Accessor(same)
	if err != nil {
		return false
	}
	is.SetResourceVersion(was.GetResourceVersion())
	return apiequality.Semantic.DeepEqual(old, same)
}
