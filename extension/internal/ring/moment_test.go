package ring

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"pgregory.net/rapid"
)

// origin is a source: it numbers its changes one by one, some of which are not shown.
type origin struct {
	revision Moment
	objects  map[string]Object
	changes  []func(*follower)
}

// follower is a replica that shows what there is at an origin.
type follower struct {
	*State
	seen int // of the changes
}

func (o *origin) change(t *rapid.T) {
	o.revision++
	at := o.revision
	key := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "key")
	if _, there := o.objects[key]; there && rapid.IntRange(0, 2).Draw(t, "delete") == 0 {
		delete(o.objects, key)
		o.changes = append(o.changes, func(f *follower) { f.Apply(time.Now(), f.CompareGone(key, at)) })
		return
	}
	now := object(key, rapid.SampledFrom([]string{"1", "2"}).Draw(t, "value"))
	now.Moment = at
	o.objects[key] = now
	o.changes = append(o.changes, func(f *follower) { f.Put(time.Now(), now) })
}

// follow catches up: event by event, or by a list of all.
func (f *follower) follow(o *origin, list bool) {
	if !list {
		for _, change := range o.changes[f.seen:] {
			change(f)
		}
	} else {
		f.Update(time.Now(), slices.Collect(maps.Values(o.objects)))
	}
	f.seen = len(o.changes)
}

func begin(o *origin, replica Replica) *follower {
	f := &follower{State: NewStateByMoment(replica, Window{Events: 1000, Most: 1000}, nil)}
	f.follow(o, true)
	f.Begin(o.revision)
	return f
}

// TestReplicasAgreeOnMoments: replicas that begin at different times, miss events, and list again show
// every object by its moment, take no resourceVersion of each other's for their own, and never give a
// lesser one than before.
func TestReplicasAgreeOnMoments(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := &origin{revision: Moment(rapid.IntRange(0, 100).Draw(t, "revision")), objects: map[string]Object{}}
		replicas := []*follower{begin(o, 6), begin(o, 7)}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			o.change(t)
			f := rapid.SampledFrom(replicas).Draw(t, "replica")
			before := f.Last()
			f.follow(o, rapid.Bool().Draw(t, "list"))
			if f.Last() < before {
				t.Fatalf("after %d came %d", before, f.Last())
			}
			for _, shown := range f.List() {
				if moment, ok := momentOf(versionOf(shown.Object)); !ok || moment != o.objects[shown.Key].Moment {
					t.Fatalf("%s of moment %d has the resourceVersion of %d, %v", shown.Key, o.objects[shown.Key].Moment, moment, ok)
				}
			}
		}
		for i, f := range replicas {
			f.follow(o, true)
			for _, e := range f.events {
				if got := f.Known(e.ResourceVersion); got != Known {
					t.Fatalf("%d of this replica is %s", e.ResourceVersion, got)
				}
				if got := replicas[1-i].Known(e.ResourceVersion); got != Unknown && got != AheadElsewhere {
					t.Fatalf("%d of the other replica is %s", e.ResourceVersion, got)
				}
			}
		}
		// The next process begins no earlier, and knows none of what there was before.
		next := begin(o, 8)
		for _, f := range replicas {
			if next.Last()>>momentReplicaBits < f.Last()>>momentReplicaBits || next.Known(f.Last()) != Unknown {
				t.Fatalf("%d of the process before is %s, and the next begins at %d", f.Last(), next.Known(f.Last()), next.Last())
			}
		}
	})
}

// TestReplayByMoment: the events since any known resourceVersion lead to the objects of now.
func TestReplayByMoment(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := &origin{objects: map[string]Object{}}
		for range rapid.IntRange(0, 5).Draw(t, "before") {
			o.change(t)
		}
		f := begin(o, 7)
		lists := map[uint64]string{f.Last(): showObjects(f.List())}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			o.change(t)
			if rapid.Bool().Draw(t, "away") {
				continue
			}
			f.follow(o, rapid.Bool().Draw(t, "list"))
			lists[f.Last()] = showObjects(f.List())
		}
		for v, want := range lists {
			if then, ok := f.At(v); !ok || showObjects(then) != want {
				t.Fatalf("the list at %d was\n%s\nand is, %v,\n%s", v, want, ok, showObjects(then))
			}
		}
	})
}

// What a process had before its first list is unknown: nobody may go on from there.
func TestNothingIsKnownOfTheTimeBeforeTheFirstList(t *testing.T) {
	o := &origin{objects: map[string]Object{"a": {Key: "a", Object: object("a", "1").Object, Moment: 5}}, revision: 9}
	f := begin(o, 7)
	if got := f.Known(f.numbers.at(5)); got != TooOld {
		t.Errorf("the resourceVersion of an object of the first list is %s", got)
	}
	if len(f.events) > 0 || f.size > 0 {
		t.Errorf("%d events of the first list are kept", len(f.events))
	}
	if want := f.numbers.at(9); f.Last() != want || f.Known(want) != Known {
		t.Errorf("the first list is at %d and %s, want %d", f.Last(), f.Known(f.Last()), want)
	}
}

