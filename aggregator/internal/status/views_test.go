package status

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

func TestDissentOfPeers(t *testing.T) {
	const fails = `{"v1.a.example":{"status":"False","reason":"FailedDiscoveryCheck"}}`
	now := time.Now()
	p := newPeerViews(func() {})
	p.learn(now, dissentLease("annex-dissent-2", "two:6443", fails, now))
	p.learn(now, dissentLease("annex-dissent-1", "one:6443", `{"v1.a.example":{"status":"Unknown","reason":"a\u001b[31mb"}}`, now))
	p.learn(now, dissentLease("annex-dissent-3", "three:6443", `{"v1.a.example":{"status":"True","reason":"Passed"}}`, now))
	for own, want := range map[catalog.Status][]PeerView{
		"True":    {{"one:6443", "Unknown", ""}, {"two:6443", "False", "FailedDiscoveryCheck"}},
		"False":   {{"one:6443", "Unknown", ""}, {"three:6443", "True", ""}},
		"Unknown": {{"three:6443", "True", ""}, {"two:6443", "False", "FailedDiscoveryCheck"}},
	} {
		if got := p.dissent(now, name, own); !slices.Equal(got, want) {
			t.Errorf("others than %s: %+v, want %+v", own, got, want)
		}
	}
	if got := p.dissent(now.Add(dissentLifetime), name, "True"); len(got) != 0 {
		t.Errorf("servers that are gone see %+v", got)
	}
}

// A server that does not write knows what the one that does sees: by the condition.
func TestDissentOfTheWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers(t)
		client := s.stored.client.ApiregistrationV1()
		first := s.add("first", client)
		time.Sleep(time.Second)
		second := s.add("second", client)
		time.Sleep(time.Minute)
		first.writer.Sync(s.stored.snapshot(up))
		time.Sleep(time.Second)
		if first.writer.Term() == 0 || second.writer.Term() != 0 {
			t.Fatal("the first server does not write alone")
		}
		expect := func(n *server, own catalog.Verdict, want ...PeerView) {
			t.Helper()
			if got := n.writer.Dissent(s.stored.snapshot(own).Remotes()[0]); !slices.Equal(got, want) {
				t.Errorf("%s sees others see %+v, want %+v", n.name, got, want)
			}
		}
		expect(first, up)
		second.writer.Sync(s.stored.snapshot(down))
		time.Sleep(dissentAfter - time.Second)
		expect(second, down) // most faults reach all servers within that
		time.Sleep(2 * time.Second)
		expect(second, down, PeerView{"first", up.Status, up.Reason})
		time.Sleep(dissentPause)
		expect(first, up, PeerView{"second:6443", down.Status, down.Reason})
		second.writer.Sync(s.stored.snapshot(up))
		expect(second, up)
		time.Sleep(2 * dissentPause)
		expect(first, up)
		first.stop()
		second.stop()
	})
}
