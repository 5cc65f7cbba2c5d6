package devloop

import (
	"fmt"
	"slices"
)

// state is what the loop knows. It is a value: next changes a copy.
type state struct {
	// building says that a build runs, saved that it is behind: a file was saved since it began.
	building, saved bool
	// started counts the servers, which are known by their number.
	started int
	// serving is the one that clients get, starting the one that is to follow it; 0 is none.
	serving, starting server
	// leaving were told to stop.
	leaving  []int
	stopping bool
}

// server is a process of the project's program.
type server struct {
	number int
	// sum tells programs with other bytes apart.
	sum string
}

func (s server) exists() bool { return s.number != 0 }

// event is what happened.
type event interface{ isEvent() }

type (
	// saved: a file of the project changed.
	saved struct{}
	// built: a build made a program with this sum.
	built struct{ sum string }
	// notBuilt: a build failed.
	notBuilt struct{ why string }
	// ready: a server can serve.
	ready struct{ server int }
	// late: a server should be ready by now.
	late struct{ server int }
	// ended: a server's process is gone.
	ended struct {
		server int
		why    string
	}
	// stop: everything is to end.
	stop struct{}
)

func (saved) isEvent()    {}
func (built) isEvent()    {}
func (notBuilt) isEvent() {}
func (ready) isEvent()    {}
func (late) isEvent()     {}
func (ended) isEvent()    {}
func (stop) isEvent()     {}

// action is what the shell has to do.
type action interface{ isAction() }

type (
	// build begins a build.
	build struct{}
	// start starts the program that was built last.
	start struct{ server int }
	// retire asks a server to finish what it has and to end.
	retire struct{ server int }
	// hurry ends a server soon.
	hurry struct{ server int }
	// say tells the developer.
	say struct {
		bad  bool
		text string
	}
	// finish: nothing runs any more.
	finish struct{}
)

func (build) isAction()  {}
func (start) isAction()  {}
func (retire) isAction() {}
func (hurry) isAction()  {}
func (say) isAction()    {}
func (finish) isAction() {}

// next decides.
func next(s state, e event) (state, []action) {
	s.leaving = slices.Clone(s.leaving)
	var actions []action
	switch e := e.(type) {
	case saved:
		actions = s.onSaved()
	case built:
		actions = s.onBuilt(e.sum)
	case notBuilt:
		actions = s.onNotBuilt(e.why)
	case ready:
		actions = s.onReady(e.server)
	case late:
		actions = s.onLate(e.server)
	case ended:
		actions = s.onEnded(e.server, e.why)
	case stop:
		actions = s.onStop()
	}
	if s.stopping && !s.building && !s.serving.exists() && !s.starting.exists() && len(s.leaving) == 0 {
		actions = append(actions, finish{})
	}
	return s, actions
}

func (s *state) onSaved() []action {
	switch {
	case s.stopping:
		return nil
	case s.building:
		s.saved = true
		return nil
	}
	s.building = true
	return []action{build{}}
}

// behind begins another build in place of using the one that has just ended, where that is behind
// what was saved.
func (s *state) behind() []action {
	s.building = false
	if s.stopping || !s.saved {
		return nil
	}
	s.building, s.saved = true, false
	return []action{build{}}
}

func (s *state) onBuilt(sum string) []action {
	if again := s.behind(); again != nil || s.stopping {
		return again
	}
	newest := s.starting
	if !newest.exists() {
		newest = s.serving
	}
	if newest.exists() && newest.sum == sum {
		return []action{say{text: "built: the program is the same as before"}}
	}
	var actions []action
	if s.starting.exists() {
		actions = append(actions, s.leave(&s.starting))
	}
	s.started++
	s.starting = server{number: s.started, sum: sum}
	return append(actions, start{s.started})
}

func (s *state) onNotBuilt(why string) []action {
	if again := s.behind(); again != nil || s.stopping {
		return again
	}
	return []action{say{bad: true, text: "it does not build" + s.meanwhile() + "\n" + why}}
}

func (s *state) onReady(number int) []action {
	if number != s.starting.number || s.stopping {
		return nil
	}
	var actions []action
	text := fmt.Sprintf("server %d serves", number)
	if s.serving.exists() {
		text += fmt.Sprintf(" in place of server %d", s.serving.number)
		actions = append(actions, s.leave(&s.serving))
	}
	s.serving, s.starting = s.starting, server{}
	return append([]action{say{text: text}}, actions...)
}

func (s *state) onLate(number int) []action {
	if number != s.starting.number || s.stopping {
		return nil
	}
	gone := s.leave(&s.starting)
	return []action{say{bad: true, text: fmt.Sprintf("server %d is not ready in time and is given up", number) + s.meanwhile()}, gone}
}

func (s *state) onEnded(number int, why string) []action {
	s.leaving = slices.DeleteFunc(s.leaving, func(n int) bool { return n == number })
	switch number {
	case s.starting.number:
		s.starting = server{}
		return s.unlessStopping(fmt.Sprintf("server %d ended before it was ready (%s)", number, why) + s.meanwhile())
	case s.serving.number:
		s.serving = server{}
		return s.unlessStopping(fmt.Sprintf("server %d ended (%s)", number, why) + s.meanwhile())
	}
	return nil
}

func (s *state) unlessStopping(text string) []action {
	if s.stopping {
		return nil
	}
	return []action{say{bad: true, text: text}}
}

func (s *state) onStop() []action {
	s.stopping, s.saved = true, false
	var actions []action
	for _, one := range []*server{&s.serving, &s.starting} {
		if one.exists() {
			s.leaving = append(s.leaving, one.number)
			*one = server{}
		}
	}
	for _, number := range s.leaving {
		actions = append(actions, hurry{number})
	}
	return actions
}

// leave retires a server.
func (s *state) leave(one *server) action {
	number := one.number
	s.leaving = append(s.leaving, number)
	*one = server{}
	return retire{number}
}

// meanwhile says who serves after something went wrong.
func (s *state) meanwhile() string {
	switch {
	case s.serving.exists() && s.starting.exists():
		return fmt.Sprintf("; server %d goes on, and server %d is starting", s.serving.number, s.starting.number)
	case s.serving.exists():
		return fmt.Sprintf("; server %d goes on", s.serving.number)
	case s.starting.exists():
		return fmt.Sprintf("; server %d is starting", s.starting.number)
	}
	return "; nothing serves until something is saved"
}
