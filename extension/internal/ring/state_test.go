package ring

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"pgregory.net/rapid"
)

// TestScenarios tells what happens to a State and shows what it remembers.
// resourceVersions are written as microseconds and replica, 1000.1. The commands:
//
//	new at= [replica=] [after=] [age=] [events=] [most=]   an empty state
//	update at=       the lines of the input, key=value, are all that there is
//	put at= key= value=
//	remove at= key=
//	list             all objects as of now
//	at version=      all objects as of then
//	since version= [most=]
//	known            the verdict on each resourceVersion of the input
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		var s *State
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			return scenario(t, &s, d)
		})
	})
}

func scenario(t *testing.T, s **State, d *datadriven.TestData) string {
	number := func(key string, otherwise int) int {
		if d.HasArg(key) {
			d.ScanArgs(t, key, &otherwise)
		}
		return otherwise
	}
	text := func(key string) (value string) { d.ScanArgs(t, key, &value); return value }
	at := time.UnixMicro(int64(number("at", 0)))
	switch d.Cmd {
	case "new":
		after := uint64(0)
		if d.HasArg("after") {
			after = parseVersion(t, text("after"))
		}
		window := Window{
			Age:    time.Duration(number("age", 1_000_000)) * time.Microsecond,
			Events: number("events", 100), Most: number("most", 1000),
		}
		*s = NewState(at, Replica(number("replica", 1)), after, window, nil)
		return "begins at " + version((*s).Last())
	case "update":
		var objects []Object
		for line := range strings.Lines(d.Input) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			objects = append(objects, object(key, value))
		}
		return showEvents((*s).Update(at, objects))
	case "put":
		return showEvents((*s).Put(at, object(text("key"), text("value"))))
	case "remove":
		return showEvents((*s).Remove(at, text("key")))
	case "list":
		return version((*s).Last()) + "\n" + showObjects((*s).List())
	case "at":
		objects, ok := (*s).At(parseVersion(t, text("version")))
		if !ok {
			return "not known"
		}
		return showObjects(objects)
	case "since":
		events, ok := (*s).Since(parseVersion(t, text("version")), number("most", 1000))
		if !ok {
			return "forgotten"
		}
		return showEvents(events)
	case "known":
		var out strings.Builder
		for line := range strings.Lines(d.Input) {
			v := strings.TrimSpace(line)
			fmt.Fprintf(&out, "%s: %s\n", v, (*s).Known(parseVersion(t, v)))
		}
		return out.String()
	}
	d.Fatalf(t, "unknown command %q", d.Cmd)
	return ""
}

func object(key, value string) Object {
	return Object{Key: key, Object: &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: key}, Data: map[string]string{"value": value},
	}}
}

func valueOf(o runtime.Object) string { return o.(*corev1.ConfigMap).Data["value"] }

func version(v uint64) string { return fmt.Sprintf("%d.%d", v>>replicaBits, v&replicaMask) }

func parseVersion(t *testing.T, s string) uint64 {
	t.Helper()
	clock, replica, _ := strings.Cut(s, ".")
	c, err1 := strconv.ParseUint(clock, 10, 53)
	r, err2 := strconv.ParseUint(replica, 10, replicaBits)
	if err1 != nil || err2 != nil {
		t.Fatalf("%q is no resourceVersion", s)
	}
	return c<<replicaBits | r
}

func showObjects(objects []Object) string {
	var out strings.Builder
	for _, o := range objects {
		m := o.Object.(*corev1.ConfigMap)
		v, _ := strconv.ParseUint(m.ResourceVersion, 10, 64)
		fmt.Fprintf(&out, "%s=%s %s\n", o.Key, valueOf(o.Object), version(v))
	}
	return out.String()
}

func showEvents(events []Event) string {
	var out strings.Builder
	for _, e := range events {
		m := e.Object.(*corev1.ConfigMap)
		fmt.Fprintf(&out, "%s %s=%s %s", e.Type, e.Key, valueOf(e.Object), version(e.ResourceVersion))
		if m.ResourceVersion != strconv.FormatUint(e.ResourceVersion, 10) {
			fmt.Fprintf(&out, " but the object says %s", m.ResourceVersion)
		}
		if e.Previous != nil {
			fmt.Fprintf(&out, " was %s", valueOf(e.Previous))
		}
		out.WriteString("\n")
	}
	return out.String()
}

// step is a change to a State, drawn at random, at a time that may stand still or
// go back.
func step(t *rapid.T, s *State, now *time.Time) {
	*now = now.Add(time.Duration(rapid.IntRange(-3, 20).Draw(t, "microseconds")) * time.Microsecond)
	key := rapid.SampledFrom([]string{"a", "b", "c", "d"})
	value := rapid.SampledFrom([]string{"1", "2"})
	switch rapid.IntRange(0, 2).Draw(t, "step") {
	case 0:
		var objects []Object
		for k, v := range rapid.MapOf(key, value).Draw(t, "answer") {
			objects = append(objects, object(k, v))
		}
		s.Update(*now, objects)
	case 1:
		s.Put(*now, object(key.Draw(t, "key"), value.Draw(t, "value")))
	case 2:
		s.Remove(*now, key.Draw(t, "key"))
	}
}

