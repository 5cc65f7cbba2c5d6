package view

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"

	"github.com/annex-api/annex/extension/internal/ring"
)

// unlessSecret hides what has the label secret.
func unlessSecret(_ context.Context, _ string, o runtime.Object) bool {
	_, secret := o.(*example.Pod).Labels["secret"]
	return !secret
}

// TestHiddenIsNotThere: for get, list and watch alike, whatever verb is hidden.
func TestHiddenIsNotThere(t *testing.T) {
	verbs := map[string]bool{}
	allowed := func(ctx context.Context, verb string, o runtime.Object) bool {
		verbs[verb] = true
		return unlessSecret(ctx, verb, o)
	}
	inLab(t, ring.Window{}, Config{Allowed: allowed}, func(l lab) {
		x := l.put("a/x")
		l.put("a/y secret=1")
		v := l.last()
		l.wantGet("x", "", "a/x")
		_, err := l.Resource.Get(l.in("a"), "y", nil)
		wantError(t, "get what is hidden", err, "404 NotFound")
		_, nobody := l.Resource.Get(l.in("a"), "z", nil)
		if got, want := err.Error(), strings.ReplaceAll(nobody.Error(), `"z"`, `"y"`); got != want {
			t.Errorf("what is hidden says %q, what is not there %q", got, want)
		}
		l.wantList("", v, "a/x")
		l.watch("").want("ADDED a/x @" + x)
		l.watch("initial=true bookmarks match=NotOlderThan").want("ADDED a/x @"+x, "BOOKMARK @"+v+" true")
		if want := map[string]bool{"get": true, "list": true, "watch": true}; !maps.Equal(verbs, want) {
			t.Errorf("asked for the verbs %v", verbs)
		}
	})
}

// TestFilteredEvents: ADDED when it becomes visible, DELETED with the last object
// that was when it ceases to be, whether the client listed before or the watch did.
func TestFilteredEvents(t *testing.T) {
	for _, how := range []string{"rv=", "initial=false rv=", "initial=false", "", "initial=true bookmarks match=NotOlderThan rv="} {
		t.Run(how, func(t *testing.T) {
			inLab(t, ring.Window{}, Config{Allowed: unlessSecret}, func(l lab) {
				x := l.put("a/x n=1")
				v := l.put("a/y secret=1")
				l.wantList("", v, "a/x n=1")
				query := how
				if strings.HasSuffix(how, "rv=") {
					query += v
				}
				w := l.watch(query)
				switch how {
				case "":
					w.want("ADDED a/x n=1 @" + x)
				case "initial=true bookmarks match=NotOlderThan rv=":
					w.want("ADDED a/x n=1 @"+x, "BOOKMARK @"+v+" true")
				}
				hidden := l.put("a/x n=2 secret=1")
				l.put("a/x n=3 secret=1")
				shown := l.put("a/x n=4")
				changed := l.put("a/x n=5")
				gone := l.remove("a/x")
				shownY := l.put("a/y n=1")
				hiddenY := l.put("a/y secret=1")
				l.remove("a/y")
				l.put("a/z secret=1")
				l.remove("a/z")
				again := l.put("a/x n=6")
				w.want(
					"DELETED a/x n=1 @"+hidden,
					"ADDED a/x n=4 @"+shown,
					"MODIFIED a/x n=5 @"+changed,
					"DELETED a/x n=5 @"+gone,
					"ADDED a/y n=1 @"+shownY,
					"DELETED a/y n=1 @"+hiddenY,
					"ADDED a/x n=6 @"+again,
				)
			})
		})
	}
}

// TestRightsThatChange: the next event of the object finds out.
func TestRightsThatChange(t *testing.T) {
	for _, how := range []string{"rv=", "initial=true match=NotOlderThan rv="} {
		t.Run(how, func(t *testing.T) {
			var may atomic.Bool
			may.Store(true)
			config := Config{Allowed: func(context.Context, string, runtime.Object) bool { return may.Load() }}
			inLab(t, ring.Window{}, config, func(l lab) {
				v := l.put("a/x")
				l.wantList("", v, "a/x")
				w := l.watch(how + v)
				if how != "rv=" {
					w.want("ADDED a/x @" + v)
				}
				v = l.put("a/x n=1")
				w.want("MODIFIED a/x n=1 @" + v)
				may.Store(false)
				w.want()
				v = l.put("a/x n=2")
				w.want("DELETED a/x n=1 @" + v)
				may.Store(true)
				w.want()
				v = l.put("a/x n=3")
				w.want("ADDED a/x n=3 @" + v)
			})
		})
	}
}

