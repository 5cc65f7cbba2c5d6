package view

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/apis/example"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/annex-api/annex/extension/internal/ring"
)

// TestDecide is the whole table of what a resourceVersion gets.
func TestDecide(t *testing.T) {
	verdicts := []ring.Verdict{ring.Known, ring.TooOld, ring.Unknown, ring.Ahead, ring.AheadElsewhere}
	for n, want := range map[need][]answer{
		anything:  {serve, serve, serve, serve, serve},
		notOlder:  {serve, serve, expire, wait, tooLarge},
		exact:     {serve, expire, expire, wait, tooLarge},
		following: {serve, expire, expire, wait, tooLarge},
		page:      {serve, expire, expire, expire, expire},
	} {
		for i, v := range verdicts {
			if got := decide(n, v); got != want[i] {
				t.Errorf("need %d of a version that is %s: %d, want %d", n, v, got, want[i])
			}
		}
	}
}

// TestListOfNow: without a resourceVersion and with 0, what is there now; a list has the ring's.
func TestListOfNow(t *testing.T) {
	inLab(t, ring.Window{}, Config{}, func(l lab) {
		empty := l.last()
		l.wantList("", empty)
		l.put("b/x node=2")
		v := l.put("a/y")
		l.wantList("", v, "a/y", "b/x node=2")
		l.wantList("rv=0", v, "a/y", "b/x node=2")
		l.wantList("fields=spec.nodeName=2", v, "b/x node=2")
		l.wantList("fields=metadata.name=y", v, "a/y")
		if pods, _, _, err := l.listIn("b", ""); err != nil || len(pods) != 1 || pods[0] != "b/x node=2" {
			t.Errorf("the list of a namespace is %q, %v", pods, err)
		}
		l.remove("a/y")
		l.wantList("", l.last(), "b/x node=2")
	})
}

func (l lab) wantGet(name, version, want string) {
	l.t.Helper()
	o, err := l.Resource.Get(l.in("a"), name, &metav1.GetOptions{ResourceVersion: version})
	if err != nil {
		l.t.Errorf("get %s at %q: %v", name, version, err)
		return
	}
	if got := show(o); got != want {
		l.t.Errorf("get %s at %q gives %q, want %q", name, version, got, want)
	}
}

// TestGet by every kind of resourceVersion.
func TestGet(t *testing.T) {
	inLab(t, small(), Config{}, func(l lab) {
		old := l.put("a/x n=1")
		for n := range 4 {
			l.put(fmt.Sprintf("a/x n=%d", n+2))
		}
		for _, v := range []string{"", "0", l.last(), old, "1"} {
			l.wantGet("x", v, "a/x n=5")
		}
		for v, want := range map[string]string{
			elsewhere(old):                expiredError,
			later(l.last(), 10):           tooLargeErr,
			elsewhere(later(l.last(), 9)): tooLargeErr,
			"no":                          "400 BadRequest",
		} {
			_, err := l.Resource.Get(l.in("a"), "x", &metav1.GetOptions{ResourceVersion: v})
			wantError(t, "get at "+v, err, want)
		}
		_, err := l.Resource.Get(l.in("a"), "nobody", nil)
		wantError(t, "get nobody", err, "404 NotFound")
		_, err = l.Resource.Get(l.in("a"), "../b", nil)
		wantError(t, "get a path", err, "400 BadRequest")
	})
}

// TestListNotOlder: with NotOlderThan and, as the API says, without a match too.
func TestListNotOlder(t *testing.T) {
	for _, match := range []string{"", " match=NotOlderThan"} {
		t.Run(match, func(t *testing.T) {
			inLab(t, small(), Config{}, func(l lab) {
				start := l.last()
				first := l.put("a/x")
				l.put("a/y")
				l.put("a/z")
				v := l.put("a/z n=1")
				now := []string{"a/x", "a/y", "a/z n=1"}
				l.wantList("rv="+v+match, v, now...)     // ours
				l.wantList("rv="+first+match, v, now...) // forgotten
				l.wantList("rv="+start+match, v, now...)
				l.wantList("rv=1"+match, v, now...) // before our start
				l.wantList("rv="+elsewhere(later(start, -1))+match, v, now...)
				for version, want := range map[string]string{
					elsewhere(first):       expiredError, // another replica's
					later(first, 0) + "0":  tooLargeErr,  // far ahead
					later(v, 1):            tooLargeErr,
					elsewhere(later(v, 1)): tooLargeErr,
					"9223372036854775807":  tooLargeErr,
					"x":                    "400 BadRequest",
				} {
					_, _, _, err := l.list("rv=" + version + match)
					wantError(t, "list at "+version, err, want)
				}
			})
		})
	}
}

