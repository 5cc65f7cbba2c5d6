package sqlbackend

import (
	"errors"
	"testing"
	"time"

	"github.com/k3s-io/kine/pkg/server"
)

func TestADatabaseThatHasGoneBackIsFoundOut(t *testing.T) {
	seen := row{revision: 9, name: "/k", previous: 4}
	same := map[int64]row{9: seen, 10: {revision: 10, name: "gap-10"}}
	for name, c := range map[string]struct {
		newest    *row
		compacted int64
		found     map[int64]row
		lost      bool
	}{
		"as it was":                              {&seen, 3, same, false},
		"as it was, and no event was sent":       {nil, 3, same, false},
		"without its end":                        {&seen, 3, map[int64]row{9: seen}, true},
		"without its end, and no event was sent": {nil, 3, nil, true},
		"with another event in its place":        {&seen, 3, map[int64]row{9: {revision: 9, name: "/other", previous: 4}, 10: same[10]}, true},
		"with another change in its place":       {&seen, 3, map[int64]row{9: {revision: 9, name: "/k", previous: 8}, 10: same[10]}, true},
		"compacted up to the event":              {&seen, 9, map[int64]row{10: same[10]}, false},
		"compacted up to where watches are":      {&seen, 10, nil, false},
		"compacted beyond":                       {&seen, 11, same, true},
	} {
		if err := compare(10, c.newest, c.compacted, c.found); errors.Is(err, errLost) != c.lost {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHowFarWatchesHaveCome(t *testing.T) {
	var h History
	h.reached(5)
	h.sent(server.EventBatch{CurrentRev: 8, Events: []*server.Event{
		{KV: &server.KeyValue{Key: "/a", ModRevision: 7}},
		{KV: &server.KeyValue{Key: "/b", ModRevision: 8}, PrevKV: &server.KeyValue{ModRevision: 2}},
	}})
	h.reached(6) // a poll that began before
	if at, newest := h.known(); at != 8 || *newest != (row{8, "/b", 2}) {
		t.Errorf("at %d, %v", at, newest)
	}
	h.forget()
	if at, newest := h.known(); at != 0 || newest != nil {
		t.Errorf("after all is forgotten: at %d, %v", at, newest)
	}
}

func TestWatchesThatComeNoFurtherAreSilent(t *testing.T) {
	var s silence
	now := time.Now()
	for i, c := range []struct {
		watched, current int64
		want             time.Duration // a second passes before each
	}{
		{5, 5, 0},
		{5, 6, time.Second},
		{5, 9, 2 * time.Second},
		{6, 12, 0}, // behind, but on their way
		{6, 12, time.Second},
		{12, 12, 0},
		{12, 12, 0},
		{12, 13, time.Second},
	} {
		now = now.Add(time.Second)
		if got := s.of(c.watched, c.current, now); got != c.want {
			t.Errorf("step %d: silent for %v, want %v", i, got, c.want)
		}
	}
}
