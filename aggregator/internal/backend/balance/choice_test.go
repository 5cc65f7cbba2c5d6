package balance_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/annex-api/annex/aggregator/internal/backend/balance"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// seeded returns a Set whose choices are the same in every run.
func seeded(seed uint64) *balance.Set {
	return balance.New(rand.New(rand.NewPCG(seed, 1)).IntN, func(time.Duration) {})
}

func members(addresses ...string) []balance.Member {
	out := make([]balance.Member, len(addresses))
	for i, a := range addresses {
		out[i].Address = a
	}
	return out
}

func pick(t rapid.TB, s *balance.Set, now time.Time, avoid ...string) balance.Choice {
	t.Helper()
	c, err := s.Pick(now, avoid)
	if err != nil {
		t.Fatalf("Pick: %v", err)
	}
	return c
}

func health(t rapid.TB, s *balance.Set, now time.Time, address string) balance.Health {
	t.Helper()
	for _, h := range s.Health(now) {
		if h.Address == address {
			return h
		}
	}
	t.Fatalf("%s is no member", address)
	return balance.Health{}
}

// spread sends requests of which held are under way at a time, and counts them
// by endpoint.
func spread(t rapid.TB, s *balance.Set, now time.Time, requests, held int) map[string]int {
	t.Helper()
	counts := map[string]int{}
	var underWay []balance.Choice
	for range requests {
		if len(underWay) >= held {
			underWay[0].Done(now, balance.Answered)
			underWay = underWay[1:]
		}
		c := pick(t, s, now)
		counts[c.Address]++
		underWay = append(underWay, c)
	}
	for _, c := range underWay {
		c.Done(now, balance.Answered)
	}
	return counts
}

func TestEqualEndpointsGetTheSameLoadWithinTenPercent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 10).Draw(t, "endpoints")
		held := rapid.IntRange(1, 200).Draw(t, "held")
		s := seeded(rapid.Uint64().Draw(t, "seed"))
		var addresses []string
		for i := range n {
			addresses = append(addresses, fmt.Sprintf("10.0.0.%d:443", i+1))
		}
		s.Update(epoch, members(addresses...))
		const each = 4000
		counts := spread(t, s, epoch, each*n, held)
		for _, a := range addresses {
			if c := counts[a]; c < each*9/10 || c > each*11/10 {
				t.Fatalf("%s got %d of an even share of %d; all: %v", a, c, each, counts)
			}
		}
	})
}

func TestASlowEndpointGetsLess(t *testing.T) {
	s := seeded(1)
	s.Update(epoch, members("fast:1", "slow:1"))
	counts := map[string]int{}
	var slow []balance.Choice
	for i := range 2000 {
		c := pick(t, s, epoch)
		counts[c.Address]++
		if c.Address == "slow:1" {
			slow = append(slow, c)
		} else {
			c.Done(epoch, balance.Answered)
		}
		if i%20 == 19 && len(slow) > 0 { // it answers one while others answer many
			slow[0].Done(epoch, balance.Answered)
			slow = slow[1:]
		}
	}
	if counts["slow:1"]*5 > counts["fast:1"] {
		t.Fatalf("the slow endpoint got %d requests, the fast one %d", counts["slow:1"], counts["fast:1"])
	}
}

func TestANewEndpointStartsSlowly(t *testing.T) {
	tests := []struct {
		age         time.Duration
		least, most float64 // of an even share
	}{
		{0, 0.01, 0.25},
		{time.Second, 0.01, 0.25},
		{5 * time.Second, 0.3, 0.7},
		{10 * time.Second, 0.9, 1.1},
		{time.Hour, 0.9, 1.1},
	}
	for _, test := range tests {
		t.Run(test.age.String(), func(t *testing.T) {
			s := seeded(2)
			s.Update(epoch, members("a:1", "b:1", "c:1"))
			s.Update(epoch, members("a:1", "b:1", "c:1", "new:1"))
			const each = 5000
			counts := spread(t, s, epoch.Add(test.age), 4*each, 80)
			if share := float64(counts["new:1"]) / each; share < test.least || share > test.most {
				t.Fatalf("a share of %.2f, want %.2f to %.2f; all: %v", share, test.least, test.most, counts)
			}
		})
	}
}

func TestTheFirstEndpointsNeedNoSlowStart(t *testing.T) {
	s := seeded(3)
	s.Update(epoch, nil) // a Service without endpoints yet
	s.Update(epoch, members("a:1", "b:1"))
	for range 20 { // an even share at once: the difference is never above one
		pick(t, s, epoch)
		a, b := health(t, s, epoch, "a:1").InFlight, health(t, s, epoch, "b:1").InFlight
		if a-b > 1 || b-a > 1 {
			t.Fatalf("%d and %d requests under way", a, b)
		}
	}
}

func TestAnEndpointThatStaysKeepsItsAge(t *testing.T) {
	s := seeded(4)
	s.Update(epoch, members("a:1"))
	s.Update(epoch, members("a:1", "b:1"))
	s.Update(epoch.Add(9*time.Second), members("a:1", "b:1", "c:1"))
	counts := spread(t, s, epoch.Add(10*time.Second), 9000, 90)
	if a, b, c := counts["a:1"], counts["b:1"], counts["c:1"]; b*10 < a*9 || c*2 > b {
		t.Fatalf("b is ten seconds old and c one; a got %d, b %d, c %d", a, b, c)
	}
}

