package kubeapiserver

import "sync"

// work is what post-start hooks leave running. They run on their own, and may come to
// begin something when the server has ended already: that is not begun any more.
type work struct {
	mu      sync.Mutex
	ended   bool
	running sync.WaitGroup
}

// Go runs f in a goroutine, unless Wait was called.
func (w *work) Go(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		w.running.Go(f)
	}
}

// Wait lets nothing begin any more, and returns when all that runs has ended. Who calls
// it has ended the contexts of that.
func (w *work) Wait() {
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	w.running.Wait()
}
