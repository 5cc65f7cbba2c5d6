//go:build !race

package kubeapiserver_test

import (
	"context"
	"io"
	"net/http"
	"runtime"
	"testing"

	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

// What a silent watch may hold in goroutines, the client's and the extension
// server's own included, as they are in this process too.
const (
	// maxGoroutines: the client's stream, the handler's, that of the stream to
	// the extension server, and that one's handler; and a share of the connections'.
	maxGoroutines = 4.3
	// maxStacks is in bytes: 18.8 KiB were measured. A stack doubles where it does
	// not suffice: one frame too many in the wrong place is 4 KiB and more.
	maxStacks = 22 << 10
)

func TestStacksOfSilentWatches(t *testing.T) {
	const watches = 400
	v1 := gv("stacks.test", "v1")
	e := server.Register(t, "stacks", v1)
	path := "/apis/" + v1.String() + "/things"
	e.Handle(path, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{}\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client := server.Client(test.Admin)
	client.Timeout = 0
	defer client.CloseIdleConnections()
	watch := func() {
		t.Helper()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+path+"?watch=true", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { response.Body.Close() })
		if _, err := io.ReadFull(response.Body, make([]byte, 3)); err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("status %d and %v before the first event", response.StatusCode, err)
		}
	}
	watch() // the connections are there
	goroutines, stacks := inUse()
	for range watches {
		watch()
	}
	g, s := inUse()
	perWatch, bytes := float64(g-goroutines)/watches, (s-stacks)/watches
	t.Logf("%.2f goroutines and %d bytes of stacks for a silent watch", perWatch, bytes)
	if perWatch > maxGoroutines || bytes > maxStacks {
		t.Errorf("a silent watch holds %.2f goroutines and %d bytes of stacks, at most %.1f and %d are allowed",
			perWatch, bytes, maxGoroutines, maxStacks)
	}
}

// inUse counts goroutines and the bytes of their stacks, after collections in
// which stacks shrink and the memory of those that ended is given back.
func inUse() (goroutines int, stacks int64) {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return runtime.NumGoroutine(), int64(m.StackInuse)
}
