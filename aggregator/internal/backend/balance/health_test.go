package balance_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/annex-api/annex/aggregator/internal/backend/balance"
)

func TestEjectionDoublesUpToThirtySeconds(t *testing.T) {
	s := seeded(1)
	s.Update(epoch, members("a:1", "b:1"))
	now := epoch
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30, 30, 30, 30} {
		want *= time.Second
		if !pick(t, s, now, "b:1").Done(now, balance.Failed) {
			t.Fatalf("failure %d: not ejected", i+1)
		}
		if before := now.Add(want - time.Millisecond); !health(t, s, before, "a:1").Ejected {
			t.Fatalf("failure %d: back before %s", i+1, want)
		}
		if now = now.Add(want); health(t, s, now, "a:1").Ejected {
			t.Fatalf("failure %d: still out after %s", i+1, want)
		}
	}
	pick(t, s, now, "b:1").Done(now, balance.Answered)
	pick(t, s, now, "b:1").Done(now, balance.Failed)
	if health(t, s, now.Add(time.Second), "a:1").Ejected {
		t.Fatal("an answer did not end the row of failures")
	}
}

func TestManyFailuresInARowDoNotOverflow(t *testing.T) {
	s := seeded(1)
	s.Update(epoch, members("a:1", "b:1"))
	c := pick(t, s, epoch, "b:1")
	now := epoch
	for range 1000 {
		now = now.Add(time.Minute)
		c.Note(now, balance.Failed)
	}
	if h := health(t, s, now.Add(30*time.Second-1), "a:1"); !h.Ejected {
		t.Error("back before 30 s")
	}
	if h := health(t, s, now.Add(30*time.Second), "a:1"); h.Ejected {
		t.Error("out for more than 30 s")
	}
}

// One connection that breaks fails all the requests on it: that is one event.
func TestRequestsThatFailTogetherEjectOnce(t *testing.T) {
	s := seeded(1)
	s.Update(epoch, members("a:1", "b:1"))
	var together []balance.Choice
	for range 100 {
		together = append(together, pick(t, s, epoch, "b:1"))
	}
	for _, c := range together {
		c.Done(epoch, balance.Failed)
	}
	if health(t, s, epoch.Add(time.Second), "a:1").Ejected {
		t.Fatal("a hundred requests on one broken connection keep the endpoint out for longer than one would")
	}
}

func TestTheLastHealthyEndpointIsNotEjected(t *testing.T) {
	tests := []struct {
		name    string
		members []balance.Member
	}{
		{"only one", members("a:1")},
		{"the others failed", members("a:1", "b:1", "c:1")},
		{"the Service's address does not count", []balance.Member{{Address: "a:1"}, {Address: "b:1", Fallback: true}}},
		{"nor does one that is down", members("a:1", "down:1")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := seeded(2)
			s.Update(epoch, test.members)
			s.Probed(epoch, "down:1", false, "")
			for _, m := range test.members[1:] {
				var avoid []string
				for _, other := range test.members {
					if other.Address != m.Address {
						avoid = append(avoid, other.Address)
					}
				}
				pick(t, s, epoch, avoid...).Done(epoch, balance.Failed)
			}
			var avoid []string
			for _, m := range test.members[1:] {
				avoid = append(avoid, m.Address)
			}
			for range 5 {
				if pick(t, s, epoch, avoid...).Done(epoch, balance.Failed) || health(t, s, epoch, "a:1").Ejected {
					t.Fatal("ejected")
				}
			}
			s.Probed(epoch, "a:1", false, "") // active evidence does count
			if !health(t, s, epoch, "a:1").Down {
				t.Fatal("a failed probe was not noted")
			}
		})
	}
}

func TestAProbeThatPassesTakesAnEndpointBack(t *testing.T) {
	s := seeded(3)
	s.Update(epoch, members("a:1", "b:1"))
	for range 5 {
		pick(t, s, epoch, "b:1").Done(epoch, balance.Failed)
	}
	s.Probed(epoch, "a:1", false, "")
	if h := health(t, s, epoch, "a:1"); !h.Down || !h.Ejected {
		t.Fatalf("%+v", h)
	}
	s.Probed(epoch, "a:1", true, "")
	if h := health(t, s, epoch, "a:1"); h.Down || h.Ejected || h.Failures != 0 {
		t.Fatalf("%+v", h)
	}
	s.Probed(epoch, "gone:1", false, "") // an endpoint that left meanwhile
	if n := len(s.Health(epoch)); n != 2 {
		t.Fatalf("%d members", n)
	}
}

