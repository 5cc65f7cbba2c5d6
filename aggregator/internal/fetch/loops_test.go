package fetch

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// remote answers requests within the bubble, and remembers when they came.
type remote struct {
	mu    sync.Mutex
	files files
	asked map[string][]time.Time
}

func (r *remote) RoundTrip(request *http.Request) (*http.Response, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	path := request.URL.Path
	r.asked[path] = append(r.asked[path], time.Now())
	w := httptest.NewRecorder()
	r.files.ServeHTTP(w, request)
	return w.Result(), nil
}

func (r *remote) set(path, body string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files[path] = body
}

func (r *remote) remove(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.files, path)
}

// times are those of the requests for a path, from the last of the previous call
// on.
func (r *remote) times(path string) []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := slices.Clone(r.asked[path])
	r.asked[path] = slices.Clone(all[max(0, len(all)-1):])
	return all
}

// next lets time pass until there is a request for path after those that times
// has told of.
func (r *remote) next(t *testing.T, path string) time.Time {
	t.Helper()
	for range 600 {
		if times := r.times(path); len(times) > 1 {
			return times[len(times)-1]
		}
		pass(time.Second)
	}
	t.Fatalf("%s is asked for no more", path)
	return time.Time{}
}

// expect fails unless the pauses between requests for path are about as given:
// jittered by a tenth, and up to a second shorter.
func (r *remote) expect(t *testing.T, what, path string, want ...time.Duration) {
	t.Helper()
	times := r.times(path)
	if len(times) != len(want)+1 {
		t.Errorf("%s: %s was asked for %d times, not %d", what, path, len(times)-1, len(want))
		return
	}
	for i, w := range want {
		if got := times[i+1].Sub(times[i]); got < w*9/10-time.Second || got > w*11/10 {
			t.Errorf("%s: pause %d before %s was %v, not about %v", what, i, path, got, w)
		}
	}
}

const v2 = "/openapi/v2"

// paced runs a Fetcher against a server in the bubble.
func paced(t *testing.T, timing Timing, test func(f *Fetcher, r *remote, sync func(resourceVersion string))) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{files: files{v2: swagger(own)}, asked: map[string][]time.Time{}}
		r.set("/apis/a.example/v1", string(legacyList("a.example/v1", thing)))
		pool := backend.New(backend.Config{Wrap: func(http.RoundTripper) http.RoundTripper { return r }})
		defer pool.Close()
		f := New(timing, pool, func() {}, func() {})
		ctx, cancel := context.WithCancel(t.Context())
		s := &backendtest.Server{Service: "api", Address: "192.0.2.1:443"}
		test(f, r, func(resourceVersion string) {
			object := s.APIService(name)
			object.ResourceVersion = resourceVersion
			facts := backendtest.Facts(nil, s)
			facts.Registrations[name] = catalog.NewRegistration(object)
			f.Sync(ctx, catalog.Build(facts))
			synctest.Wait()
		})
		cancel()
		f.Wait()
	})
}

func pass(d time.Duration) {
	time.Sleep(d) // the bubble's clock
	synctest.Wait()
}

// withoutProber is the usual timing without a prober.
func withoutProber() Timing {
	timing := DefaultTiming()
	timing.ProbeWait = 0
	return timing
}

func TestUnchangedOpenAPIIsAskedForLessAndLess(t *testing.T) {
	const m = time.Minute
	paced(t, withoutProber(), func(f *Fetcher, r *remote, sync func(string)) {
		sync("1")
		pass(19 * m)
		r.expect(t, "unchanged", v2, m, 2*m, 4*m, 5*m, 5*m)
		if n := len(r.times("/apis")); n < 17 || n > 22 {
			t.Errorf("discovery was asked for %d times in 19 minutes", n)
		}

		r.set(v2, swagger(own, ownItem))
		last := r.times(v2)
		pass(time.Until(last[0].Add(9*m + m/2)))
		r.expect(t, "changed", v2, 5*m, m, 2*m)
	})
}

