package gather

import "sync"

// memo has what was asked once in a run, so that it is not asked again for the next APIService: many
// have one Service, one namespace or one ServiceAccount. The zero value is ready. It is safe for
// concurrent use, and what it gives is shared: nobody changes it.
type memo struct {
	mu    sync.Mutex
	known map[string]func() any
}

// once is what ask gives for a key, asked by the first who wants it; the others wait for that.
func once[T any](m *memo, key string, ask func() T) T {
	m.mu.Lock()
	known, has := m.known[key]
	if !has {
		known = sync.OnceValue(func() any { return ask() })
		if m.known == nil {
			m.known = map[string]func() any{}
		}
		m.known[key] = known
	}
	m.mu.Unlock()
	return known().(T)
}