// TestAheadIsWaitedFor: three seconds, and served if it comes; what cannot come is refused
// at once.
func TestAheadIsWaitedFor(t *testing.T) {
	inLab(t, ring.Window{}, Config{}, func(l lab) {
		v := l.put("a/x")
		began := time.Now()
		_, _, _, err := l.list("rv=" + later(v, 10_000_000))
		wantError(t, "ahead", err, tooLargeErr)
		if took := time.Since(began); took != patience {
			t.Errorf("waited %s for a version that is ahead, want %s", took, patience)
		}
		began = time.Now()
		_, _, _, err = l.list("rv=" + elsewhere(later(v, 10_000_000)))
		wantError(t, "ahead elsewhere", err, tooLargeErr)
		if took := time.Since(began); took != 0 {
			t.Errorf("waited %s for a version that cannot come", took)
		}

		// A version comes while it is waited for: it is the time of its event.
		at := time.Now().Add(time.Second)
		coming := fmt.Sprint(at.UnixMicro()<<10 | mine)
		go func() {
			time.Sleep(time.Second)
			l.put("a/y")
		}()
		l.wantList("rv="+coming, coming, "a/x", "a/y")
		if got := time.Now(); !got.Equal(at) {
			t.Errorf("answered at %s, want %s", got, at)
		}
	})
}

// TestListExact: in the window the state of then, by match and, with a limit, without; otherwise 410.
func TestListExact(t *testing.T) {
	inLab(t, small(), Config{}, func(l lab) {
		first := l.put("a/x n=1")
		second := l.put("a/y")
		third := l.remove("a/x")
		last := l.put("a/x n=2")
		for _, how := range []string{" match=Exact", " limit=100"} {
			l.wantList("rv="+second+how, second, "a/x n=1", "a/y")
			l.wantList("rv="+third+how, third, "a/y")
			l.wantList("rv="+last+how, last, "a/x n=2", "a/y")
			for version, want := range map[string]string{
				first:             expiredError, // forgotten
				"1":               expiredError,
				elsewhere(second): expiredError,
				later(last, 1):    tooLargeErr,
			} {
				_, _, _, err := l.list("rv=" + version + how)
				wantError(t, "list at "+version+how, err, want)
			}
		}
	})
}

// TestPages: a list of pages is that of its first page; a page that is forgotten says how to
// go on.
func TestPages(t *testing.T) {
	inLab(t, small(), Config{}, func(l lab) {
		l.update("a/1", "a/2", "a/3", "a/4", "a/5")
		v := l.last()
		token := l.wantList("limit=2", v, "a/1", "a/2")
		l.remove("a/3")
		l.put("a/4 n=1")
		token3 := l.wantList("limit=2 continue="+token, v, "a/3", "a/4")
		l.wantList("limit=2 continue="+token3, v, "a/5")

		v = l.put("a/0")
		_, _, _, err := l.list("limit=2 continue=" + token)
		wantError(t, "a page of a list that is forgotten", err, expiredError)
		var status apierrors.APIStatus
		if !errors.As(err, &status) || status.Status().Continue == "" {
			t.Fatalf("no token to go on with in %v", err)
		}
		l.wantList("limit=2 continue="+status.Status().Continue, v, "a/4 n=1", "a/5")
		_, _, _, err = l.list("continue=nonsense")
		wantError(t, "a token that is none", err, "400 BadRequest")
	})
}