func TestV2IsSeldomAskedForWhileV3IsUnchanged(t *testing.T) {
	const m = time.Minute
	v3 := func(hash string) string {
		return fmt.Sprintf(`{"paths":{%q:{"serverRelativeURL":"/openapi/v3/%s?hash=%s"}}}`, key, key, hash)
	}
	paced(t, withoutProber(), func(f *Fetcher, r *remote, sync func(string)) {
		for _, hash := range []string{"1", "2"} {
			r.set("/openapi/v3/"+key+"?hash="+hash, `{"openapi":"3.0.0","paths":{}}`)
		}
		r.set("/openapi/v3", v3("1"))
		sync("1")
		pass(8 * m)
		r.expect(t, "unchanged v3", "/openapi/v3", m, 2*m, 4*m)
		r.expect(t, "v2 beside it", v2, 7*m)

		r.set("/openapi/v3", v3("2"))
		if late := r.next(t, v2).Sub(r.next(t, "/openapi/v3")); late != 0 {
			t.Errorf("v3 has changed, and v2 was asked for %v after it", late)
		}
		f.RefreshSoon(id())
		if late := r.next(t, v2).Sub(r.next(t, "/openapi/v3")); late != 0 {
			t.Errorf("a connection was lost, and v2 was asked for %v after v3", late)
		}
	})
	paced(t, withoutProber(), func(_ *Fetcher, r *remote, sync func(string)) {
		r.remove(v2)
		sync("1")
		pass(8 * m)
		r.expect(t, "no v3", "/openapi/v3", m, 2*m, 4*m)
		r.expect(t, "no v2 either", v2, 7*m)
		r.set(v2, swagger(own))
		pass(10 * m)
		if n := len(r.times(v2)); n < 2 {
			t.Error("v2 has come, and was not asked for")
		}
	})
}

func TestSignsOfChangeHasten(t *testing.T) {
	const m = time.Minute
	for what, c := range map[string]struct {
		sign func(f *Fetcher, r *remote, sync func(string))
		at   time.Duration // when the sign comes, after the last download
		want time.Duration // when the next download comes, after the last one
	}{
		"a connection lost soon after a download": {func(f *Fetcher, _ *remote, _ func(string)) { f.RefreshSoon(id()) }, 10 * time.Second, m},
		"a connection lost later":                 {func(f *Fetcher, _ *remote, _ func(string)) { f.RefreshSoon(id()) }, 2 * m, 2 * m},
		"the APIService was edited":               {func(_ *Fetcher, _ *remote, sync func(string)) { sync("2") }, 2 * m, 2 * m},
		"other resources": {func(_ *Fetcher, r *remote, _ func(string)) {
			other := thing
			other.Name = "others"
			r.set("/apis/a.example/v1", string(legacyList("a.example/v1", other)))
		}, 10 * time.Second, m},
	} {
		t.Run(what, func(t *testing.T) {
			paced(t, withoutProber(), func(f *Fetcher, r *remote, sync func(string)) {
				sync("1")
				pass(8 * m)
				r.times(v2)
				last := r.next(t, v2) // the pause is at its longest
				pass(c.at)
				if n := len(r.times(v2)); n != 1 {
					t.Fatalf("%d more downloads before the sign", n-1)
				}
				c.sign(f, r, sync)
				hastened := r.next(t, v2)
				// Other resources are seen by the next discovery, a minute on.
				if got := hastened.Sub(last); got > c.want+m/3 {
					t.Errorf("the next download came %v after the last, want %v", got, c.want)
				}
				if got := r.next(t, v2).Sub(hastened); got > m*11/10 {
					t.Errorf("the pause after it was %v: the pace does not begin anew", got)
				}
			})
		})
	}
}

func id() catalog.BackendID {
	return (&backendtest.Server{Service: "api", Address: "192.0.2.1:443"}).Claim(name).Backend
}

