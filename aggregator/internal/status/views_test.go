package status

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// unsure is the verdict of a server that could not find out.
var unsure = catalog.Verdict{Status: apiregistrationv1.ConditionUnknown, Reason: "ServiceAccessError", Message: "cannot be checked"}

func TestDissentOfPeers(t *testing.T) {
	const fails = `{"v1.a.example":{"status":"False","reason":"FailedDiscoveryCheck"}}`
	now := time.Now()
	p := newPeerViews(func() {})
	p.learn(now, dissentLease("annex-dissent-2", "two:6443", fails, now))
	p.learn(now, dissentLease("annex-dissent-1", "one:6443", `{"v1.a.example":{"status":"Unknown","reason":"a\u001b[31mb"}}`, now))
	p.learn(now, dissentLease("annex-dissent-3", "three:6443", `{"v1.a.example":{"status":"True","reason":"Passed"}}`, now))
	for own, want := range map[catalog.Status][]PeerView{
		"True":  {{"two:6443", "False", "FailedDiscoveryCheck"}}, // who does not know does not dissent
		"False": {{"three:6443", "True", ""}},
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
		expect(second, unsure) // its own view is another by now, and is none
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

// The server that writes does not take for dissent what others told before its own view changed:
// they may come to see it too.
func TestDissentMustLastForTheWriterToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers(t)
		client := s.stored.client.ApiregistrationV1()
		first := s.add("first", client)
		time.Sleep(time.Second)
		second := s.add("second", client)
		time.Sleep(time.Minute)
		first.writer.Sync(s.stored.snapshot(up))
		time.Sleep(time.Second)
		second.writer.Sync(s.stored.snapshot(down))
		time.Sleep(dissentAfter + dissentPause)
		if first.writer.Term() == 0 {
			t.Fatal("the first server does not write")
		}
		want := []PeerView{{"second:6443", down.Status, down.Reason}}
		expect := func(when string, own catalog.Verdict, want []PeerView, words bool) {
			t.Helper()
			first.writer.Sync(s.stored.snapshot(own)) // as it comes to know what it wrote
			time.Sleep(10 * time.Millisecond)
			if got := first.writer.Dissent(s.stored.snapshot(own).Remotes()[0]); !slices.Equal(got, want) {
				t.Errorf("%s: others see %+v, want %+v", when, got, want)
			}
			time.Sleep(500 * time.Millisecond)
			c := s.stored.object().Status.Conditions[0]
			if c.Status != own.Status || strings.Contains(c.Message, "unavailable to second:6443") != words {
				t.Errorf("%s: the condition is %s: %s", when, c.Status, c.Message)
			}
		}
		expect("while it lasts", up, want, true)
		expect("both see it fall", down, nil, false)
		expect("this one sees it rise first", up, nil, false)
		time.Sleep(time.Second)
		expect("and a little later", up, nil, false)
		time.Sleep(dissentAfter - time.Second)
		expect("it lasts again", up, want, true)
		expect("this one does not know", unsure, nil, false)
		first.stop()
		second.stop()
	})
}

// When it has lasted that is told, without another change.
func TestDissentThatHasLastedIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, told := newServers(t), make(chan struct{}, 100)
		w := New(Config{
			Client: s.stored.client.ApiregistrationV1(), Leases: fakeLeases{s.leases.CoordinationV1()},
			Namespace: "kube-system", Name: "writer", Identity: "id-of-a", Server: "a:6443",
			PeersChanged: func() { told <- struct{}{} },
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = w.Run(ctx) }()
		time.Sleep(time.Minute)
		lease := dissentLease("annex-dissent-b", "b:6443", `{"v1.a.example":{"status":"False"}}`, time.Now())
		if _, err := s.leases.CoordinationV1().Leases("kube-system").Create(ctx, lease, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		w.Sync(s.stored.snapshot(up))
		synctest.Wait()
		for len(told) > 0 {
			<-told
		}
		time.Sleep(dissentAfter - time.Millisecond)
		synctest.Wait()
		if n := len(told); n != 0 {
			t.Errorf("told %d times before it lasts", n)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if n := len(told); n != 1 || len(w.Dissent(s.stored.snapshot(up).Remotes()[0])) != 1 {
			t.Errorf("told %d times", n)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := len(told); n != 1 {
			t.Errorf("told %d times of the same", n)
		}
		cancel()
		<-ended
	})
}
