package backend

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

func TestTimersHaveAnOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ts timers
		var began atomic.Int64
		var ended atomic.Bool
		ts.after(time.Second, func() { began.Add(1) })
		ts.after(2*time.Second, func() {
			began.Add(1)
			time.Sleep(time.Minute)
			ended.Store(true)
		})
		ts.after(time.Hour, func() { t.Error("called after stop") })
		time.Sleep(3 * time.Second)
		ts.stop()
		if began.Load() != 2 || !ended.Load() {
			t.Errorf("%d were called, the last one's end was waited for: %v", began.Load(), ended.Load())
		}
		ts.after(time.Second, func() { t.Error("begun after stop") })
		ts.stop()
		time.Sleep(2 * time.Hour)
	})
}

// Nothing that a Pool has begun goes on after Close.
func TestCloseEndsWhatWasToComeLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := &backendtest.Server{Service: "api", Address: "192.0.2.1:443"}
		two := &backendtest.Server{Service: "api", Address: "192.0.2.2:443"}
		claim := func(servers ...*backendtest.Server) *catalog.Snapshot {
			return catalog.Build(backendtest.Facts([]*apiService{one.APIService(name)}, servers...))
		}
		var told, streams atomic.Int64
		p := New(Config{EndpointChanged: func() { told.Add(1) }})
		snapshot := claim(one, two)
		p.Sync(snapshot)
		b := p.Get(snapshot.Remotes()[0])
		choice, err := b.Pick(snapshot.Remotes()[0].Target)
		if err != nil {
			t.Fatal(err)
		}
		defer choice.Hold(&balance.Stream{End: func() { streams.Add(1) }})()
		stays := one
		if choice.Address == one.Address {
			stays = two
		}
		if !choice.Note(time.Now(), balance.Failed) { // it is left out, and comes back by itself
			t.Fatal("an endpoint that fails is not ejected")
		}
		p.Sync(claim(stays)) // and leaves, with its stream
		before := told.Load()
		p.Close()
		time.Sleep(time.Hour)
		if told.Load() != before || streams.Load() != 0 {
			t.Errorf("after Close %d changes are told, and %d streams ended", told.Load()-before, streams.Load())
		}
	})
}
