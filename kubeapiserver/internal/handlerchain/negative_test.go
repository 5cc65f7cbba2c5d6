package handlerchain

import (
	"maps"
	"net/http"
	"slices"
	"testing"

	genericapiserver "k8s.io/apiserver/pkg/server"
)

// TestComparisonFindsWhatIsLeftOut compares the reference with itself, once with
// one effect less each time: it must be told, and the rest must be the same.
func TestComparisonFindsWhatIsLeftOut(t *testing.T) {
	without := func(change func(*genericapiserver.Config)) chain {
		return func(h http.Handler, c *genericapiserver.Config) http.Handler {
			other := *c
			change(&other)
			return reference(h, &other)
		}
	}
	get := call{target: widget, as: "alice"}
	for _, c := range []struct {
		name  string
		build chain
		call  call
		// told are the parts of the observation that differ.
		told []string
	}{
		{"nothing", reference, get, nil},
		{"the audit backend", without(func(c *genericapiserver.Config) { c.AuditBackend = nil }), get, []string{"Audit", "Metrics", "Seen"}},
		{"strict transport", without(func(c *genericapiserver.Config) { c.HSTSDirectives = nil }), get, []string{"Answers"}},
		{
			"the identity of a proxy's user", without(func(c *genericapiserver.Config) { c.Authentication.RequestHeaderConfig = nil }),
			call{target: widget, as: "alice", header: with("X-Custom-User", "x")},
			[]string{"Seen"},
		},
		{
			"a filter's latency", without(func(c *genericapiserver.Config) { c.MaxRequestsInFlight, c.MaxMutatingRequestsInFlight = 0, 0 }),
			call{target: widget, as: "alice", behind: true},
			[]string{"Answers", "Audit", "Metrics", "Seen"},
		},
		{"the deadline", without(func(c *genericapiserver.Config) { c.RequestTimeout *= 2 }), get, []string{"Seen"}},
		{"goodbyes", without(func(c *genericapiserver.Config) { c.GoawayChance = 0 }), get, []string{"Answers"}},
		{"a count", func(h http.Handler, c *genericapiserver.Config) http.Handler {
			h = reference(h, c)
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("X-Do") == "abort" {
					panic(http.ErrAbortHandler)
				}
				h.ServeHTTP(w, r)
			})
		}, call{target: widgets, as: "alice", header: does("abort")}, []string{"Audit", "Metrics", "Seen"}},
	} {
		t.Run(c.name, func(sub *testing.T) {
			change := func(_ *testing.T, w *world) {
				w.config.HSTSDirectives = []string{"max-age=1"}
				w.config.GoawayChance = 1
				w.config.MaxRequestsInFlight, w.config.MaxMutatingRequestsInFlight = 1, 1
			}
			ids := newIdentities(sub)
			p := pair{newWorld(t, ids, reference, change), newWorld(t, ids, c.build, change)}
			defer p.stop()
			p.warm(sub)
			want := p.reference.observe(sub, "h2", c.call, nil)
			got := p.ours.observe(sub, "h2", c.call, nil)
			if told := parts(want, got); !slices.Equal(told, c.told) {
				sub.Errorf("the comparison tells of %q, want %q:\n%s", told, c.told, diff(want, got))
			}
		})
	}
}

// parts names the parts in which two observations differ.
func parts(a, b observation) []string {
	differ := map[string]bool{}
	for name, keep := range map[string]func(observation) observation{
		"Answers": func(o observation) observation { return observation{Answers: o.Answers} },
		"Seen":    func(o observation) observation { return observation{Seen: o.Seen} },
		"Audit":   func(o observation) observation { return observation{Audit: o.Audit} },
		"Metrics": func(o observation) observation { return observation{Metrics: o.Metrics} },
		"Spans":   func(o observation) observation { return observation{Spans: o.Spans} },
		"Log":     func(o observation) observation { return observation{Log: o.Log} },
	} {
		if diff(keep(a), keep(b)) != "" {
			differ[name] = true
		}
	}
	return slices.Sorted(maps.Keys(differ))
}
