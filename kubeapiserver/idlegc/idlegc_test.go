package idlegc

import (
	"context"
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

// rests runs with short times, and returns what waits for the next beginning or
// end of a rest.
func rests(t *testing.T, longest time.Duration) (await func(resting bool), stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	reports, done := make(chan bool, 1000), make(chan struct{})
	go func() {
		defer close(done)
		run(ctx, timing{look: 10 * time.Millisecond, lasting: 50 * time.Millisecond, longest: longest}, func(resting bool) { reports <- resting })
	}()
	await = func(resting bool) {
		t.Helper()
		select {
		case got := <-reports:
			if got != resting {
				t.Fatalf("rest: %t, want %t", got, resting)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("no report of rest: %t", resting)
		}
	}
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return await, stop
}

func usual(t *testing.T) {
	t.Helper()
	if s := read(); s.percent != 100 || s.limit != math.MaxInt64 {
		t.Errorf("GOGC is %d and the memory limit %d, as if at rest", s.percent, s.limit)
	}
}

func TestRestEndsWithACollection(t *testing.T) {
	await, stop := rests(t, time.Minute)
	await(true)
	if s := read(); s.percent <= math.MaxInt32 || s.limit == math.MaxInt64 {
		t.Errorf("at rest GOGC is %d and the memory limit %d", s.percent, s.limit)
	}
	runtime.GC()
	await(false)
	usual(t)
	await(true)
	stop()
	await(false)
	usual(t)
}

func TestRestIsNotForEver(t *testing.T) {
	await, _ := rests(t, 50*time.Millisecond)
	await(true)
	await(false)
	usual(t)
	await(true)
}

var held [][]byte

func TestALoadEndsTheRest(t *testing.T) {
	held = make([][]byte, 64) // 64 MiB
	for i := range held {
		held[i] = make([]byte, 1<<20)
	}
	defer func() { held = nil }()
	runtime.GC()
	await, _ := rests(t, time.Minute)
	await(true)
	before := read()
	for range 16 {
		for i := range held {
			held[i] = make([]byte, 1<<20)
		}
	}
	await(false)
	after := read()
	if n := after.cycles - before.cycles; n < 5 || n > 100 {
		t.Errorf("%d collections of 1 GiB of garbage", n)
	}
	if after.objects > 4*64<<20 {
		t.Errorf("a heap of %d MiB for 64", after.objects>>20)
	}
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