func smallWindow(t *rapid.T) Window {
	return Window{
		Age:    time.Duration(rapid.IntRange(0, 50).Draw(t, "age")) * time.Microsecond,
		Events: rapid.IntRange(0, 8).Draw(t, "events"), Most: rapid.IntRange(8, 16).Draw(t, "most"),
	}
}

// TestReplayGivesThePresent: the events since any known resourceVersion lead from
// the list that was given with it to the objects of now; and the list that is
// asked for at it again is the same.
func TestReplayGivesThePresent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.UnixMicro(1000)
		s := NewState(now, 7, 0, smallWindow(t), nil)
		lists := map[uint64]string{s.Last(): ""}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			step(t, s, &now)
			lists[s.Last()] = showObjects(s.List())
		}
		known := 0
		for v, list := range lists {
			if s.Known(v) != Known {
				if _, ok := s.At(v); ok {
					t.Fatalf("%s is not known, but there is a list at it", version(v))
				}
				continue
			}
			known++
			then, ok := s.At(v)
			if !ok {
				t.Fatalf("%s is known, but there is no list at it", version(v))
			}
			if diff := cmp.Diff(list, showObjects(then)); diff != "" {
				t.Fatalf("the list at %s is not what it was (-was +is):\n%s", version(v), diff)
			}
			events, ok := s.Since(v, 1000)
			if !ok {
				t.Fatalf("%s is known, but events after it are forgotten", version(v))
			}
			if diff := cmp.Diff(showObjects(s.List()), showObjects(replay(t, then, events))); diff != "" {
				t.Fatalf("events since %s lead elsewhere (-present +replayed):\n%s", version(v), diff)
			}
		}
		if known == 0 {
			t.Fatal("not even the latest resourceVersion is known")
		}
	})
}

// replay does what a client does with a list and events, and complains as it would.
func replay(t *rapid.T, then []Object, events []Event) []Object {
	objects := map[string]runtime.Object{}
	for _, o := range then {
		objects[o.Key] = o.Object
	}
	for _, e := range events {
		old, exists := objects[e.Key]
		if exists != (e.Type != watch.Added) || exists && old != e.Previous {
			t.Fatalf("%s of %s does not fit what is there", e.Type, e.Key)
		}
		objects[e.Key] = e.Object
		if e.Type == watch.Deleted {
			delete(objects, e.Key)
		}
	}
	return sorted(objects)
}

// TestVersionsGrow: with every event, whatever the clock does.
func TestVersionsGrow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.UnixMicro(1000)
		s := NewState(now, Replica(rapid.Uint16().Draw(t, "replica")), 0, Window{Events: 1000, Most: 1000}, nil)
		last := s.Last()
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			step(t, s, &now)
			events, ok := s.Since(last, 1000)
			if !ok {
				t.Fatal("events are forgotten in the window")
			}
			for _, e := range events {
				if e.ResourceVersion <= last {
					t.Fatalf("%s comes after %s", version(e.ResourceVersion), version(last))
				}
				last = e.ResourceVersion
			}
			if last != s.Last() {
				t.Fatalf("the last event has %s, the list %s", version(last), version(s.Last()))
			}
		}
	})
}

// TestVersionsGrowAcrossRestarts: the next process begins later than all that the
// one before issued, if its clock is not behind that, or if it is told; and it does not take
// for its own what the other issued.
func TestVersionsGrowAcrossRestarts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.UnixMicro(1000)
		replica := rapid.Uint16().Draw(t, "replica")
		before := NewState(now, Replica(replica), 0, smallWindow(t), nil)
		issued := []uint64{before.Last()}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			step(t, before, &now)
			issued = append(issued, before.Last())
		}
		after := uint64(0)
		start := time.UnixMicro(int64(before.Last()>>replicaBits) + rapid.Int64Range(1, 100).Draw(t, "down"))
		if rapid.Bool().Draw(t, "clock set back") {
			start = time.UnixMicro(rapid.Int64Range(-5, 1000).Draw(t, "clock"))
			after = before.Last()
		}
		s := NewState(start, Replica(replica+uint16(rapid.IntRange(0, 1).Draw(t, "other"))), after, smallWindow(t), nil)
		s.Put(start, object("a", "1"))
		for _, v := range issued {
			if v >= s.start {
				t.Fatalf("%s was issued before the restart, %s after", version(v), version(s.start))
			}
			if got := s.Known(v); got != TooOld {
				t.Fatalf("%s of the process before is %s", version(v), got)
			}
		}
	})
}