func TestRanksOfEndpoints(t *testing.T) {
	near := balance.Member{Address: "near:1"}
	distant := balance.Member{Address: "distant:1", OtherZone: true}
	leaving := balance.Member{Address: "leaving:1", Terminating: true}
	service := balance.Member{Address: "service:1", Fallback: true}
	all := []balance.Member{service, leaving, distant, near}
	eject := func(address string) func(*balance.Set) {
		return func(s *balance.Set) {
			others := []string{}
			for _, m := range all {
				if m.Address != address {
					others = append(others, m.Address)
				}
			}
			c, _ := s.Pick(epoch, others)
			if c.Address == address {
				c.Done(epoch, balance.Failed)
			}
		}
	}
	down := func(address string) func(*balance.Set) {
		return func(s *balance.Set) { s.Probed(epoch, address, false, "") }
	}
	tests := []struct {
		name    string
		members []balance.Member
		before  []func(*balance.Set)
		avoid   []string
		want    string
	}{
		{name: "the zone's own first", members: all, want: "near:1"},
		{name: "another zone before one that leaves", members: all, before: []func(*balance.Set){down("near:1")}, want: "distant:1"},
		{name: "one that leaves before the Service's address", members: all, before: []func(*balance.Set){down("near:1"), down("distant:1")}, want: "leaving:1"},
		{name: "the Service's address when no endpoint answers", members: all, before: []func(*balance.Set){down("near:1"), down("distant:1"), down("leaving:1")}, want: "service:1"},
		{name: "ejected after the one in another zone", members: all, before: []func(*balance.Set){eject("near:1")}, want: "distant:1"},
		{name: "ejected after the Service's address", members: []balance.Member{near, distant, service}, before: []func(*balance.Set){eject("near:1"), down("distant:1")}, want: "service:1"},
		{name: "ejected before down", members: []balance.Member{near, distant}, before: []func(*balance.Set){eject("near:1"), down("distant:1")}, want: "near:1"},
		{name: "not the one tried before", members: all, avoid: []string{"near:1"}, want: "distant:1"},
		{name: "one that is down before the one tried", members: []balance.Member{near, distant}, before: []func(*balance.Set){down("distant:1")}, avoid: []string{"near:1"}, want: "distant:1"},
		{name: "the one tried where there is no other", members: []balance.Member{near}, avoid: []string{"near:1"}, want: "near:1"},
		{name: "one that is down where there is no other", members: []balance.Member{near}, before: []func(*balance.Set){down("near:1")}, want: "near:1"},
		{name: "a name to avoid that is unknown", members: []balance.Member{near}, avoid: []string{"gone:1"}, want: "near:1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := seeded(5)
			s.Update(epoch, test.members)
			for _, do := range test.before {
				do(s)
			}
			for range 50 {
				if got := pick(t, s, epoch, test.avoid...).Address; got != test.want {
					t.Fatalf("picked %s, want %s; %+v", got, test.want, s.Health(epoch))
				}
			}
		})
	}
}

func TestNoEndpoints(t *testing.T) {
	s := seeded(6)
	if _, err := s.Pick(epoch, nil); err != balance.ErrNone {
		t.Fatalf("an empty set: %v", err)
	}
	s.Update(epoch, members("a:1"))
	s.Update(epoch, nil)
	if _, err := s.Pick(epoch, nil); err != balance.ErrNone {
		t.Fatalf("after the last left: %v", err)
	}
}

func TestAnEndpointThatIsListedTwiceIsOne(t *testing.T) {
	s := seeded(7)
	s.Update(epoch, members("a:1", "a:1", "b:1"))
	var got []string
	for _, h := range s.Health(epoch) {
		got = append(got, h.Address)
	}
	if !slices.Equal(got, []string{"a:1", "b:1"}) {
		t.Fatalf("members %v", got)
	}
}

func TestAlternatives(t *testing.T) {
	s := seeded(8)
	s.Update(epoch, members("a:1", "b:1"))
	a := pick(t, s, epoch, "b:1")
	if !a.Alternatives(epoch) {
		t.Error("b is an alternative to a")
	}
	s.Probed(epoch, "b:1", false, "")
	if a.Alternatives(epoch) {
		t.Error("b is down and still an alternative")
	}
	s.Probed(epoch, "b:1", true, "")
	pick(t, s, epoch, "a:1").Done(epoch, balance.Failed)
	if a.Alternatives(epoch) {
		t.Error("b is ejected and still an alternative")
	}
	if !a.Alternatives(epoch.Add(time.Second)) {
		t.Error("b is back and no alternative")
	}
	s.Update(epoch, members("a:1"))
	if a.Alternatives(epoch.Add(time.Second)) {
		t.Error("b left and is still an alternative")
	}
}

// A choice that was made elsewhere is counted nowhere.
func TestAFixedChoiceIsInert(t *testing.T) {
	c := balance.Fixed("a:1")
	forget := c.Hold(&balance.Stream{End: func() { t.Error("ended") }})
	if c.Address != "a:1" || c.Alternatives(epoch) || c.Note(epoch, balance.Failed) || c.Done(epoch, balance.Failed) {
		t.Errorf("%+v", c)
	}
	forget()
}
