package refresh

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
)

// lab is a List with its Target. Times are since its beginning.
type lab struct {
	mu    sync.Mutex
	began time.Time
	calls []time.Duration
	busy  bool
	twice bool
	// list is what List does.
	list func(ctx context.Context, call int) error
	// refuse is what Update answers.
	refuse func() error

	updates  int
	problem  error
	withdraw time.Duration
}

func (l *lab) List(ctx context.Context) ([]kruntime.Object, error) {
	l.mu.Lock()
	l.calls = append(l.calls, time.Since(l.began))
	l.twice = l.twice || l.busy
	l.busy = true
	call, list := len(l.calls), l.list
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.busy = false
	}()
	if list == nil {
		return []kruntime.Object{&corev1.ConfigMap{}}, nil
	}
	return []kruntime.Object{&corev1.ConfigMap{}}, list(ctx, call)
}

func (l *lab) Update(objects []kruntime.Object) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(objects) != 1 {
		return fmt.Errorf("%d objects, want the one that List gave", len(objects))
	}
	if l.refuse != nil {
		if err := l.refuse(); err != nil {
			return err
		}
	}
	l.updates++
	l.problem = nil
	return nil
}

func (l *lab) Unavailable(problem error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.problem == nil {
		l.withdraw = time.Since(l.began)
	}
	l.problem = problem
}

// run runs until the test ends, and checks that List was never called twice at a time.
func (l *lab) run(t *testing.T, config Config) (stop func()) {
	t.Helper()
	l.began = time.Now()
	config.List, config.Target = l.List, l
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { Run(ctx, config) })
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(func() {
		stop()
		if l.twice {
			t.Error("List was called while it ran")
		}
	})
	return stop
}

// now is what the target has been told so far.
func (l *lab) now() (withdrawn time.Duration, updates int, problem error) {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.withdraw, l.updates, l.problem
}

func (l *lab) wantCalls(t *testing.T, want ...time.Duration) {
	t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.calls, want) {
		t.Errorf("List was called at %v, want %v", l.calls, want)
	}
}

func TestListIsCalledOnceWithoutEveryOrWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lab{}
		l.run(t, Config{})
		time.Sleep(time.Hour)
		l.wantCalls(t, 0)
		if _, updates, _ := l.now(); updates != 1 {
			t.Errorf("%d updates, want one", updates)
		}
	})
}

func TestEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lab{}
		l.run(t, Config{Every: 10 * time.Second})
		time.Sleep(25 * time.Second)
		l.wantCalls(t, 0, 10*time.Second, 20*time.Second)
	})
}

// TestBurstCostsOneCall: however the channel is made.
func TestBurstCostsOneCall(t *testing.T) {
	for _, size := range []int{0, 1, 100} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &lab{}
				changed := make(chan struct{}, size)
				l.run(t, Config{Changed: changed})
				time.Sleep(time.Second)
				for range 100 {
					changed <- struct{}{}
				}
				time.Sleep(time.Hour)
				l.wantCalls(t, 0, time.Second+burst)
			})
		})
	}
}

// TestSteadyWakes do not put the call off.
func TestSteadyWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lab{}
		changed := make(chan struct{})
		l.run(t, Config{Changed: changed})
		time.Sleep(time.Second)
		for range 5 {
			changed <- struct{}{}
			time.Sleep(burst / 2)
		}
		time.Sleep(time.Second)
		l.wantCalls(t, 0, time.Second+burst, time.Second+2*burst, time.Second+3*burst)
	})
}

// TestWakeDuringACall: one call more, however many wakes, and none is held up.
func TestWakeDuringACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lab{list: func(context.Context, int) error { time.Sleep(time.Second); return nil }}
		changed := make(chan struct{})
		l.run(t, Config{Changed: changed})
		time.Sleep(time.Millisecond)
		before := time.Now()
		for range 100 {
			changed <- struct{}{}
		}
		if took := time.Since(before); took != 0 {
			t.Errorf("who said that something changed was held up for %s", took)
		}
		time.Sleep(time.Hour)
		l.wantCalls(t, 0, time.Second+burst)
	})
}

func TestClosedChangedWakesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lab{}
		changed := make(chan struct{})
		close(changed)
		l.run(t, Config{Changed: changed, Every: time.Minute})
		time.Sleep(90 * time.Second)
		l.wantCalls(t, 0, time.Minute)
	})
}