func TestAnAnswerTakesAnEndpointBack(t *testing.T) {
	s := seeded(3)
	s.Update(epoch, members("a:1", "b:1"))
	under := pick(t, s, epoch, "b:1")
	pick(t, s, epoch, "b:1").Done(epoch, balance.Failed)
	s.Probed(epoch, "a:1", false, "")
	under.Note(epoch, balance.Answered)
	if h := health(t, s, epoch, "a:1"); h.Down || h.Ejected || h.InFlight != 1 {
		t.Fatalf("%+v", h)
	}
	if under.Done(epoch, balance.Neutral) {
		t.Fatal("ejected by nothing")
	}
}

func TestEndpointsThatLeaveReturnTheirStreams(t *testing.T) {
	s := seeded(4)
	s.Update(epoch, members("a:1", "b:1"))
	a, b := pick(t, s, epoch, "b:1"), pick(t, s, epoch, "a:1")
	one, two, ended, other := &balance.Stream{}, &balance.Stream{}, &balance.Stream{}, &balance.Stream{}
	a.Hold(one)
	a.Hold(two)
	a.Hold(ended)()
	forget := b.Hold(other)
	if leaving := s.Update(epoch, []balance.Member{{Address: "a:1", Terminating: true}, {Address: "b:1"}}); len(leaving) != 0 {
		t.Fatalf("%d streams of endpoints that stay", len(leaving))
	}
	got := map[*balance.Stream]bool{}
	for _, stream := range s.Update(epoch, members("b:1", "c:1")) {
		got[stream] = true
	}
	if len(got) != 2 || !got[one] || !got[two] {
		t.Fatalf("%d streams, want those two of the endpoint that left", len(got))
	}
	forget()
	if leaving := s.Update(epoch, nil); len(leaving) != 0 {
		t.Fatalf("%d streams of which one was forgotten", len(leaving))
	}
	a.Done(epoch, balance.Neutral)
	b.Done(epoch, balance.Neutral)
}

// Between the choice and the answer's header the endpoint may leave.
func TestAStreamAtAnEndpointThatHasLeftIsEnded(t *testing.T) {
	s := seeded(4)
	s.Update(epoch, members("a:1", "b:1"))
	a := pick(t, s, epoch, "b:1")
	s.Update(epoch, members("b:1"))
	ended := 0
	forget := a.Hold(&balance.Stream{End: func() { ended++ }})
	for _, stream := range s.Update(epoch, members("b:1", "c:1")) {
		stream.End()
	}
	if ended != 1 {
		t.Fatalf("ended %d times: nothing tells the stream that its endpoint has left", ended)
	}
	forget()
	a.Done(epoch, balance.Neutral)
}

// An endpoint that comes back at the same address is another one.
func TestAnEndpointThatComesBackBeginsAnew(t *testing.T) {
	s := seeded(5)
	s.Update(epoch, members("a:1", "b:1"))
	old := pick(t, s, epoch, "b:1")
	pick(t, s, epoch, "b:1").Done(epoch, balance.Failed)
	s.Probed(epoch, "a:1", false, "")
	s.Update(epoch, members("b:1"))
	s.Update(epoch, members("a:1", "b:1"))
	old.Done(epoch, balance.Failed)
	if h := health(t, s, epoch, "a:1"); h.InFlight != 0 || h.Failures != 0 || h.Ejected || h.Down {
		t.Fatalf("%+v", h)
	}
}

// request is one that the property test has under way.
type request struct {
	balance.Choice
	member bool // its endpoint has not left since
}