// Sources whose resourceVersions are no numbers, or too great, have resourceVersions by time, which grow.
// None of them is taken for one of a moment.
func TestWithoutMomentsTimesAreNumbers(t *testing.T) {
	for text, want := range map[string]Moment{"12": 12, "": 0, "x": 0, "-1": 0, strconv.FormatUint(uint64(maxMoment), 10): maxMoment, strconv.FormatUint(uint64(maxMoment)+1, 10): 0} {
		if got := ParseMoment(text); got != want {
			t.Errorf("%q is the moment %d, want %d", text, got, want)
		}
	}
	s := NewStateByMoment(7, DefaultWindow(), nil)
	now, last := time.UnixMicro(1_700_000_000_000_000), uint64(0)
	for i := range 10_000 {
		s.Put(now.Add(time.Duration(i/3)*time.Microsecond), object("a", fmt.Sprint(i)))
		_, exact := momentOf(s.Last())
		if s.Last() <= last || exact || s.Last() >= 1<<63 {
			t.Fatalf("after %d came %d, of a moment: %v", last, s.Last(), exact)
		}
		last = s.Last()
	}
	if least := uint64(now.UnixMicro()) << replicaBits; last < least || last > least+10_300<<momentReplicaBits {
		t.Errorf("%d is far from the time %d", last, least)
	}
	s.Put(now, Object{Key: "b", Object: object("b", "1").Object, Moment: 5})
	if _, exact := momentOf(s.Last()); s.Last() <= last || exact {
		t.Errorf("a moment after a later time is %d, of a moment: %v", s.Last(), exact)
	}
}

// A change that is not shown is an event where moments count, and nowhere else.
func TestEveryMomentIsAnEvent(t *testing.T) {
	o := object("a", "1")
	s := NewStateByMoment(7, DefaultWindow(), nil)
	for moment, want := range []int{1: 1, 2: 1, 3: 1} {
		if o.Moment = Moment(moment); moment > 0 && len(s.Put(time.Now(), o)) != want {
			t.Errorf("moment %d gave not %d events", moment, want)
		}
	}
	if events := s.Put(time.Now(), o); len(events) != 0 {
		t.Errorf("the same moment again gave %v", events)
	}
}

// Showed finds what a client has seen here or elsewhere, as long as what is shown is the same.
func TestShowed(t *testing.T) {
	replica := func(r Replica) *Storage {
		s, err := NewStorage(Config{
			Resource: resourceOfMaps, New: newMap, NewList: newMaps, Replica: r, ByMoment: true, Window: Window{Events: 100, Most: 100},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	put := func(s *Storage, value string, at Moment) *corev1.ConfigMap {
		t.Helper()
		if err := s.PutAt(Sourced{Object: object("a", value).Object, Moment: at}); err != nil {
			t.Fatal(err)
		}
		shown := &corev1.ConfigMap{}
		if err := s.UpdateAt([]Sourced{{object("a", value).Object, at}}, at); err != nil {
			t.Fatal(err)
		}
		if err := s.Get(t.Context(), s.Key("", "a"), getOptions, shown); err != nil {
			t.Fatal(err)
		}
		return shown
	}
	here, there := replica(6), replica(7)
	var versions []string
	for i, value := range []string{"1", "2", "2"} {
		versions = append(versions, put(there, value, Moment(10+i)).ResourceVersion)
		put(here, value, Moment(10+i))
	}
	now := put(here, "2", 12)
	for i, want := range []bool{false, true, true} {
		if got := here.Showed(versions[i], now); got != want {
			t.Errorf("the other replica's resourceVersion of moment %d: %v, want %v", 10+i, got, want)
		}
	}
	late := replica(8)
	if now := put(late, "2", 12); late.Showed(versions[1], now) || !late.Showed(versions[2], now) {
		t.Error("one that began later knows of what it has not seen, or not of what it has")
	}
	for _, version := range []string{"", "x", "0", "99", versions[2] + "0", now.ResourceVersion[1:]} {
		if here.Showed(version, now) {
			t.Errorf("the resourceVersion %q is that of the present", version)
		}
	}
	other := now.DeepCopy()
	other.UID = "another"
	other.ResourceVersion = "5"
	if here.Showed(versions[1], other) {
		t.Error("what was shown of another object is taken for that of this one")
	}
}

func TestDeletionsOfAListComeBeforeItsChanges(t *testing.T) {
	o := &origin{objects: map[string]Object{}, revision: 100}
	for i := range 50 {
		key := fmt.Sprintf("k%02d", i)
		o.objects[key] = Object{Key: key, Object: &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: key}}, Moment: Moment(i + 1)}
	}
	f := begin(o, 7)
	late, early := object("late", "1"), object("early", "1")
	late.Moment, early.Moment = 300, 101
	events := f.Update(time.Now(), []Object{late, early})
	if len(events) != 52 || events[49].Type != watch.Deleted || events[50].Key != "early" || events[51].Key != "late" {
		t.Fatalf("the events are %v", showEvents(events))
	}
	for _, e := range events[50:] {
		want := map[string]Moment{"early": 101, "late": 300}[e.Key]
		if got, ok := momentOf(e.ResourceVersion); !ok || got != want {
			t.Errorf("%s is of the moment %d, %v", e.Key, got, ok)
		}
	}
}
