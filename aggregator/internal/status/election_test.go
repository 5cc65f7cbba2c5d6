package status

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	apiregistrationclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/typed/apiregistration/v1"
)

// longestLook is between two looks of a server that waits for the Lease, with what
// its spread may add.
const longestLook = retryPeriod * 22 / 10

// ages are times since a server began to wait at which something happens to the
// holder: at different moments between two renewals.
var ages = []time.Duration{20 * time.Second, 23 * time.Second, 26 * time.Second, 29 * time.Second, 2 * time.Minute}

// scenario runs in a bubble of time, with a holder and one that waits for a time.
func scenario(t *testing.T, age time.Duration, run func(s *servers, first, second *server)) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers(t)
		first := s.start("first")
		time.Sleep(time.Second)
		second := s.start("second")
		time.Sleep(age)
		s.expectTerms("first")
		run(s, first, second)
		first.stop()
		second.stop()
	})
}

// A holder stops before others may begin, and tries to renew the Lease twice.
func TestLeaseTimes(t *testing.T) {
	if last := retryPeriod + renewDeadline; last >= leaseDuration {
		t.Errorf("a writer goes on for %v after its last renewal, others begin after %v", last, leaseDuration)
	}
	if renewDeadline <= retryPeriod {
		t.Errorf("in %v no second renewal is tried after %v", renewDeadline, retryPeriod)
	}
}

// A holder that is stopped gives the Lease up: the next writes after its next look.
func TestHolderStops(t *testing.T) {
	for _, age := range ages {
		scenario(t, age, func(s *servers, first, second *server) {
			stopped := time.Now()
			first.stop()
			if h := s.holder(); h != "" {
				t.Errorf("age %v: %q holds the Lease after its end", age, h)
			}
			time.Sleep(time.Minute)
			terms := s.expectTerms("first", "second")
			if took := terms[1].first.Sub(stopped); took > longestLook+time.Second {
				t.Errorf("age %v: the second writes after %v", age, took)
			}
			if h := s.holder(); h != "second" {
				t.Errorf("age %v: %q holds the Lease", age, h)
			}
		})
	}
}

func TestHolderDies(t *testing.T) {
	for _, age := range ages {
		scenario(t, age, func(s *servers, first, second *server) {
			died := time.Now()
			first.die()
			time.Sleep(2 * time.Minute)
			terms := s.expectTerms("first", "second")
			// The second sees the last renewal one look late, and the Lease's end another.
			took := terms[1].first.Sub(died)
			if took > leaseDuration+2*longestLook+time.Second {
				t.Errorf("age %v: the second writes after %v", age, took)
			}
			if took < leaseDuration-retryPeriod {
				t.Errorf("age %v: the second writes after %v, before the Lease has ended", age, took)
			}
		})
	}
}

// A holder that can write conditions, but not renew the Lease, stops before the next
// begins, and leaves the Lease to it when it is back, whenever that is.
func TestHolderIsCutOff(t *testing.T) {
	for _, how := range []reach{refused, hanging} {
		for away := 22 * time.Second; away <= 90*time.Second; away += 4 * time.Second {
			scenario(t, 23*time.Second, func(s *servers, first, _ *server) {
				cut := time.Now()
				first.set(how)
				time.Sleep(away)
				first.set(answered)
				time.Sleep(time.Minute)
				if len(s.written()) == 1 && away < leaseDuration+2*longestLook {
					return // it was back in time
				}
				terms := s.expectTerms("first", "second")
				if on := terms[0].last.Sub(cut); on < renewDeadline-time.Second || on > retryPeriod+renewDeadline {
					t.Errorf("cut off for %v, the first wrote for %v", away, on)
				}
				if gap := terms[1].first.Sub(terms[0].last); gap < leaseDuration-renewDeadline-retryPeriod {
					t.Errorf("cut off for %v: the second wrote %v after the first", away, gap)
				}
			})
		}
	}
}

// An election that stands still while another server takes over does not notice that
// its term has ended. The writer stops all the same, and leaves the Lease to the other.
func TestElectionStandsStill(t *testing.T) {
	for _, age := range ages {
		scenario(t, age, func(s *servers, first, second *server) {
			began, release := time.Now(), first.holdUpdates()
			time.Sleep(2 * time.Minute)
			release()
			time.Sleep(time.Minute)
			terms := s.expectTerms("first", "second")
			if on := terms[0].last.Sub(began); on > retryPeriod+renewDeadline {
				t.Errorf("age %v: the first wrote for %v", age, on)
			}
			if h := s.holder(); h != "second" {
				t.Errorf("age %v: %q holds the Lease", age, h)
			}
		})
	}
}

// Somebody deletes the Lease: the election makes it anew.
func TestLeaseIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers(t)
		first := s.start("first")
		time.Sleep(time.Minute)
		if err := s.leases.CoordinationV1().Leases("kube-system").Delete(t.Context(), "writer", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(retryPeriod + time.Second)
		if h := s.holder(); h != "first" {
			t.Errorf("%q holds the Lease", h)
		}
		first.stop()
		s.expectTerms("first")
	})
}

