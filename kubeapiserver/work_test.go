package kubeapiserver

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// Hooks that begin while the server ends begin nothing: a wait that has returned stays
// true. The race detector knows of a wait group that both grows and is waited for.
func TestWorkEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w work
		release := make(chan struct{})
		var running atomic.Int32
		do := func() {
			running.Add(1)
			<-release
			running.Add(-1)
		}
		w.Go(do)
		synctest.Wait()
		ended := make(chan struct{})
		go func() {
			w.Wait()
			close(ended)
		}()
		synctest.Wait()
		w.Go(do)
		synctest.Wait()
		if n := running.Load(); n != 1 {
			t.Errorf("%d run, want the one that began before the end", n)
		}
		close(release)
		<-ended
		if n := running.Load(); n != 0 {
			t.Errorf("%d run after the wait", n)
		}
	})
	var w work
	var hooks sync.WaitGroup
	for range 100 {
		hooks.Go(func() { w.Go(func() {}) })
	}
	w.Wait()
	hooks.Wait()
}
