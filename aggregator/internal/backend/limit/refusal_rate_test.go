package limit

import (
	"testing"
	"time"
)

func TestManyRefusedClientsAreAskedToWait(t *testing.T) {
	var rate RefusalRate
	now := time.Unix(1000, 0)
	refuse := func(n int) (wait int) {
		for range n {
			wait = rate.Refuse(now)
		}
		return wait
	}
	for _, step := range []struct {
		after time.Duration
		count int
		want  int
	}{
		{0, 199, 0},
		{0, 1, 1},
		{0, 800, 5},
		{0, 5000, 5},
		{time.Second, 1, 5}, // the second before was busy
		{time.Second, 1, 0},
		{time.Second, 450, 2},
		{10 * time.Second, 1, 0},
	} {
		now = now.Add(step.after)
		if got := refuse(step.count); got != step.want {
			t.Errorf("after %d refused requests at %d: wait %d s, want %d", step.count, now.Unix(), got, step.want)
		}
	}
}

// Clients that wait as they are asked to come less often than once a second each.
func TestObedientClientsAreSpread(t *testing.T) {
	var rate RefusalRate
	const clients = 3000
	at := make([]time.Duration, clients) // of the next request
	total := 0
	for i := range at {
		at[i] = time.Duration(i) * time.Second / clients
	}
	for tick := time.Duration(0); tick < 20*time.Second; tick += 10 * time.Millisecond {
		for i := range at {
			if at[i] > tick {
				continue
			}
			total++
			at[i] = tick + time.Duration(max(rate.Refuse(time.Unix(0, 0).Add(tick)), 1))*time.Second
		}
	}
	if perSecond := total / 20; perSecond > clients/3 {
		t.Errorf("%d requests a second of %d clients", perSecond, clients)
	}
}