// TestStale: failing leaves the last answer standing until Stale, and the kind is
// back by itself.
func TestStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lab{list: func(_ context.Context, call int) error {
			if call > 1 && call < 8 {
				return errors.New("no answer today")
			}
			return nil
		}}
		changed := make(chan struct{})
		l.run(t, Config{Changed: changed, Stale: 20 * time.Second})
		time.Sleep(10 * time.Second)
		changed <- struct{}{}
		time.Sleep(19 * time.Second)
		if withdrawn, _, problem := l.now(); problem != nil {
			t.Errorf("withdrawn at %s, with a last answer that is not stale", withdrawn)
		}
		time.Sleep(2 * time.Second)
		withdrawn, _, problem := l.now()
		if want := 10*time.Second + burst + 20*time.Second; problem == nil || withdrawn != want {
			t.Errorf("withdrawn at %s, want %s (%v)", withdrawn, want, problem)
		}
		time.Sleep(time.Hour)
		at := 10*time.Second + burst
		want := []time.Duration{0, at}
		for _, pause := range []time.Duration{1, 2, 4, 8, 16, 30} {
			at += pause * time.Second
			want = append(want, at)
		}
		l.wantCalls(t, want...)
		if _, updates, problem := l.now(); problem != nil || updates != 2 {
			t.Errorf("not back: %v, %d updates", problem, updates)
		}
	})
}

// TestListThatHangs: its context ends, the kind is withdrawn, and nobody calls again
// until it has come back.
func TestListThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		ended := make(chan time.Duration, 1)
		l := &lab{}
		l.list = func(ctx context.Context, call int) error {
			if call == 1 {
				<-ctx.Done()
				ended <- time.Since(l.began)
				<-release
			}
			return nil
		}
		l.run(t, Config{Every: time.Second, Stale: time.Minute})
		time.Sleep(time.Hour)
		l.wantCalls(t, 0)
		withdrawn, _, problem := l.now()
		if at := <-ended; at != time.Minute || withdrawn != time.Minute || problem == nil {
			t.Errorf("its context ended at %s and the kind was withdrawn at %s (%v), want a minute", at, withdrawn, problem)
		}
		close(release)
		if _, updates, problem := l.now(); problem != nil || updates != 1 {
			t.Errorf("not back: %v, %d updates", problem, updates)
		}
	})
}

// TestWhatEndsAList: a panic, the end of its goroutine, an answer that is refused and a
// panic of whoever takes it are errors, after which List is called again.
func TestWhatEndsAList(t *testing.T) {
	first := func(do func()) func(context.Context, int) error {
		return func(_ context.Context, call int) error {
			if call == 1 {
				do()
			}
			return nil
		}
	}
	refused := 0
	for name, l := range map[string]*lab{
		"panic":  {list: first(func() { panic("oh") })},
		"goexit": {list: first(runtime.Goexit)},
		"refused": {refuse: func() error {
			if refused++; refused == 1 {
				return errors.New("an object has no name")
			}
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l.run(t, Config{})
				time.Sleep(time.Hour)
				l.wantCalls(t, 0, time.Second)
				if _, updates, problem := l.now(); problem != nil || updates != 1 {
					t.Errorf("not back: %v, %d updates", problem, updates)
				}
			})
		})
	}
}

// TestEveryComesBeforeARetry: the pause after a failure is not longer than Every.
func TestEveryComesBeforeARetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lab{list: func(context.Context, int) error { return errors.New("no") }}
		l.run(t, Config{Every: 3 * time.Second})
		time.Sleep(10 * time.Second)
		l.wantCalls(t, 0, time.Second, 3*time.Second, 6*time.Second, 9*time.Second)
	})
}

// TestRunWaitsForList, but not for ever.
func TestRunWaitsForList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		back := false
		l := &lab{list: func(ctx context.Context, _ int) error {
			<-ctx.Done()
			time.Sleep(time.Second)
			back = true
			return ctx.Err()
		}}
		stop := l.run(t, Config{})
		synctest.Wait()
		if stop(); !back {
			t.Error("Run came back before List")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		l := &lab{list: func(context.Context, int) error { <-release; return nil }}
		stop := l.run(t, Config{})
		synctest.Wait()
		before := time.Now()
		stop()
		if waited := time.Since(before); waited != farewell {
			t.Errorf("Run waited for %s, want %s", waited, farewell)
		}
		close(release)
	})
}