func TestAnyOrderOfEventsKeepsTheSetSound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := seeded(rapid.Uint64().Draw(t, "seed"))
		now := epoch
		current := map[string]balance.Member{}
		var under []*request
		drawMember := rapid.Custom(func(t *rapid.T) balance.Member {
			return balance.Member{
				Address:     fmt.Sprintf("10.0.0.%d:443", rapid.IntRange(1, 5).Draw(t, "host")),
				OtherZone:   rapid.Bool().Draw(t, "other zone"),
				Terminating: rapid.Bool().Draw(t, "terminating"),
				Fallback:    rapid.IntRange(0, 4).Draw(t, "kind") == 0,
			}
		})
		outcomes := rapid.SampledFrom([]balance.Outcome{balance.Neutral, balance.Answered, balance.Failed})
		healthy := func() (n int) {
			for _, h := range s.Health(now) {
				if !h.Fallback && !h.Ejected && !h.Down {
					n++
				}
			}
			return n
		}
		// An outcome never takes the last healthy endpoint away.
		note := func(r *request, do func(time.Time, balance.Outcome) bool) {
			before := healthy()
			ejected := do(now, outcomes.Draw(t, "outcome"))
			if before > 0 && healthy() == 0 {
				t.Fatalf("passive evidence took the last healthy endpoint away")
			}
			if ejected && r.member && !health(t, s, now, r.Address).Ejected {
				t.Fatalf("%s is said to be ejected, and is not", r.Address)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"update": func(t *rapid.T) {
				list := rapid.SliceOfNDistinct(drawMember, 0, 5, func(m balance.Member) string { return m.Address }).Draw(t, "members")
				next := map[string]balance.Member{}
				for _, m := range list {
					next[m.Address] = m
				}
				for _, r := range under {
					if _, stays := next[r.Address]; !stays {
						r.member = false
					}
				}
				s.Update(now, list)
				current = next
			},
			"pick": func(t *rapid.T) {
				avoid := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string { return drawMember.Draw(t, "m").Address }), 0, 3).Draw(t, "avoid")
				c, err := s.Pick(now, avoid)
				if len(current) == 0 {
					if err != balance.ErrNone {
						t.Fatalf("no members: %v", err)
					}
					return
				}
				if err != nil {
					t.Fatalf("%d members: %v", len(current), err)
				}
				if _, ok := current[c.Address]; !ok {
					t.Fatalf("%s is no member", c.Address)
				}
				chosen := worth(health(t, s, now, c.Address), avoid)
				for _, h := range s.Health(now) {
					if w := worth(h, avoid); w < chosen {
						t.Fatalf("%s was chosen where there was %s", c.Address, h.Address)
					}
				}
				under = append(under, &request{c, true})
			},
			"done": func(t *rapid.T) {
				if len(under) == 0 {
					return
				}
				i := rapid.IntRange(0, len(under)-1).Draw(t, "request")
				r := under[i]
				under = append(under[:i:i], under[i+1:]...)
				note(r, r.Done)
			},
			"note": func(t *rapid.T) {
				if len(under) > 0 {
					r := under[rapid.IntRange(0, len(under)-1).Draw(t, "request")]
					note(r, r.Note)
				}
			},
			"probe": func(t *rapid.T) {
				address, passed := drawMember.Draw(t, "m").Address, rapid.Bool().Draw(t, "passed")
				s.Probed(now, address, passed, "")
				if _, ok := current[address]; !ok {
					return
				}
				if h := health(t, s, now, address); h.Down == passed || passed && h.Ejected {
					t.Fatalf("after a probe (passed: %t): %+v", passed, h)
				}
			},
			"wait": func(*rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 40_000).Draw(t, "ms")) * time.Millisecond)
			},
			"": func(t *rapid.T) {
				want := map[string]int{}
				for _, r := range under {
					if r.member {
						want[r.Address]++
					}
				}
				all := s.Health(now)
				if len(all) != len(current) {
					t.Fatalf("%d members, want %d", len(all), len(current))
				}
				for _, h := range all {
					if h.Member != current[h.Address] || h.InFlight != want[h.Address] {
						t.Fatalf("%+v, want %+v with %d requests", h, current[h.Address], want[h.Address])
					}
				}
			},
		})
	})
}

// worth orders endpoints as the contract of Pick does, the best first.
func worth(h balance.Health, avoid []string) int {
	for _, a := range avoid {
		if a == h.Address {
			return 6
		}
	}
	switch {
	case h.Down:
		return 5
	case h.Ejected:
		return 4
	case h.Fallback:
		return 3
	case h.Terminating:
		return 2
	case h.OtherZone:
		return 1
	}
	return 0
}
