package conformance

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

func storageChecks() []Check {
	return []Check{{
		ID:      "storage/down",
		Promise: "While the storage is down a list is answered with an error, never 200 and empty; the server comes back by itself, and a watcher misses nothing.",
		Source:  conventions + "#http-status-codes, and https://github.com/kubernetes-retired/service-catalog/issues/2633",
		Faults:  []int{14},
		Needs:   []Need{Writable, Watchable, StorageSwitch},
		Within:  3 * time.Minute,
		Run:     checkStorageDown,
	}}
}

// silence is how long we wait for an answer that may not come.
const silence = 10 * time.Second

func checkStorageDown(ctx context.Context, t *T) {
	o := t.create(ctx)
	w := t.watching(ctx, "resourceVersion", o.GetResourceVersion())
	stopped := true
	t.mu.Lock()
	t.undo = append(t.undo, func(ctx context.Context) error {
		if !stopped {
			return nil
		}
		if err := t.target.Storage.Start(ctx); err != nil {
			return fmt.Errorf("start the storage again: %w", err)
		}
		return nil
	})
	t.mu.Unlock()
	if err := t.target.Storage.Stop(ctx); err != nil {
		t.notApplicable("the storage could not be stopped: %v", err)
	}
	// A consistent list goes to the storage; the watch cache may answer others.
	bounded, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	a, err := try(bounded, t.admin, t.listing())
	if err == nil {
		if a.Code == http.StatusOK && len(t.own(t.listed(a))) == 0 {
			t.failf(a.Exchange, "the list is empty while the storage is down: a controller would delete everything")
		} else if a.Code != http.StatusOK {
			if a.Code < 500 {
				t.failf(a.Exchange, "answered %s while the storage is down, want a 5xx", code(a.Code))
			}
			t.status(a)
		}
	}
	bounded, cancel = context.WithTimeout(ctx, silence)
	defer cancel()
	write, err := try(bounded, t.admin, t.posting(t.object()))
	if err == nil && write.Code/100 == 2 {
		t.failf(write.Exchange, "a write was answered %s while the storage is down", code(write.Code))
	}
	if err := t.target.Storage.Start(ctx); err != nil {
		t.fatalf(nil, "the storage could not be started again: %v", err)
	}
	stopped = false
	t.eventually(ctx, t.target.recovery(), func() (*Exchange, string) {
		a, err := try(ctx, t.admin, t.listing())
		if err != nil {
			return a.Exchange, "there is no answer: " + err.Error()
		}
		if a.Code != http.StatusOK {
			return a.Exchange, fmt.Sprintf("a list is answered %s after the storage is back", code(a.Code))
		}
		if len(t.own(t.listed(a))) == 0 {
			return a.Exchange, "the object is lost"
		}
		return nil, ""
	})
	next := t.create(ctx)
	events, seen := w.until(ctx, soon, func(e event) bool { return e.kind == failed || e.object.GetName() == next.GetName() })
	if seen && events[len(events)-1].kind != failed {
		return
	}
	// The watch has ended, as it may: its client lists or watches again and must see all.
	t.await(ctx, t.watching(ctx, "resourceVersion", o.GetResourceVersion()), added, next)
}