func TestFirstDownloadsUseTheProbesConnection(t *testing.T) {
	paced(t, DefaultTiming(), func(f *Fetcher, r *remote, sync func(string)) {
		sync("1")
		pass(time.Second)
		if n := len(r.times("/apis")) + len(r.times(v2)); n > 0 {
			t.Errorf("%d requests before a probe has ended", n)
		}
		f.ProbeEnded(name)
		f.ProbeEnded("v1.unknown.example")
		pass(0)
		if len(r.times("/apis")) != 1 || len(r.times(v2)) != 1 {
			t.Error("a probe has ended, and the documents are not downloaded")
		}
	})
	paced(t, DefaultTiming(), func(_ *Fetcher, r *remote, sync func(string)) {
		sync("1")
		pass(DefaultTiming().ProbeWait)
		if len(r.times("/apis")) != 1 {
			t.Error("discovery waits for ever for a probe that does not end")
		}
	})
}

// Whatever flaps, and however often: an hour of it costs a bounded number of
// downloads, and the first change after a quiet time is seen at once.
func TestAnHourOfFlappingIsDownloadedWithinBounds(t *testing.T) {
	const hour = time.Hour
	// What changes ask for, what is due anyhow, and some that failed.
	most := wokenDownloads + int(hour/wokenPeriod)*wokenDownloads + int(hour/time.Minute)*5/4
	resources := func(i int) string {
		changed := thing
		changed.Name = fmt.Sprint("things", i)
		return string(legacyList("a.example/v1", changed))
	}
	flap := map[string]func(i int, f *catalog.Facts, s *backendtest.Server, r *remote){
		"availability": func(i int, f *catalog.Facts, _ *backendtest.Server, _ *remote) {
			f.Verdicts[name] = catalog.Verdict{Status: []catalog.Status{"True", "False"}[i%2]}
		},
		"discovery": func(i int, _ *catalog.Facts, _ *backendtest.Server, r *remote) {
			r.set("/apis/a.example/v1", resources(i))
		},
		"availability and discovery": func(i int, f *catalog.Facts, _ *backendtest.Server, r *remote) {
			f.Verdicts[name] = catalog.Verdict{Status: []catalog.Status{"True", "False"}[i%2]}
			r.set("/apis/a.example/v1", resources(i))
		},
		"availability and answers": func(i int, f *catalog.Facts, _ *backendtest.Server, r *remote) {
			f.Verdicts[name] = catalog.Verdict{Status: []catalog.Status{"True", "False"}[i%2]}
			if i%6 < 3 {
				r.remove("/apis/a.example/v1")
			} else {
				r.set("/apis/a.example/v1", resources(0))
			}
		},
	}
	for what, change := range flap {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &remote{files: files{v2: swagger(own)}, asked: map[string][]time.Time{}}
				r.set("/apis/a.example/v1", resources(0))
				pool := backend.New(backend.Config{Wrap: func(http.RoundTripper) http.RoundTripper { return r }})
				defer pool.Close()
				f := New(withoutProber(), pool, func() {}, func() {})
				ctx, cancel := context.WithCancel(t.Context())
				sync := func(i int) {
					s := &backendtest.Server{Service: "api", Address: "192.0.2.1:443"}
					facts := backendtest.Facts([]*apiregistrationv1.APIService{s.APIService(name)}, s)
					change(i, &facts, s, r)
					f.Sync(ctx, catalog.Build(facts))
				}
				sync(0)
				pass(10 * time.Minute)
				r.times("/apis")
				before := time.Now()
				sync(1)
				if what != "discovery" { // which nobody tells of
					pass(wokenPause)
					if n := len(r.times("/apis")); n < 2 {
						t.Errorf("the first change was not seen within %v", time.Since(before))
					}
				}
				r.times(v2)
				for i := range int(hour / (250 * time.Millisecond)) {
					sync(i)
					pass(250 * time.Millisecond)
				}
				for _, path := range []string{"/apis", v2} {
					times := r.times(path)
					t.Logf("%s: %d downloads", path, len(times))
					if len(times) > most {
						t.Errorf("%s was downloaded %d times, at most %d are allowed", path, len(times), most)
					}
					for i := 1; i < len(times); i++ {
						if gap := times[i].Sub(times[i-1]); gap < wokenPause {
							t.Errorf("%s was downloaded again after %v", path, gap)
							break
						}
					}
				}
				cancel()
				f.Wait()
			})
		})
	}
}
