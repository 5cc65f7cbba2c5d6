package balance_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/annex-api/annex/aggregator/internal/backend/balance"
)

func TestConcurrentUse(t *testing.T) {
	s := balance.New(rand.IntN, func(time.Duration) {})
	always := balance.Member{Address: "always:1"}
	s.Update(epoch, []balance.Member{always})
	var users sync.WaitGroup
	for user := range 8 {
		users.Go(func() {
			for i := range 500 {
				now := epoch.Add(time.Duration(i) * 10 * time.Millisecond)
				c, err := s.Pick(now, nil)
				if err != nil {
					t.Errorf("Pick: %v", err)
					return
				}
				forget := c.Hold(&balance.Stream{End: func() {}})
				c.Alternatives(now)
				c.Note(now, balance.Answered)
				switch (user + i) % 5 {
				case 0:
					s.Probed(now, c.Address, i%2 == 0, "")
				case 1:
					members := []balance.Member{always}
					for m := range i % 4 {
						members = append(members, balance.Member{Address: fmt.Sprintf("10.0.0.%d:443", m)})
					}
					s.Update(now, members)
				}
				for _, h := range s.Health(now) {
					if h.InFlight < 0 {
						t.Errorf("%d requests under way", h.InFlight)
					}
				}
				forget()
				c.Done(now, []balance.Outcome{balance.Neutral, balance.Answered, balance.Failed}[i%3])
			}
		})
	}
	users.Wait()
	if leaving := s.Update(epoch, []balance.Member{always}); len(leaving) > 0 {
		t.Errorf("%d streams were not forgotten", len(leaving))
	}
	if h := health(t, s, epoch, always.Address); h.InFlight != 0 {
		t.Errorf("%d requests are counted when all have ended", h.InFlight)
	}
}