// TestListThenWatch: what came after the list, and nothing of it again.
func TestListThenWatch(t *testing.T) {
	inLab(t, ring.Window{}, Config{}, func(l lab) {
		l.put("a/x")
		v := l.put("a/y")
		l.wantList("", v, "a/x", "a/y")
		between := l.put("b/z")
		w := l.watch("rv=" + v)
		w.want("ADDED b/z @" + between)
		changed := l.put("a/x n=1")
		gone := l.remove("a/y")
		w.want("MODIFIED a/x n=1 @"+changed, "DELETED a/y @"+gone)

		l.watch("rv=" + changed).want("DELETED a/y @" + gone)
		l.watchIn("b", "rv="+v).want("ADDED b/z @" + between)
		l.watch("initial=false rv="+v).want("ADDED b/z @"+between, "MODIFIED a/x n=1 @"+changed, "DELETED a/y @"+gone)
	})
}

// TestWatchFromAnywhere: without a resourceVersion and with 0, synthetic ADDED of
// all, then events, without a bookmark; or, if asked so, events alone.
func TestWatchFromAnywhere(t *testing.T) {
	for _, from := range []string{"", "rv=0"} {
		t.Run(from, func(t *testing.T) {
			inLab(t, ring.Window{}, Config{}, func(l lab) {
				x, y := l.put("a/x"), l.put("a/y")
				l.wantList("", y, "a/x", "a/y")
				w := l.watch(from)
				w.want("ADDED a/x @"+x, "ADDED a/y @"+y)
				without := l.watch(from + " initial=false")
				without.want()
				gone := l.remove("a/x")
				w.want("DELETED a/x @" + gone)
				without.want("DELETED a/x @" + gone)
			})
		})
	}
}

// TestWatchVersions: what cannot be resumed ends with one ERROR event.
func TestWatchVersions(t *testing.T) {
	inLab(t, small(), Config{}, func(l lab) {
		first := l.put("a/x")
		l.put("a/x n=1")
		l.put("a/x n=2")
		v := l.put("a/x n=3")
		for version, want := range map[string]string{
			first:                  "ERROR " + expiredError,
			"1":                    "ERROR " + expiredError,
			elsewhere(v):           "ERROR " + tooLargeErr,
			elsewhere(first):       "ERROR " + expiredError,
			later(v, 5):            "ERROR " + tooLargeErr,
			elsewhere(later(v, 5)): "ERROR " + tooLargeErr,
		} {
			w := l.watch("rv=" + version)
			if got := w.next(); got != want {
				t.Errorf("a watch from %s: %s, want %s", version, got, want)
			}
			if got := w.next(); got != "closed" {
				t.Errorf("a watch from %s goes on after its error: %s", version, got)
			}
		}
		began := time.Now()
		l.watch("rv=" + later(v, 10_000_000)).want("ERROR " + tooLargeErr)
		if took := time.Since(began); took != patience {
			t.Errorf("a watch that is ahead got its error after %s, want %s", took, patience)
		}
		_, err := l.Resource.Watch(t.Context(), options(t, "rv=x"))
		wantError(t, "a watch from nonsense", err, "400 BadRequest")
	})
}

// TestWatchList: ADDED of all, one bookmark that ends them, then events.
func TestWatchList(t *testing.T) {
	for _, from := range []string{"", "0", "ours", "forgotten"} {
		t.Run(from, func(t *testing.T) {
			inLab(t, small(), Config{}, func(l lab) {
				forgotten, x := l.put("a/x"), l.put("a/x n=1")
				l.put("b/y")
				v := l.put("b/y n=1")
				version := map[string]string{"ours": v, "forgotten": forgotten}[from]
				if from == "0" {
					version = "0"
					l.wantList("", v, "a/x n=1", "b/y n=1")
				}
				query := "initial=true bookmarks match=NotOlderThan rv=" + version
				w := l.watch(query)
				w.want("ADDED a/x n=1 @"+x, "ADDED b/y n=1 @"+v, "BOOKMARK @"+v+" true")
				l.watchIn("b", query).want("ADDED b/y n=1 @"+v, "BOOKMARK @"+v+" true")
				l.watch(query + " labels=n=2").want("BOOKMARK @" + v + " true")
				// Without bookmarks, no end is told.
				l.watch("initial=true match=NotOlderThan rv="+version).want("ADDED a/x n=1 @"+x, "ADDED b/y n=1 @"+v)
				gone := l.remove("a/x")
				w.want("DELETED a/x n=1 @" + gone)
			})
		})
	}
}

