// Package work holds what is measured on an API server. To add a work, write a
// type with the methods of Work and name it in All.
package work

import (
	"context"

	"github.com/annex-api/annex/bench/internal/host"
)

// Config says how much of everything is done; all numbers are positive.
type Config struct {
	APIServices int // registered before the first work
	Requests    int // of the small works; lists and discovery do a quarter
	Concurrency int // requests under way at a time
	Watches     int // idle ones
	IdleSeconds int
	// EventWatches each get EventRate events a second for EventSeconds.
	EventWatches, EventRate, EventSeconds int
	// Profiles is a folder for processor profiles of the servers, taken while
	// requests run, which then cost more; empty for none.
	Profiles string
}

// Metric is one measured value. Less is better.
type Metric struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit"`
	Value float64 `json:"value"`
	// Goal is the ratio to the reference that is aimed at; 0 means none.
	Goal float64 `json:"goal,omitempty"`
	// BareGoal is the same of the ratio to the bare proxy.
	BareGoal float64 `json:"bareGoal,omitempty"`
}

// Work measures one thing on a server that is ready and has the extension
// server registered. An error ends the benchmark.
type Work interface {
	Name() string
	// Layer tells whether the work goes through the layer alone, so that a bare
	// proxy can do it too.
	Layer() bool
	Run(context.Context, *host.Host, Config) ([]Metric, error)
}

// Parts is how many times the servers take turns within a Parted work.
const Parts = 10

// Parted is a work that servers do in parts, in turn: what a machine below this one
// takes away for a minute, it takes from all of them.
type Parted interface {
	Work
	// Begin makes ready.
	Begin(context.Context, *host.Host, Config) (*Turns, error)
}

// IsBefore says whether a work is to be done before APIServices are registered.
func IsBefore(w Work) bool {
	b, ok := w.(interface{ Before() bool })
	return ok && b.Before()
}

// Split parts works that leave the server alone, which servers do side by side,
// from the others.
func Split(works []Work) (rest, others []Work) {
	for _, w := range works {
		if r, ok := w.(interface{ Rest() bool }); ok && r.Rest() {
			rest = append(rest, w)
		} else {
			others = append(others, w)
		}
	}
	return rest, others
}

// All is every work, in the order in which they run on one server: those of
// rest on one of their own. What is measured in memory comes before what fills
// the heap.
func All() []Work {
	return []Work{
		emptyIdle{},
		idle{},
		start{},
		watches{},
		builtinGet(),
		proxiedGet(),
		proxiedWrites(),
		proxiedList(),
		watchEvents{},
		aggregatedDiscovery(),
		compressedDiscovery(),
		memory{},
	}
}

const mebibyte = 1 << 20