// Whoever may write Leases can keep all servers from writing conditions, until the
// Lease is deleted.
func TestLeaseIsHeldByAStranger(t *testing.T) {
	scenario(t, time.Minute, func(s *servers, first, second *server) {
		leases := second.Leases("kube-system")
		held, stranger, long := s.lease(), "stranger", int32(1<<30)
		held.Spec.HolderIdentity, held.Spec.LeaseDurationSeconds = &stranger, &long
		if _, err := leases.Update(t.Context(), held, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		taken := time.Now()
		time.Sleep(time.Hour)
		if on := s.expectTerms("first")[0].last.Sub(taken); on > retryPeriod {
			t.Errorf("the first wrote for %v without the Lease", on)
		}
		if first.writer.Term() != 0 || second.writer.Term() != 0 {
			t.Error("a server without the Lease takes itself for the writer")
		}
		if err := leases.Delete(t.Context(), "writer", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(longestLook + time.Second)
		if terms := s.written(); !terms[len(terms)-1].last.After(taken.Add(time.Hour)) {
			t.Error("nobody writes after the Lease was deleted")
		}
	})
}

// slowClient finishes an update of a status only a while after its context has ended.
type slowClient struct {
	apiregistrationclient.APIServicesGetter
	began, ended chan struct{}
}

func (c slowClient) APIServices() apiregistrationclient.APIServiceInterface {
	return slowAPIServices{c.APIServicesGetter.APIServices(), c}
}

type slowAPIServices struct {
	apiregistrationclient.APIServiceInterface
	slow slowClient
}

func (a slowAPIServices) UpdateStatus(ctx context.Context, o *apiregistrationv1.APIService, _ metav1.UpdateOptions) (*apiregistrationv1.APIService, error) {
	close(a.slow.began)
	<-ctx.Done()
	time.Sleep(5 * time.Second)
	close(a.slow.ended)
	return nil, ctx.Err()
}

// A server that stops gives the Lease up when nothing is being written any more.
func TestLeaseIsGivenUpAfterTheLastWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers(t)
		slow := slowClient{s.stored.client.ApiregistrationV1(), make(chan struct{}), make(chan struct{})}
		first := s.add("first", slow)
		first.writer.Sync(s.stored.snapshot(up))
		<-slow.began
		first.cancel()
		time.Sleep(4 * time.Second)
		if h := s.holder(); h != "first" {
			t.Errorf("%q holds the Lease while the first is writing", h)
		}
		<-slow.ended
		<-first.ended
		if h := s.holder(); h != "" {
			t.Errorf("%q holds the Lease after the end", h)
		}
	})
}

// While nothing happens a holder makes a request each retryPeriod, and a server that
// waits makes fewer, and writes nothing.
func TestAnElectionIsCheap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers(t)
		client := s.stored.client.ApiregistrationV1()
		first := s.add("first", client)
		time.Sleep(time.Minute)
		expect := func(n *server, verb string, least, most int) {
			t.Helper()
			got := n.counted()
			if got[verb] < least || got[verb] > most || len(got) != 1 {
				t.Errorf("the %s made these requests in 20 minutes: %v, want %d to %d times %s", n.name, got, least, most, verb)
			}
		}
		first.counted()
		time.Sleep(20 * time.Minute)
		expect(first, "update", 119, 121)
		second := s.add("second", client)
		time.Sleep(time.Minute)
		first.counted()
		second.counted()
		time.Sleep(20 * time.Minute)
		expect(first, "update", 119, 121)
		expect(second, "get", int(20*time.Minute/longestLook), 121)
		first.stop()
		second.stop()
	})
}

// Terms are numbered, and there is none between them.
func TestTermsAreNumbered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(Config{})
		for want := int64(1); want <= 3; want++ {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				w.write(ctx, func() error { return nil })
			}()
			synctest.Wait()
			if got := w.Term(); got != want {
				t.Errorf("term %d, want %d", got, want)
			}
			cancel()
			<-ended
			if got := w.Term(); got != 0 {
				t.Errorf("term %d after its end", got)
			}
		}
	})
}

// Whose Lease is in doubt removes nobody's: another server may be the one to write.
func TestLeaseInDoubtRemovesNothing(t *testing.T) {
	client := fake.NewClientset()
	w := New(Config{Leases: client.CoordinationV1(), Namespace: "kube-system"})
	gone := &coordinationv1.Lease{}
	gone.Name = "annex-dissent-gone"
	w.peers.learn(time.Now().Add(-2*dissentLifetime), gone)
	for _, c := range []struct {
		may  error
		want int
	}{{errLeaseInDoubt, 0}, {nil, 1}} {
		w.deleteExpired(t.Context(), func() error { return c.may })
		deleted := 0
		for _, a := range client.Actions() {
			if a.GetVerb() == "delete" {
				deleted++
			}
		}
		if deleted != c.want {
			t.Errorf("where the Lease is %v, %d are deleted, want %d", c.may, deleted, c.want)
		}
	}
}