// TestWatchListVersions: initial events that cannot be promised to be new enough.
func TestWatchListVersions(t *testing.T) {
	inLab(t, small(), Config{}, func(l lab) {
		first := l.put("a/x")
		v := l.put("a/x n=1")
		for version, want := range map[string]string{
			elsewhere(first): "ERROR " + expiredError,
			later(v, 5):      "ERROR " + tooLargeErr,
		} {
			l.watch("initial=true bookmarks match=NotOlderThan rv=" + version).want(want)
		}
	})
}

// TestBookmarks come about once a minute, without the annotation that ends initial
// events, to those who asked; and the last one's resourceVersion can be resumed.
func TestBookmarks(t *testing.T) {
	inLab(t, ring.Window{}, Config{}, func(l lab) {
		v := l.put("a/x")
		l.wantList("", v, "a/x")
		w, without := l.watch("bookmarks rv="+v), l.watch("rv="+v)
		listed := l.watch("bookmarks initial=true match=NotOlderThan rv=" + v)
		listed.want("ADDED a/x @"+v, "BOOKMARK @"+v+" true")
		v = l.put("b/y")
		for _, c := range []client{w, without, listed} {
			c.want("ADDED b/y @" + v)
		}
		for _, c := range []client{w, listed} {
			began := time.Now()
			for n := range 3 {
				select {
				case e := <-c.ResultChan():
					if got := describe(e); got != "BOOKMARK @"+v {
						t.Errorf("bookmark %d is %s, want one at %s", n, got, v)
					}
				case <-time.After(2 * time.Minute):
					t.Fatal("no bookmark for two minutes")
				}
			}
			if took := time.Since(began); c == w && took < 90*time.Second {
				t.Errorf("three bookmarks in %s", took)
			}
		}
		without.want()
		l.watch("rv=" + v).want()
	})
}

// TestSelectors apply to every event: DELETED with the last object that matched
// when one leaves, ADDED when one enters.
func TestSelectors(t *testing.T) {
	for selector, words := range map[string][2]string{
		"labels=app=web":                             {"app=web", "app=db"},
		"fields=spec.nodeName=n1":                    {"node=n1", "node=n2"},
		"fields=metadata.name=x,spec.nodeName=n1":    {"node=n1", "node=n2"},
		"labels=app=web fields=metadata.namespace=a": {"app=web", "app=db"},
	} {
		t.Run(selector, func(t *testing.T) {
			inLab(t, ring.Window{}, Config{}, func(l lab) {
				in, out := words[0], words[1]
				v := l.put("a/x " + out)
				l.wantList("", v, "a/x "+out)
				w := l.watch(selector + " rv=" + v)
				entered := l.put("a/x " + in)
				changed := l.put("a/x " + in + " n=1")
				left := l.put("a/x " + out + " n=2")
				l.put("a/x " + out + " n=3")
				again := l.put("a/x " + in)
				gone := l.remove("a/x")
				l.put("b/unseen " + out)
				w.want(
					"ADDED "+show(pod(t, "a/x "+in))+" @"+entered,
					"MODIFIED "+show(pod(t, "a/x "+in+" n=1"))+" @"+changed,
					"DELETED "+show(pod(t, "a/x "+in+" n=1"))+" @"+left,
					"ADDED "+show(pod(t, "a/x "+in))+" @"+again,
					"DELETED "+show(pod(t, "a/x "+in))+" @"+gone,
				)
			})
		})
	}
}

// TestWatchEnds: at Stop, at the end of its context and with the kind.
func TestWatchEnds(t *testing.T) {
	for _, allowed := range []string{"all", "filtered"} {
		for _, how := range []string{"stop", "context", "destroy"} {
			t.Run(allowed+" "+how, func(t *testing.T) {
				config := Config{}
				if allowed == "filtered" {
					config.Allowed = unlessSecret
				}
				inLab(t, ring.Window{}, config, func(l lab) {
					v := l.put("a/x")
					l.wantList("", v, "a/x")
					ctx, cancel := context.WithTimeout(l.in(""), time.Hour)
					defer cancel()
					w, err := l.Resource.Watch(ctx, options(t, "rv="+v))
					if err != nil {
						t.Fatal(err)
					}
					defer w.Stop()
					switch how {
					case "stop":
						w.Stop()
					case "context":
						time.Sleep(time.Hour)
					case "destroy":
						l.Destroy()
					}
					if got := (client{w, t}).next(); got != "closed" {
						t.Errorf("got %s, want the end", got)
					}
				})
			})
		}
	}
}

