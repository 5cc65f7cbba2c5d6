package backend

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backend/limit"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

var alice = Sender{User: "alice"}

func TestAdmitSaysWhyNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := New(Config{Limits: limit.Config{InFlight: 1, Queue: 1, QueuePerUser: 1, Wait: time.Second}})
		defer pool.Close()
		a := &catalog.APIService{Registration: catalog.Registration{Name: "v1.a.example"}}
		b := pool.Get(a)

		release, refusal := b.Admit(t.Context(), a, alice, UnderWay)
		if refusal != nil {
			t.Fatalf("the first request is refused: %+v", refusal)
		}
		start := time.Now()
		_, refusal = b.Admit(t.Context(), a, alice, UnderWay)
		if refusal == nil || refusal.Reason != Full || refusal.RetryAfter < 1 || time.Since(start) != time.Second {
			t.Errorf("beside it, after %s: %+v", time.Since(start), refusal)
		}
		done, refusal := b.Admit(t.Context(), a, alice, LongRunning)
		if refusal != nil {
			t.Fatalf("a long-running request beside it: %+v", refusal)
		}
		if inFlight, queued := b.Load(); inFlight != 1 || queued != 0 {
			t.Errorf("%d under way and %d queued, want 1 and 0", inFlight, queued)
		}
		left, cancel := context.WithCancel(t.Context())
		cancel()
		if _, refusal = b.Admit(left, a, alice, UnderWay); refusal == nil || refusal.Reason != Full {
			t.Errorf("a client that left: %+v", refusal)
		}
		done()
		release()

		down := *a
		down.Verdict = catalog.Verdict{Status: apiregistrationv1.ConditionFalse}
		if _, refusal = b.Admit(t.Context(), &down, alice, UnderWay); refusal == nil || refusal.Reason != Unavailable || refusal.RetryAfter != 0 {
			t.Errorf("unavailable: %+v", refusal)
		}
		for range 1000 {
			_, refusal = b.Admit(t.Context(), &down, alice, UnderWay)
		}
		if refusal.RetryAfter < 1 {
			t.Errorf("one of many that are refused: %+v", refusal)
		}

		bad := &catalog.APIService{
			Registration: catalog.Registration{Name: "v1.b.example", CABundle: []byte("no PEM")},
			Backend:      catalog.BackendID{Insecure: true}, // another one than that of a
		}
		b = pool.Get(bad)
		if _, refusal = b.Admit(t.Context(), bad, alice, UnderWay); refusal == nil || refusal.Reason != Unusable || !errors.Is(refusal.Err, b.Err()) {
			t.Errorf("unusable: %+v", refusal)
		}
		if inFlight, queued := b.Load(); inFlight != 0 || queued != 0 {
			t.Errorf("%d under way and %d queued after refusals", inFlight, queued)
		}
	})
}

// Each request that is admitted makes room for a fifth of a retry.
func TestRetriesAreAShareOfTheRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := New(Config{})
		defer pool.Close()
		a := &catalog.APIService{Registration: catalog.Registration{Name: "v1.a.example"}}
		b := pool.Get(a)
		take := func() (taken int) {
			for b.TakeRetry() {
				taken++
			}
			return taken
		}
		if n := take(); n != retryBurst {
			t.Errorf("%d retries at once, want %d", n, retryBurst)
		}
		for range 51 { // a fifth is no exact number of a computer's
			release, refusal := b.Admit(t.Context(), a, alice, UnderWay)
			if refusal != nil {
				t.Fatalf("%+v", refusal)
			}
			release()
		}
		if n := take(); n != 10 {
			t.Errorf("%d retries for 51 requests, want 10", n)
		}
		time.Sleep(time.Second)
		if n := take(); n != retryRate {
			t.Errorf("%d retries after a second, want %d", n, retryRate)
		}
	})
}