// TestPagesAreFilledUp: a page has as many as it may, however many are hidden in
// between, and says nothing of how many remain.
func TestPagesAreFilledUp(t *testing.T) {
	inLab(t, ring.Window{}, Config{Allowed: unlessSecret}, func(l lab) {
		// The second is the last of what is looked at for the first page, and the last is
		// hidden behind nothing: no token is lost in either place.
		shown := []int{7, chunk - 1, chunk + 100, chunk + 200, 2*chunk + 10, 2*chunk + 50, 2*chunk + 60}
		var pods, want []string
		for n := range 2*chunk + 100 {
			p := fmt.Sprintf("a/%05d", n)
			if !slices.Contains(shown, n) {
				p += " secret=1"
			} else {
				want = append(want, p)
			}
			pods = append(pods, p)
		}
		l.update(pods...)
		v := l.last()
		l.wantList("", v, want...)
		l.wantList("rv=0 limit=2", v, want...) // the cache does not cut a list at 0
		var got []string
		token := ""
		for range len(want) {
			object, err := l.Resource.List(l.in("a"), options(t, "limit=2 continue="+token))
			if err != nil {
				t.Fatal(err)
			}
			list := object.(*example.PodList)
			for i := range list.Items {
				got = append(got, show(&list.Items[i]))
			}
			if list.ResourceVersion != v || list.RemainingItemCount != nil {
				t.Errorf("a page at %s with %v remaining, want %s and nothing said", list.ResourceVersion, list.RemainingItemCount, v)
			}
			if token = list.Continue; token == "" {
				break
			}
			if len(list.Items) != 2 {
				t.Errorf("a page of %d, with more to come", len(list.Items))
			}
			l.put("a/zzz secret=1 n=" + fmt.Sprint(len(got)))
		}
		if !slices.Equal(got, want) || token != "" {
			t.Errorf("the pages have %q, want %q", got, want)
		}
	})
}

// TestPanicInAllowed is a 500 for that request, and the server lives.
func TestPanicInAllowed(t *testing.T) {
	allowed := func(_ context.Context, _ string, o runtime.Object) bool {
		if o.(*example.Pod).Name == "bad" {
			panic("oh")
		}
		return true
	}
	inLab(t, ring.Window{}, Config{Allowed: allowed}, func(l lab) {
		v := l.put("a/x")
		l.wantList("", v, "a/x")
		w := l.watch("rv=" + v)
		l.put("b/bad")
		w.want("ERROR 500 InternalError")
		if got := w.next(); got != "closed" {
			t.Errorf("the watch goes on: %s", got)
		}
		_, _, _, err := l.list("")
		wantError(t, "list", err, "500 InternalError")
		_, err = l.Resource.Get(l.in("b"), "bad", nil)
		wantError(t, "get", err, "500 InternalError")
		l.wantGet("x", "", "a/x")
	})
}

// TestAllowedIsWithoutWrapping: it always gets the kind's own type.
func TestAllowedIsWithoutWrapping(t *testing.T) {
	var wrong atomic.Pointer[string]
	allowed := func(_ context.Context, verb string, o runtime.Object) bool {
		if _, ok := o.(*example.Pod); !ok {
			s := fmt.Sprintf("%s of a %T", verb, o)
			wrong.Store(&s)
		}
		return true
	}
	inLab(t, ring.Window{Events: 1, Most: 1}, Config{Allowed: allowed}, func(l lab) {
		v := l.put("a/x")
		l.wantList("", v, "a/x")
		w := l.watch("")
		w.want("ADDED a/x @" + v)
		// The client is behind: its second event is forgotten by the ring.
		first, second, third := l.put("a/x n=1"), l.put("a/x n=2"), l.put("a/x n=3")
		w.want("MODIFIED a/x n=1 @"+first, "MODIFIED a/x n=2 @"+second, "MODIFIED a/x n=3 @"+third)
	})
	if s := wrong.Load(); s != nil {
		t.Error(*s)
	}
}

// TestFarBehind: a watch that is so far behind that the ring has no longer what was there
// before an event still says what is gone, but cannot say what became hidden.
func TestFarBehind(t *testing.T) {
	for _, how := range []string{"rv", "initial"} {
		t.Run(how, func(t *testing.T) {
			inLab(t, ring.Window{Events: 1, Most: 1}, Config{Allowed: unlessSecret}, func(l lab) {
				y := l.put("a/y")
				v := l.put("a/x")
				l.wantList("", v, "a/x", "a/y")
				query := "rv=" + v
				if how == "initial" {
					query = ""
				}
				w := l.watch(query)
				if how == "initial" {
					w.want("ADDED a/x @"+v, "ADDED a/y @"+y)
				}
				first := l.put("a/z")
				gone := l.remove("a/y")
				synctest.Wait()
				l.put("a/hidden secret=1")
				l.remove("a/hidden")
				synctest.Wait()
				l.put("a/x secret=1")
				l.put("a/z n=1")
				w.want("ADDED a/z @"+first, "DELETED a/y @"+gone, "ERROR "+expiredError)
			})
		})
	}
}

