package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Watches are clients that each hold a watch, and begin it anew when it ends.
type Watches struct {
	Clients []*http.Client // they take turns
	New     func(ctx context.Context) (*http.Request, error)
	Count   int
}

// WatchTally is what became of watches.
type WatchTally struct {
	// Ended is how many ended as they should: at the end of an event, without
	// an error.
	Ended int `json:"ended"`
	// Errors is how many sent an error event, Broken how many broke in the
	// middle, Refused how often one was not begun.
	Errors  int    `json:"errors"`
	Broken  int    `json:"broken"`
	Refused int    `json:"refused"`
	Example string `json:"example,omitempty"` // of a failure
}

// Failed is how often a client saw an error.
func (t WatchTally) Failed() int { return t.Errors + t.Broken + t.Refused }

// Holder holds watches until Stop.
type Holder struct {
	watches Watches
	open    atomic.Int64
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu sync.Mutex
	t  WatchTally
}

// Hold begins the watches.
func Hold(ctx context.Context, w Watches) *Holder {
	ctx, cancel := context.WithCancel(ctx)
	h := &Holder{watches: w, cancel: cancel}
	for i := range w.Count {
		h.wg.Go(func() {
			client := w.Clients[i%len(w.Clients)]
			for ctx.Err() == nil {
				if !h.watch(ctx, client) {
					wait(ctx, failurePause/10)
				}
			}
		})
	}
	return h
}

// Open is how many watches have sent their first event and not ended.
func (h *Holder) Open() int { return int(h.open.Load()) }

// Stop ends the watches.
func (h *Holder) Stop() WatchTally {
	h.cancel()
	h.wg.Wait()
	return h.t
}

// watch holds one watch and says whether it ended well.
func (h *Holder) watch(ctx context.Context, client *http.Client) bool {
	request, err := h.watches.New(ctx)
	if err != nil {
		h.note(ctx, &h.t.Refused, err)
		return false
	}
	response, err := client.Do(request)
	if err != nil {
		h.note(ctx, &h.t.Refused, err)
		return false
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 300)) // Only an example.
		h.note(ctx, &h.t.Refused, fmt.Errorf("status %d: %s", response.StatusCode, body))
		return false
	}
	events := bufio.NewReader(response.Body)
	for first := true; ; first = false {
		line, err := events.ReadString('\n')
		switch {
		case errors.Is(err, io.EOF) && line == "":
			h.note(ctx, &h.t.Ended, nil)
			return true
		case err != nil:
			h.note(ctx, &h.t.Broken, err)
			return false
		case strings.HasPrefix(line, `{"type":"ERROR"`):
			h.note(ctx, &h.t.Errors, errors.New(strings.TrimSpace(line)))
			return false
		case first:
			h.open.Add(1)
			defer h.open.Add(-1)
		}
	}
}

// note counts, unless it is we who ended the watch.
func (h *Holder) note(ctx context.Context, counter *int, example error) {
	if ctx.Err() != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	*counter++
	if example != nil && h.t.Example == "" {
		h.t.Example = example.Error()
	}
}

// Until waits until n watches are open, for a limit at most.
func (h *Holder) Until(ctx context.Context, n int, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for h.Open() < n {
		if !wait(ctx, 20*time.Millisecond) {
			return fmt.Errorf("waiting for %d watches, %d are open: %w", n, h.Open(), ctx.Err())
		}
	}
	return nil
}
