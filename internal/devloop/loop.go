// Package devloop keeps the server of a project running while its files change: it builds, starts
// the new server beside the old one, and retires the old one once the new one is ready.
//
// What happens when is decided by next, which does nothing itself; Loop does it.
package devloop

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// The defaults of Loop.
const (
	// DefaultPatience is how long a new server may take to become ready.
	DefaultPatience = 30 * time.Second
	// DefaultDrain is more than the longest request that is no stream, and the wait for watches.
	DefaultDrain = 45 * time.Second
	// DefaultHurry is how long the end waits for servers.
	DefaultHurry = 8 * time.Second
)

// Server is a running process of the project's program.
type Server interface {
	// Ready is closed once it can serve, Ended once the process is gone. Err says how it went, after Ended.
	Ready() <-chan struct{}
	Ended() <-chan struct{}
	Err() error
	// Stop asks it to end, makes it after grace, and waits for that. It may be called again to be less patient.
	Stop(grace time.Duration) error
}

// Project is what is developed.
type Project interface {
	// Build makes the program of what is saved now, and gives a sum of its bytes. Its error is for
	// the developer to read. One build runs at a time.
	Build(ctx context.Context) (sum string, err error)
	// Start starts the program that was built last. No build runs meanwhile.
	Start(number int) (Server, error)
	// Say tells the developer something; bad is what he has to look at.
	Say(bad bool, text string)
}

// Loop is a project and its bounds; zero values mean the defaults.
type Loop struct {
	Project Project
	// Saved gets something for each change that is to be built.
	Saved                  <-chan struct{}
	Patience, Drain, Hurry time.Duration
}

// Run builds and serves until ctx ends, and returns once nothing runs any more.
func (l Loop) Run(ctx context.Context) error {
	if l.Patience == 0 {
		l.Patience = DefaultPatience
	}
	if l.Drain == 0 {
		l.Drain = DefaultDrain
	}
	if l.Hurry == 0 {
		l.Hurry = DefaultHurry
	}
	r := &run{Loop: l, events: make(chan event), servers: map[int]Server{}}
	err := r.run(ctx)
	r.group.Wait()
	return errors.Join(err, r.stopped)
}

// run is one run of a loop. What is not events belongs to one goroutine.
type run struct {
	Loop
	state   state
	servers map[int]Server
	events  chan event
	group   sync.WaitGroup

	once    sync.Once
	stopped error // the first failure to stop a server; read when group is done
}

func (r *run) run(ctx context.Context) error {
	finished := r.apply(ctx, saved{})
	done := ctx.Done()
	for !finished {
		select {
		case <-done:
			done = nil
			finished = r.apply(ctx, stop{})
		case <-r.Saved:
			finished = r.apply(ctx, saved{})
		case e := <-r.events:
			finished = r.apply(ctx, e)
		}
	}
	return nil
}

// apply does what follows from an event, and from what fails at that. It reports the end.
func (r *run) apply(ctx context.Context, e event) (finished bool) {
	for queue := []event{e}; len(queue) > 0; queue = queue[1:] {
		var actions []action
		r.state, actions = next(r.state, queue[0])
		for _, a := range actions {
			switch a := a.(type) {
			case build:
				r.group.Go(func() { r.events <- r.build(ctx) })
			case start:
				if err := r.start(a.server); err != nil {
					queue = append(queue, ended{a.server, err.Error()})
				}
			case retire:
				r.stop(a.server, r.Drain)
			case hurry:
				r.stop(a.server, r.Hurry)
			case say:
				r.Project.Say(a.bad, a.text)
			case finish:
				finished = true
			}
		}
		if over, ok := queue[0].(ended); ok {
			delete(r.servers, over.server)
		}
	}
	return finished
}

func (r *run) build(ctx context.Context) event {
	sum, err := r.Project.Build(ctx)
	if err != nil {
		return notBuilt{err.Error()}
	}
	return built{sum}
}

func (r *run) start(number int) error {
	s, err := r.Project.Start(number)
	if err != nil {
		return err
	}
	r.servers[number] = s
	r.group.Go(func() {
		r.follow(number, s)
		<-s.Ended()
		why := "exit code 0"
		if err := s.Err(); err != nil {
			why = err.Error()
		}
		r.events <- ended{number, why}
	})
	return nil
}

// follow reports that a server is ready, or late.
func (r *run) follow(number int, s Server) {
	patience := time.NewTimer(r.Patience)
	defer patience.Stop()
	select {
	case <-s.Ready():
		r.events <- ready{number}
	case <-patience.C:
		r.events <- late{number}
	case <-s.Ended():
	}
}

func (r *run) stop(number int, grace time.Duration) {
	s := r.servers[number]
	r.group.Go(func() {
		if err := s.Stop(grace); err != nil {
			r.once.Do(func() { r.stopped = fmt.Errorf("stop server %d: %w", number, err) })
		}
	})
}
