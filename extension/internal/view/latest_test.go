package view

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/example"

	"github.com/annex-api/annex/extension/internal/ring"
)

// What is no change to a watcher is shown to who gets or lists, whether Allowed is asked or not.
func TestWhatIsNoEventIsShown(t *testing.T) {
	for what, allowed := range map[string]func(context.Context, string, runtime.Object) bool{
		"all": nil,
		"asked": func(_ context.Context, _ string, o runtime.Object) bool {
			return o.(*example.Pod).Labels["age"] != "secret"
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				letWaitsEnd(t)
				sameNode := func(old, object runtime.Object) bool {
					return old.(*example.Pod).Spec.NodeName == object.(*example.Pod).Spec.NodeName
				}
				l := newLabWhere(t, sameNode, ring.DefaultWindow(), Config{Allowed: allowed})
				l.update("ns/a age=1 node=x", "ns/b node=x")
				time.Sleep(time.Second)
				first := l.last()
				get := func(want string) {
					t.Helper()
					o, err := l.Get(l.in("ns"), "a", &metav1.GetOptions{})
					if err != nil {
						t.Fatal(err)
					}
					if got := show(o); got != want || o.(*example.Pod).ResourceVersion > first {
						t.Errorf("%q at %s, want %q", got, o.(*example.Pod).ResourceVersion, want)
					}
				}
				w := l.watch("rv=" + first)
				l.update("ns/a age=2 node=x", "ns/b node=x")
				w.want()
				get("ns/a age=2 node=x")
				l.wantList("", first, "ns/a age=2 node=x", "ns/b node=x")
				token := l.wantList("limit=1", first, "ns/a age=2 node=x")
				l.wantList("limit=1 continue="+token, first, "ns/b node=x")
				l.update("ns/a age=3 node=x", "ns/b node=x")
				get("ns/a age=3 node=x")

				l.update("ns/a age=3 node=y", "ns/b node=x")
				w.want("MODIFIED ns/a age=3 node=y @" + l.last())
				l.wantList("", l.last(), "ns/a age=3 node=y", "ns/b node=x")
				l.wantList("match=Exact rv="+first, first, "ns/a age=1 node=x", "ns/b node=x")
				if allowed == nil {
					return
				}
				l.update("ns/a age=secret node=y", "ns/b node=x") // what is shown is what is asked about
				l.wantList("", l.last(), "ns/b node=x")
				if _, err := l.Get(l.in("ns"), "a", &metav1.GetOptions{}); err == nil {
					t.Error("what may not be seen is got")
				}
			})
		})
	}
}