// TestSlowWatcherIsDropped, and the others are not kept waiting for it.
func TestSlowWatcherIsDropped(t *testing.T) {
	inLab(t, ring.Window{}, Config{}, func(l lab) {
		v := l.put("a/x")
		l.wantList("", v, "a/x")
		slow, quick := l.watch("rv="+v), l.watch("rv="+v)
		const events = 500
		for n := range events {
			v = l.putAtOnce(fmt.Sprintf("a/x n=%d", n))
			if got, want := quick.next(), fmt.Sprintf("MODIFIED a/x n=%d @%s", n, v); got != want {
				t.Fatalf("the quick watch sends %s, want %s", got, want)
			}
		}
		got := 0
		for slow.next() != "closed" {
			if got++; got > events {
				t.Fatal("the slow watch got every event")
			}
		}
	})
}

// TestUnavailable: 503 before the first answer and while the last one is too old; watches that run go on,
// and the kind is back by itself.
func TestUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		letWaitsEnd(t)
		l := newLab(t, ring.Window{}, Config{})
		want503 := func(when string) {
			t.Helper()
			_, _, _, err := l.list("")
			wantError(t, "list "+when, err, "503 ServiceUnavailable")
			_, err = l.Resource.Get(l.in("a"), "x", nil)
			wantError(t, "get "+when, err, "503 ServiceUnavailable")
			_, err = l.Resource.Watch(l.in(""), options(t, ""))
			wantError(t, "watch "+when, err, "503 ServiceUnavailable")
			if l.ReadinessCheck() == nil {
				t.Errorf("ready %s", when)
			}
		}
		want503("before the first answer")
		time.Sleep(time.Hour)
		want503("an hour without an answer")
		l.update("a/x")
		began := time.Now()
		l.wantList("", l.last(), "a/x")
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it took %s from the first answer to the first list", took)
		}
		w := l.watch("rv=" + l.last())
		l.ring.Unavailable(errors.New("no answer for a minute"))
		want503("while the answer is too old")
		if _, _, _, err := l.list(""); !strings.Contains(fmt.Sprint(err), "no answer for a minute") {
			t.Errorf("the reason is not told: %v", err)
		}
		w.want()
		l.update("a/x", "a/y")
		l.wantList("", l.last(), "a/x", "a/y")
		w.want("ADDED a/y @" + l.last())
		if err := l.ReadinessCheck(); err != nil {
			t.Errorf("not ready: %v", err)
		}
	})
}

// TestReadOnly: discovery finds no writers.
func TestReadOnly(t *testing.T) {
	var r any = &Resource{}
	if _, ok := r.(rest.Creater); ok {
		t.Error("a Creater")
	}
	if _, ok := r.(rest.Updater); ok {
		t.Error("an Updater")
	}
	if _, ok := r.(rest.Patcher); ok {
		t.Error("a Patcher")
	}
	if _, ok := r.(rest.GracefulDeleter); ok {
		t.Error("a GracefulDeleter")
	}
	if _, ok := r.(rest.CollectionDeleter); ok {
		t.Error("a CollectionDeleter")
	}
}

// TestTable has a row for each object.
func TestTable(t *testing.T) {
	inLab(t, ring.Window{}, Config{}, func(l lab) {
		l.put("a/x")
		v := l.put("a/y")
		list, err := l.Resource.List(l.in("a"), options(t, ""))
		if err != nil {
			t.Fatal(err)
		}
		table, err := l.ConvertToTable(t.Context(), list, nil)
		if err != nil || len(table.Rows) != 2 || table.ResourceVersion != v {
			t.Errorf("a table of %d rows at %s, %v", len(table.Rows), table.ResourceVersion, err)
		}
		if _, ok := list.(*example.PodList); !ok {
			t.Errorf("the list is a %T", list)
		}
	})
}