// TestKnownIsExact: every resourceVersion within reach is judged as a list of all
// that was issued judges it.
func TestKnownIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.UnixMicro(1000)
		s := NewState(now, 7, 0, smallWindow(t), nil)
		issued := []uint64{s.Last()}
		for range rapid.IntRange(0, 12).Draw(t, "steps") {
			step(t, s, &now)
			events, _ := s.Since(max(issued[len(issued)-1], s.Oldest()), 1000)
			for _, e := range events {
				issued = append(issued, e.ResourceVersion)
			}
		}
		for clock := uint64(990); clock < s.Last()>>replicaBits+5; clock++ {
			for _, replica := range []uint64{6, 7, 8} {
				v := clock<<replicaBits | replica
				want := Unknown
				switch {
				case v > s.Last() && replica == 7:
					want = Ahead
				case v > s.Last():
					want = AheadElsewhere
				case v < issued[0], replica == 7 && v < s.Oldest():
					want = TooOld
				case slices.Contains(issued, v):
					want = Known
				}
				if got := s.Known(v); got != want {
					t.Fatalf("%s is %s, want %s", version(v), got, want)
				}
			}
		}
	})
}

// TestUpdateOrder: deletions, changes, additions, each by key.
func TestUpdateOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewState(time.UnixMicro(1), 1, 0, DefaultWindow(), nil)
		answers := rapid.SliceOfN(rapid.MapOf(rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}), rapid.SampledFrom([]string{"1", "2"})), 2, 2).Draw(t, "answers")
		var events []Event
		for _, answer := range answers {
			var objects []Object
			for _, k := range rapid.Permutation(slices.Sorted(maps.Keys(answer))).Draw(t, "order") {
				objects = append(objects, object(k, answer[k]))
			}
			events = s.Update(time.UnixMicro(2), objects)
		}
		rank := map[watch.EventType]string{watch.Deleted: "1", watch.Modified: "2", watch.Added: "3"}
		if !slices.IsSortedFunc(events, func(a, b Event) int {
			return strings.Compare(rank[a.Type]+a.Key, rank[b.Type]+b.Key)
		}) {
			t.Fatalf("the order is\n%s", showEvents(events))
		}
	})
}

// TestWhatComesInIsCopied: the state does not change with an object that it was
// given, nor that object with the state.
func TestWhatComesInIsCopied(t *testing.T) {
	s := NewState(time.UnixMicro(1), 1, 0, DefaultWindow(), nil)
	given := object("a", "1")
	s.Put(time.UnixMicro(2), given)
	if v := given.Object.(*corev1.ConfigMap).ResourceVersion; v != "" {
		t.Errorf("the given object got the resourceVersion %s", v)
	}
	given.Object.(*corev1.ConfigMap).Data["value"] = "2"
	if remembered, _ := s.Get("a"); valueOf(remembered) != "1" {
		t.Error("what is remembered changed with the given object")
	}
	if events := s.Put(time.UnixMicro(3), given); len(events) != 1 || valueOf(events[0].Previous) != "1" {
		t.Errorf("the change came as %s", showEvents(events))
	}
	given.Object.(*corev1.ConfigMap).Data["value"] = "3"
	if remembered, _ := s.Get("a"); valueOf(remembered) != "2" {
		t.Error("what was changed changed again with the given object")
	}
}

// TestForgottenObjectsAreLetGo, although their events' places are used again only
// later.
func TestForgottenObjectsAreLetGo(t *testing.T) {
	s := NewState(time.UnixMicro(1), 1, 0, Window{Most: 1}, nil)
	s.events = make([]Event, 0, 8)
	s.Put(time.UnixMicro(2), object("a", "1"))
	places := s.events
	s.Put(time.UnixMicro(3), object("a", "2"))
	s.Put(time.UnixMicro(4), object("a", "3"))
	if len(s.events) != 1 || places[0].Object != nil {
		t.Errorf("%d events are remembered, and the object of the first is %v", len(s.events), places[0].Object)
	}
}

// TestOwnEqual: what the kind calls the same is no event.
func TestOwnEqual(t *testing.T) {
	s := NewState(time.UnixMicro(1), 1, 0, DefaultWindow(), func(a, b runtime.Object) bool {
		return len(valueOf(a)) == len(valueOf(b))
	})
	s.Put(time.UnixMicro(2), object("a", "12"))
	if events := s.Put(time.UnixMicro(3), object("a", "34")); len(events) != 0 {
		t.Errorf("an object that is the same made %s", showEvents(events))
	}
	latest := func(want string) {
		t.Helper()
		got := ""
		if o, ok := s.Latest("a", s.Last()); ok {
			got = valueOf(o)
		}
		if got != want {
			t.Errorf("what came since is %q, want %q", got, want)
		}
	}
	latest("34")
	if _, ok := s.Latest("a", s.Last()-1); ok {
		t.Error("it came after what was there earlier")
	}
	if was := valueOf(s.List()[0].Object); was != "12" {
		t.Errorf("watchers are shown %q", was)
	}
	if events := s.Put(time.UnixMicro(3), object("a", "345")); len(events) != 1 {
		t.Errorf("an object that is not the same made %d events", len(events))
	}
	latest("")
	s.Put(time.UnixMicro(4), object("a", "678"))
	latest("678")
	s.Remove(time.UnixMicro(5), "a")
	latest("")
	if len(s.latest) != 0 {
		t.Errorf("%d objects are kept of what is gone", len(s.latest))
	}
}
