// Package idlegc lets a server that has little to do collect its garbage every
// ten minutes. The Go runtime forces a collection of the whole heap two minutes
// after the last one, of as much as kube-apiserver holds: a seventh of what an idle
// server takes of a processor.
package idlegc

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// timing of a keeper.
type timing struct {
	look    time.Duration // between looks at what is allocated
	lasting time.Duration // how long what is free must last at the pace since the last look
	longest time.Duration // without a collection
}

// turn is held by the Run that works: the settings are the process's.
var turn = make(chan struct{}, 1)

// Run lets the runtime rest while little is allocated, until ctx ends. Then, and
// as soon as there is a collection, GOGC and the memory limit are as they were. At
// rest a collection begins where it would without: when the heap has grown to the
// goal that GOGC set. Where GOGC is off, or the memory limit is near, it does
// nothing. Nobody else may change these settings meanwhile; a second Run waits for
// the end of the first.
func Run(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case turn <- struct{}{}:
	}
	defer func() { <-turn }()
	run(ctx, timing{look: 15 * time.Second, lasting: 5 * time.Minute, longest: 10 * time.Minute}, func(bool) {})
}

// run reports each beginning and end of a rest.
func run(ctx context.Context, t timing, report func(resting bool)) {
	look := time.NewTicker(t.look)
	defer look.Stop()
	before := read()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		now := read()
		limit, ok := now.restingLimit(before, t)
		before = now
		if !ok {
			continue
		}
		collected := nextCollection() // before begin: no collection of the rest is missed
		end := begin(limit)
		report(true)
		longest := time.NewTimer(t.longest)
		select {
		case <-ctx.Done():
		case <-collected:
		case <-longest.C: // the runtime forces one now
		}
		longest.Stop()
		end()
		report(false)
		before = read()
		look.Reset(t.look)
	}
}

// begin has the memory limit start the next collection, not GOGC and not time,
// which the runtime looks at only where GOGC is on.
func begin(limit int64) (end func()) {
	oldLimit := debug.SetMemoryLimit(limit)
	oldPercent := debug.SetGCPercent(-1)
	return func() {
		debug.SetGCPercent(oldPercent)
		debug.SetMemoryLimit(oldLimit)
	}
}

// nextCollection is closed soon after the next collection that begins from now on.
func nextCollection() <-chan struct{} {
	collected := make(chan struct{})
	type sentinel struct{ self *sentinel } // with a pointer: it shares its memory with no other object
	s := new(sentinel)
	s.self = s
	runtime.AddCleanup(s, func(c chan struct{}) { close(c) }, collected)
	return collected
}

// state of the runtime, in bytes where not said otherwise.
type state struct {
	cycles    uint64 // collections so far
	allocated uint64 // so far
	objects   uint64 // live ones and garbage
	goal      uint64 // of the heap, at which a collection ends
	mapped    uint64 // what counts against the memory limit
	empty     uint64 // of that, spans of the heap without objects
	percent   uint64 // GOGC; the largest number if it is off
	limit     uint64
}

var names = []string{
	"/gc/cycles/total:gc-cycles",
	"/gc/heap/allocs:bytes",
	"/memory/classes/heap/objects:bytes",
	"/gc/heap/goal:bytes",
	"/memory/classes/total:bytes",
	"/memory/classes/heap/released:bytes",
	"/memory/classes/heap/free:bytes",
	"/gc/gogc:percent",
	"/gc/gomemlimit:bytes",
}

func read() state {
	samples := make([]metrics.Sample, len(names))
	for i, name := range names {
		samples[i].Name = name
	}
	metrics.Read(samples)
	value := func(i int) uint64 { return samples[i].Value.Uint64() }
	return state{
		cycles: value(0), allocated: value(1), objects: value(2), goal: value(3),
		mapped: value(4) - value(5), empty: value(6), percent: value(7), limit: value(8),
	}
}

// restingLimit is the memory limit at which the heap has about reached its goal;
// false where there is no rest: there was a collection just now, one is due soon,
// memory that a larger heap has left is still to be returned, which the runtime does
// by its goal, or the limit that is set would be exceeded.
func (s state) restingLimit(before state, t timing) (int64, bool) {
	if s.percent > math.MaxInt32 || s.cycles != before.cycles || s.goal <= s.objects {
		return 0, false
	}
	if s.objects+s.empty > s.goal+s.goal/4 {
		return 0, false
	}
	free := s.goal - s.objects
	if float64(s.allocated-before.allocated)*float64(t.lasting) > float64(free)*float64(t.look) {
		return 0, false
	}
	// From 95 % of the limit on the runtime returns memory all the time.
	limit := max(s.mapped+free, s.mapped/100*107)
	return int64(limit), limit <= s.limit && limit <= math.MaxInt64
}
