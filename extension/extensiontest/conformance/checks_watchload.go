package conformance

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

func watchLoadChecks() []Check {
	return []Check{
		{
			ID:      "watch/stop",
			Promise: "Watches that are opened and dropped while others write hold nobody up, and later watches work.",
			Source:  watchSource,
			Faults:  []int{5},
			Needs:   []Need{Writable, Watchable},
			Run:     checkWatchStop,
		},
		{
			ID:      "watch/many",
			Promise: "500 watchers get an event within a few seconds.",
			Source:  "https://github.com/kubernetes/community/blob/master/sig-scalability/slos/watch_latency.md",
			Faults:  []int{5},
			Needs:   []Need{Writable, Watchable},
			Within:  time.Minute,
			Run:     checkManyWatchers,
		},
		{
			ID:      "watch/slow-reader",
			Promise: "A watcher that does not read holds up neither writers nor other watchers.",
			Source:  "k8s.io/apiserver/pkg/storage/cacher/cache_watcher.go",
			Faults:  []int{5},
			Needs:   []Need{Writable, Watchable},
			Slow:    true,
			Within:  2 * time.Minute,
			Run:     checkSlowReader,
		},
	}
}

// writeLimit is how long one write may take while watches come and go.
const writeLimit = 5 * time.Second

func checkWatchStop(ctx context.Context, t *T) {
	const watches = 50
	o := t.create(ctx)
	version := t.now(ctx)
	r := request{method: http.MethodGet, path: t.subject.path(t.subject.namespace, ""), query: query("watch", "true", "resourceVersion", version)}
	var open sync.WaitGroup
	problems := make(chan string, watches)
	for range watches {
		open.Go(func() {
			w, err := openWatch(ctx, t.admin, r)
			w.stop()
			if err != nil {
				problems <- "a watch got no answer: " + err.Error()
			}
		})
	}
	slowest := time.Duration(0)
	for i := 0; i < 20 && slowest <= writeLimit; i++ {
		begin := time.Now()
		o = t.relabel(ctx, o, "round", fmt.Sprint(i))
		slowest = max(slowest, time.Since(begin))
	}
	open.Wait()
	close(problems)
	for problem := range problems {
		t.failf(nil, "%s", problem)
	}
	if slowest > writeLimit {
		t.failf(nil, "a write took %v while %d watches were opened and dropped", slowest.Round(time.Millisecond), watches)
	}
	w := t.watching(ctx, "resourceVersion", o.GetResourceVersion())
	t.await(ctx, w, added, t.create(ctx))
}

func checkManyWatchers(ctx context.Context, t *T) {
	const (
		watchers = 500
		opening  = 20 // at once
		limit    = 5 * time.Second
	)
	version := t.now(ctx)
	r := request{method: http.MethodGet, path: t.subject.path(t.subject.namespace, ""), query: query("watch", "true", "resourceVersion", version)}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	slots := make(chan struct{}, opening)
	var wg sync.WaitGroup
	watches := make([]*watch, watchers)
	problems := make([]string, watchers)
	for i := range watches {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			watches[i], problems[i] = openPatiently(ctx, t.admin, r)
		})
	}
	wg.Wait()
	defer func() {
		cancel()
		for _, w := range watches {
			w.stop()
		}
	}()
	for _, problem := range problems {
		if problem != "" {
			t.fatalf(nil, "of %d watches one was not granted: %s", watchers, problem)
		}
	}
	begin := time.Now()
	o := t.create(ctx)
	late := make([]bool, watchers)
	for i, w := range watches {
		wg.Go(func() {
			_, ok := w.until(ctx, limit, func(e event) bool { return e.kind == added && e.object.GetName() == o.GetName() })
			late[i] = !ok
		})
	}
	wg.Wait()
	count := 0
	for _, l := range late {
		if l {
			count++
		}
	}
	if count > 0 {
		t.failf(nil, "%d of %d watchers did not see a new object within %v", count, watchers, time.Since(begin).Round(time.Millisecond))
	}
}

// openPatiently opens a watch, again where the server asks for patience.
func openPatiently(ctx context.Context, c *client, r request) (*watch, string) {
	for {
		w, err := openWatch(ctx, c, r)
		switch {
		case err != nil:
			return w, err.Error()
		case w.refused == nil:
			return w, ""
		case w.refused.Code != http.StatusTooManyRequests || !pause(ctx, time.Second):
			return w, code(w.refused.Code) + saying(w.refused.raw)
		}
		w.stop()
	}
}

func checkSlowReader(ctx context.Context, t *T) {
	const (
		changes = 400
		size    = 20 << 10 // more than connections and buffers hold
	)
	o := t.create(ctx)
	version := o.GetResourceVersion()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	deaf := request{method: http.MethodGet, path: t.subject.path(t.subject.namespace, ""), query: query("watch", "true", "resourceVersion", version)}
	resp, e, err := t.admin.open(ctx, deaf)
	if err != nil {
		t.fatalf(e, "there was no answer: %v", err)
	}
	defer func() {
		cancel()
		_, _ = io.Copy(io.Discard, resp.Body) // ends with ctx
		resp.Body.Close()
	}()
	w := t.watching(ctx, "resourceVersion", version)
	padding := strings.Repeat("x", size)
	for i := range changes {
		o.SetAnnotations(map[string]string{"annex-conformance/padding": padding, roundAnnotation: fmt.Sprint(i)})
		begin := time.Now()
		o = t.update(ctx, o)
		if took := time.Since(begin); took > writeLimit {
			t.fatalf(nil, "change %d took %v beside a watcher that does not read", i, took.Round(time.Millisecond))
		}
		version := o.GetResourceVersion()
		if _, ok := w.until(ctx, soon, func(e event) bool { return e.object.GetResourceVersion() == version }); !ok {
			t.fatalf(w.exchange(), "change %d did not reach a watcher within %v, beside one that does not read", i, soon)
		}
	}
}
