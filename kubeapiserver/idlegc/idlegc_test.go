package idlegc

import (
	"context"
	"errors"
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestRestingLimit(t *testing.T) {
	const mib = 1 << 20
	times := timing{look: time.Second, lasting: 10 * time.Second}
	idle := state{cycles: 3, allocated: 500 * mib, objects: 100 * mib, goal: 200 * mib, mapped: 250 * mib, percent: 100, limit: math.MaxInt64}
	for name, c := range map[string]struct {
		change func(before, now *state)
		want   int64
		ok     bool
	}{
		"idle":                           {func(_, now *state) { now.allocated += mib }, 350 * mib, true},
		"allocates as much as may be":    {func(_, now *state) { now.allocated += 10 * mib }, 350 * mib, true},
		"allocates more":                 {func(_, now *state) { now.allocated += 11 * mib }, 0, false},
		"a collection just now":          {func(_, now *state) { now.cycles++ }, 0, false},
		"a collection is due":            {func(_, now *state) { now.goal = now.objects }, 0, false},
		"little is free":                 {func(_, now *state) { now.objects = 195 * mib }, 250 * mib / 100 * 107, true},
		"a larger heap's memory is free": {func(_, now *state) { now.empty = 151 * mib }, 0, false},
		"some of it is free":             {func(_, now *state) { now.empty = 150 * mib }, 350 * mib, true},
		"GOGC is off":                    {func(_, now *state) { now.percent = math.MaxUint64 }, 0, false},
		"the memory limit is far":        {func(_, now *state) { now.limit = 350 * mib }, 350 * mib, true},
		"the memory limit would be less": {func(_, now *state) { now.limit = 349 * mib }, 0, false},
	} {
		before, now := idle, idle
		c.change(&before, &now)
		if got, ok := now.restingLimit(before, times); ok != c.ok || ok && got != c.want {
			t.Errorf("%s: %d MiB, %t; want %d MiB, %t", name, got/mib, ok, c.want/mib, c.ok)
		}
	}
}

// short times of a keeper.
func short(longest time.Duration) timing {
	return timing{look: 10 * time.Millisecond, lasting: 50 * time.Millisecond, longest: longest}
}

// rests runs with short times, and returns what waits for the next beginning or
// end of a rest, and gives the runtime's state at that moment.
func rests(t *testing.T, longest time.Duration) (await func(resting bool) state, stop func()) {
	t.Helper()
	type change struct {
		resting bool
		state   state
	}
	ctx, cancel := context.WithCancel(t.Context())
	changes, done := make(chan change, 1000), make(chan struct{})
	go func() {
		defer close(done)
		run(ctx, short(longest), func(resting bool) { changes <- change{resting, read()} })
	}()
	await = func(resting bool) state {
		t.Helper()
		select {
		case got := <-changes:
			if got.resting != resting {
				t.Fatalf("rest: %t, want %t", got.resting, resting)
			}
			return got.state
		case <-time.After(30 * time.Second):
			t.Fatalf("no report of rest: %t", resting)
			return state{}
		}
	}
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return await, stop
}

func checkUsual(t *testing.T, s state) {
	t.Helper()
	if s.percent != 100 || s.limit != math.MaxInt64 {
		t.Errorf("GOGC is %d and the memory limit %d, as if at rest", s.percent, s.limit)
	}
}

func TestRestEndsWithACollection(t *testing.T) {
	await, stop := rests(t, time.Minute)
	if s := await(true); s.percent <= math.MaxInt32 || s.limit == math.MaxInt64 {
		t.Errorf("at rest GOGC is %d and the memory limit %d", s.percent, s.limit)
	}
	runtime.GC()
	checkUsual(t, await(false))
	await(true)
	stop()
	checkUsual(t, await(false))
}

// TestACollectionAtOnceEndsTheRest has the collection begin before run waits for it.
func TestACollectionAtOnceEndsTheRest(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	run(ctx, short(time.Minute), func(resting bool) {
		if resting {
			runtime.GC()
		} else {
			cancel()
		}
	})
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Error("the collection did not end the rest")
	}
}

func TestRestIsNotForEver(t *testing.T) {
	await, _ := rests(t, 50*time.Millisecond)
	await(true)
	checkUsual(t, await(false))
	await(true)
}

var held [][]byte

// A load of which next to nothing lives on: a collection is due by the heap's
// size alone. How far the heap grows until it ends is up to the processors.
func TestALoadEndsTheRest(t *testing.T) {
	const live, most = 64, 8 << 10 // MiB
	held = make([][]byte, live)
	defer func() { held = nil }()
	allocate := func(i int) {
		piece := make([]byte, 1<<20)
		for at := 0; at < len(piece); at += 4 << 10 {
			piece[at] = 1
		}
		held[i%live] = piece
	}
	for i := range live {
		allocate(i)
	}
	runtime.GC()
	await, _ := rests(t, time.Minute)
	before := await(true)
	for i := 0; read().percent > math.MaxInt32; i++ {
		if i > most {
			t.Fatalf("still at rest after %d MiB were allocated; %d collections", most, read().cycles-before.cycles)
		}
		allocate(i)
	}
	if read().cycles == before.cycles {
		t.Error("the rest was over before a collection")
	}
	await(false)
}

func TestWithoutGOGCThereIsNoRest(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	_, stop := rests(t, time.Minute)
	time.Sleep(100 * time.Millisecond)
	if s := read(); s.limit != math.MaxInt64 {
		t.Errorf("the memory limit is %d", s.limit)
	}
	stop()
}
