package refresh

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// read gives how long a reader waited, and what ends its reading.
func read(t *testing.T, d *Demand) (time.Duration, func()) {
	t.Helper()
	before := time.Now()
	done := d.Read(t.Context())
	return time.Since(before), done
}

func TestNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, d, changed := &lab{}, NewDemand(2*time.Second), make(chan struct{})
		l.run(t, Config{Every: 2 * time.Second, Demand: d, Changed: changed})
		for range 10 {
			time.Sleep(time.Minute)
			changed <- struct{}{}
		}
		l.wantCalls(t, 0)
	})
}

// A reader who comes for once has an answer that is not too old, and no more is asked for.
func TestReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(context.Context, int) error { time.Sleep(100 * time.Millisecond); return nil }
		l, d, changed := &lab{list: slow}, NewDemand(2*time.Second), make(chan struct{})
		l.run(t, Config{Every: 2 * time.Second, Demand: d, Changed: changed})
		time.Sleep(time.Second)
		if waited, done := read(t, d); waited != 0 {
			t.Errorf("waited %v for an answer of a second ago", waited)
		} else {
			done()
			done()
		}
		l.wantCalls(t, 0)

		time.Sleep(time.Hour)
		waited, done := read(t, d)
		if done(); waited != 100*time.Millisecond {
			t.Errorf("waited %v for an answer of an hour ago, want that of the call", waited)
		}
		time.Sleep(time.Hour)
		l.wantCalls(t, 0, time.Hour+time.Second)

		_, done = read(t, d)
		done()
		changed <- struct{}{}
		synctest.Wait() // it is noticed
		if waited, done := read(t, d); waited != 100*time.Millisecond {
			t.Errorf("waited %v after a change", waited)
		} else {
			done()
		}
	})
}

// While somebody watches, List is called as if there were no Demand.
func TestReadOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, d, changed := &lab{}, NewDemand(2*time.Second), make(chan struct{})
		l.run(t, Config{Every: 2 * time.Second, Demand: d, Changed: changed})
		time.Sleep(time.Second)
		_, done := read(t, d)
		time.Sleep(5*time.Second + 500*time.Millisecond)
		changed <- struct{}{}
		time.Sleep(time.Second)
		done()
		time.Sleep(time.Hour)
		l.wantCalls(t, 0, 2*time.Second, 4*time.Second, 6*time.Second, 6*time.Second+500*time.Millisecond+burst)
	})
}

// A change during a call is seen by one more call, if anybody still reads.
func TestChangeDuringACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(context.Context, int) error { time.Sleep(100 * time.Millisecond); return nil }
		l, d, changed := &lab{list: slow}, NewDemand(time.Minute), make(chan struct{})
		l.run(t, Config{Every: time.Minute, Demand: d, Changed: changed})
		time.Sleep(50 * time.Millisecond)
		changed <- struct{}{}
		time.Sleep(time.Second)
		l.wantCalls(t, 0)
		_, done := read(t, d)
		defer done()
		changed <- struct{}{}
		time.Sleep(50 * time.Millisecond)
		changed <- struct{}{}
		time.Sleep(time.Second)
		l.wantCalls(t, 0, 1050*time.Millisecond, 1150*time.Millisecond+burst, 1250*time.Millisecond+2*burst)
	})
}

// A reader does not wait for long, neither for a List that takes long nor for one that fails.
func TestReadIsNotHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failing := errors.New("no answer")
		l, d := &lab{}, NewDemand(2*time.Second)
		l.list = func(_ context.Context, call int) error {
			switch call {
			case 1:
				return nil
			case 2:
				time.Sleep(10 * time.Second)
			}
			return failing
		}
		l.run(t, Config{Every: 2 * time.Second, Demand: d})
		time.Sleep(time.Minute)
		waited, done := read(t, d)
		if done(); waited != patience {
			t.Errorf("waited %v for a List that takes 10 s", waited)
		}
		time.Sleep(10*time.Second + time.Millisecond)
		waited, done = read(t, d)
		if done(); waited > patience {
			t.Errorf("waited %v for a List that fails", waited)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		before := time.Now()
		if d.Read(ctx)(); time.Since(before) != 0 {
			t.Error("a reader who has gone is waited for")
		}
	})
}
