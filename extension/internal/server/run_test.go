package server

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A server that gets ready is seen at once; one that does not is not asked hundreds of
// times a second.
func TestReadinessIsNotAskedForWithoutEnd(t *testing.T) {
	var asked, took time.Duration
	looks := 0
	for took = 0; took < time.Hour; looks++ {
		asked = readyPause(looks)
		took += asked
		if took < time.Second && asked > readyPoll {
			t.Fatalf("after %v the pause is %v", took, asked)
		}
	}
	if asked != slowReadyPoll || looks > 4000 {
		t.Errorf("an hour has %d looks, the last pause is %v", looks, asked)
	}
}

// What runs beside a server ends when it is told to, and not with the context of the
// server, and is waited for. An error of its own is told, one at its end is none.
func TestWhatRunsBesideEndsWhenTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var said []string
		say := func(what string) {
			mu.Lock()
			defer mu.Unlock()
			said = append(said, what)
		}
		ctx, cancel := context.WithCancel(t.Context())
		end := begin(ctx, func(err error) { say(err.Error()) }, []Background{
			func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(time.Second)
				say("ended")
				return errors.New("ended by its context")
			},
			func(context.Context) error { return errors.New("failed") },
			func(context.Context) error { return nil },
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		mu.Lock()
		before := slices.Clone(said)
		mu.Unlock()
		if !slices.Equal(before, []string{"failed"}) {
			t.Errorf("before its end: %q", before)
		}
		end()
		end()
		if !slices.Equal(said, []string{"failed", "ended"}) {
			t.Errorf("in all: %q", said)
		}
	})
}