// TestClientsAgree: whatever happens, and from wherever they watch, clients that keep
// what they are told have in the end what a list gives.
func TestClientsAgree(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inLab(t, ring.Window{}, Config{Allowed: unlessSecret}, func(l lab) {
				random := rand.New(rand.NewPCG(seed, 1))
				var clients []*follower
				for n := range 80 {
					if n%5 == 0 { // the cache drops those who lag by more than ten at one instant
						synctest.Wait()
					}
					name := "a/" + string(rune('u'+random.IntN(5)))
					switch random.IntN(5) {
					case 0:
						l.remove(name)
					case 1:
						clients = append(clients, follow(l, random))
					default:
						p := fmt.Sprintf("%s n=%d", name, random.IntN(3))
						if random.IntN(3) == 0 {
							p += " secret=1"
						}
						if random.IntN(2) == 0 {
							p += " app=web"
						}
						l.putAtOnce(p)
					}
				}
				synctest.Wait()
				for _, c := range clients {
					c.stop()
					pods, _, _, err := l.list(c.selector)
					if err != nil {
						t.Fatal(err)
					}
					if got := slices.Sorted(maps.Values(c.has)); !slices.Equal(got, pods) || c.wrong != "" {
						t.Errorf("a client that watches with %q has %q, a list %q; %s", c.query, got, pods, c.wrong)
					}
				}
			})
		})
	}
}

// follower is a client that keeps what it is told.
type follower struct {
	selector, query string
	has             map[string]string
	version         string
	// wrong is an event that does not fit what it has.
	wrong string
	stop  func()
}

func follow(l lab, random *rand.Rand) *follower {
	l.t.Helper()
	f := &follower{has: map[string]string{}, version: "0", selector: []string{"", "labels=app=web"}[random.IntN(2)]}
	f.query = f.selector
	if random.IntN(2) == 0 {
		object, err := l.Resource.List(l.in(""), options(l.t, f.selector))
		if err != nil {
			l.t.Fatal(err)
		}
		list := object.(*example.PodList)
		for i := range list.Items {
			f.has[list.Items[i].Name] = show(&list.Items[i])
		}
		f.version = list.ResourceVersion
		f.query += " rv=" + list.ResourceVersion
	}
	w := l.watch(f.query)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range w.ResultChan() {
			f.take(e)
		}
	}()
	f.stop = func() { w.Stop(); <-done }
	return f
}

func (f *follower) take(e watch.Event) {
	m := metadata(e.Object)
	_, had := f.has[m.GetName()]
	switch {
	case had != (e.Type != watch.Added):
		f.wrong = describe(e) + " does not fit"
	case strings.Contains(show(e.Object), "secret"):
		f.wrong = describe(e) + " shows a secret"
	case len(f.has) > 0 && e.Type != watch.Added && compareVersions(m.GetResourceVersion(), f.version) < 0:
		f.wrong = describe(e) + " comes after " + f.version
	}
	f.version = m.GetResourceVersion()
	if e.Type == watch.Deleted {
		delete(f.has, m.GetName())
	} else {
		f.has[m.GetName()] = show(e.Object)
	}
}

// TestManyWatchesEnd with the kind, when nobody stops them.
func TestManyWatchesEnd(t *testing.T) {
	inLab(t, ring.Window{}, Config{Allowed: unlessSecret}, func(l lab) {
		v := l.put("a/x")
		l.wantList("", v, "a/x")
		var watches []watch.Interface
		for range 100 {
			w, err := l.Resource.Watch(l.in(""), options(t, "rv="+v))
			if err != nil {
				t.Fatal(err)
			}
			watches = append(watches, w)
		}
		began := time.Now()
		l.Destroy()
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %s to end", took)
		}
		for _, w := range watches {
			(client{w, t}).want("closed")
		}
		(client{failedWatch(l), t}).want("closed")
	})
}

// failedWatch is one that is asked for after the end.
func failedWatch(l lab) watch.Interface {
	w, err := l.Resource.Watch(l.in(""), options(l.t, ""))
	wantError(l.t, "a watch after the end", err, "503 ServiceUnavailable")
	if w != nil {
		return w
	}
	events := make(chan watch.Event)
	close(events)
	return ended{events}
}
