package balance_test

import (
	"testing"
	"time"

	"github.com/annex-api/annex/aggregator/internal/backend/balance"
)

// reported is a Set with two endpoints that notes when it tells of changes.
func reported(t *testing.T) (s *balance.Set, told *[]time.Duration) {
	t.Helper()
	told = &[]time.Duration{}
	s = balance.New(func(int) int { return 0 }, func(again time.Duration) { *told = append(*told, again) })
	s.Update(epoch, members("a:1", "b:1"))
	return s, told
}

func TestStatesHaveABegin(t *testing.T) {
	at := func(seconds int) time.Time { return epoch.Add(time.Duration(seconds) * time.Second) }
	s, told := reported(t)
	expect := func(now, since int, state balance.State) {
		t.Helper()
		if h := health(t, s, at(now), "a:1"); h.State != state || !h.Since.Equal(at(since)) {
			t.Errorf("after %d s: state %d since %v, want %d since %v", now, h.State, h.Since, state, at(since))
		}
	}
	expect(5, 0, balance.Healthy)
	pick(t, s, at(10), "b:1").Done(at(10), balance.Failed)
	expect(10, 10, balance.Ejected)
	expect(15, 11, balance.Healthy) // by itself, though nobody looked then
	pick(t, s, at(20), "b:1").Done(at(20), balance.Failed)
	s.Probed(at(21), "a:1", false, "no")
	expect(22, 21, balance.Unreachable)
	s.Probed(at(23), "a:1", false, "no")
	expect(24, 21, balance.Unreachable)
	s.Probed(at(25), "a:1", true, "")
	expect(26, 25, balance.Healthy)
	pick(t, s, at(30), "b:1").Done(at(30), balance.Failed)
	c := pick(t, s, at(33), "b:1")
	c.Done(at(33), balance.Failed) // nobody has looked since the first ejection was over
	expect(33, 33, balance.Ejected)
	s.Update(at(40), []balance.Member{{Address: "a:1", Terminating: true}, {Address: "b:1"}})
	expect(41, 40, balance.Draining)
	if want := []time.Duration{1, 2, 0, 0, 1, 2}; len(*told) != len(want) {
		t.Errorf("told %v", *told)
	} else {
		for i, d := range want {
			if (*told)[i].Round(time.Second) != d*time.Second {
				t.Errorf("change %d: told that the next is after %v, want %d s", i, (*told)[i], d)
			}
		}
	}
}

func TestAChangeIsToldOnce(t *testing.T) {
	s, told := reported(t)
	for range 3 {
		c := pick(t, s, epoch, "b:1")
		c.Note(epoch, balance.Answered)
		c.Done(epoch, balance.Neutral)
		s.Probed(epoch, "a:1", true, "")
	}
	if len(*told) != 0 {
		t.Fatalf("told of nothing: %v", *told)
	}
	for range 3 {
		pick(t, s, epoch, "b:1").Done(epoch, balance.Failed)
	}
	if len(*told) != 1 || (*told)[0] != time.Second {
		t.Fatalf("told %v", *told)
	}
}

func TestRequestsOfClientsAreCounted(t *testing.T) {
	s, _ := reported(t)
	own := pick(t, s, epoch, "b:1") // this server's own
	own.Note(epoch, balance.Answered)
	own.Done(epoch, balance.Neutral)
	if got := s.Traffic(epoch); got[0].Recent != nil || got[0].Requests != 0 || s.Totals(epoch)[0].Total != nil {
		t.Fatalf("without a client's request: %+v", got)
	}
	answered := pick(t, s, epoch, "b:1")
	answered.NoteRequest(epoch, balance.Answered, balance.Request{Took: 10 * time.Millisecond})
	answered.Done(epoch, balance.Neutral)
	failed := pick(t, s, epoch, "b:1")
	failed.DoneRequest(epoch, balance.Failed, balance.Request{Error: "connection refused"})
	balance.Fixed("elsewhere:1").DoneRequest(epoch, balance.Failed, balance.Request{Error: "unseen"})

	a := s.Traffic(epoch)[0]
	if a.Requests != 2 || a.Failed != 1 || a.InFlight != 0 || a.State != balance.Ejected {
		t.Errorf("%+v", a.Health)
	}
	if a.Recent == nil || a.Recent.Requests != 2 || a.Recent.Failed != 1 || a.Recent.Quantile(0.5) < 9*time.Millisecond {
		t.Errorf("%+v", a.Recent)
	}
	if want := (balance.LastError{Message: "connection refused", Time: epoch}); a.LastError != want {
		t.Errorf("the last error is %+v", a.LastError)
	}
	if totals := s.Totals(epoch)[0]; totals.Address != "a:1" || totals.Ejections != 1 || totals.Total == nil || totals.Total.Requests != 2 || totals.Total.Took != 10*time.Millisecond {
		t.Errorf("%+v", totals)
	}
	if totals := s.Totals(epoch)[1]; totals.Address != "b:1" || totals.Ejections != 0 || totals.Total != nil {
		t.Errorf("where nobody asked: %+v", totals)
	}
	later := epoch.Add(2 * time.Minute)
	if a := s.Traffic(later)[0]; a.Recent != nil || a.Requests != 2 {
		t.Errorf("after two minutes: %+v, %+v", a.Recent, a.Health)
	}
	s.Probed(later, "a:1", true, "bad status: 503")
	if h := health(t, s, later, "a:1"); h.LastError.Message != "bad status: 503" || h.State != balance.Healthy {
		t.Errorf("after an answer that is none of a server at work: %+v", h)
	}
}

// What a request costs at its endpoint, with and without the numbers.
func BenchmarkRequest(b *testing.B) {
	s := balance.New(func(int) int { return 0 }, func(time.Duration) {})
	s.Update(epoch, members("a:1", "b:1"))
	now := time.Now()
	for name, note := range map[string]func(balance.Choice){
		"uncounted": func(c balance.Choice) { c.Note(now, balance.Answered) },
		"counted": func(c balance.Choice) {
			c.NoteRequest(now, balance.Answered, balance.Request{Took: 3 * time.Millisecond})
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c, _ := s.Pick(now, nil)
				note(c)
				c.Done(now, balance.Neutral)
			}
		})
	}
}
