package openapi

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apiserver/pkg/endpoints/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/component-base/metrics/testutil"
)

// A hung local costs the first who ask a minute, nobody a second one, and
// leaves no goroutine behind once it ends.
func TestAHungLocalDoesNotWedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		l := newLocal(map[string]string{"/openapi/v2": good("/api/v1/pods"), "/openapi/v3": v3Root("api/v1")})
		f := newFixture(l)
		f.v2(t)
		f.roots(t)
		l.override(func(http.ResponseWriter, *http.Request) { <-release })
		f.clock.advance(rootInterval)

		var wait sync.WaitGroup
		began := time.Now()
		for range 5 {
			wait.Go(func() { f.v2(t) })
			wait.Go(func() { f.roots(t) })
		}
		wait.Wait()
		expect(t, "time for the first", time.Since(began), localTimeout)
		began = time.Now()
		expectMap(t, "paths", described(f.v2(t)), map[string]string{"/api/v1/pods": thing})
		expect(t, "keys", len(f.roots(t)), 1)
		expect(t, "time for the next", time.Since(began), 0)
		expect(t, "v2 requests under way", l.count("/openapi/v2"), 2)
		expect(t, "v3 requests under way", l.count("/openapi/v3"), 2)
		synctest.Wait()
		expect(t, "log lines", len(f.log.all()), 2)

		close(release)
		synctest.Wait()
		l.override(nil)
		l.set("/openapi/v2", good("/api/v1/nodes"), `"second"`)
		expectMap(t, "paths when it is well again", described(f.v2(t)), map[string]string{"/api/v1/nodes": thing})
		expect(t, "log lines", len(f.log.all()), 2)
	})
}

// What is under way to a local handler ends with Close, which waits for it; after
// that its last good documents are served, and it is not asked.
func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLocal(map[string]string{"/openapi/v2": good("/api/v1/pods"), "/openapi/v3": v3Root("api/v1")})
		f := newFixture(l)
		f.v2(t)
		ended := 0
		l.override(func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			time.Sleep(time.Second)
			ended++
		})
		waiting := make(chan struct{})
		go func() {
			defer close(waiting)
			expectMap(t, "paths of a client that waited", described(f.v2(t)), map[string]string{"/api/v1/pods": thing})
		}()
		synctest.Wait()
		began := time.Now()
		f.Close()
		expect(t, "requests ended", ended, 1)
		expect(t, "time to close", time.Since(began), time.Second)
		<-waiting
		asked := l.count("/openapi/v2")
		expectMap(t, "paths after that", described(f.v2(t)), map[string]string{"/api/v1/pods": thing})
		expect(t, "requests after that", l.count("/openapi/v2"), asked)
		expect(t, "log lines", len(f.log.all()), 0)
		f.Close() // again
	})
}

func TestConcurrentRequestsShareOneMerge(t *testing.T) {
	f := newFixture(newLocal(map[string]string{"/openapi/v2": good("/api/v1/pods")}))
	f.Sync(snapshot(gizmo(good(onGizmos))))
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() { f.v2(t) })
	}
	wait.Wait()
	expect(t, "merges", f.Service.v2.merges.Load(), int64(1))
}

// Every answer is of one snapshot: a group version is never both local and
// remote, nor neither.
func TestConcurrentSyncAndServe(t *testing.T) {
	f := newFixture(newLocal(map[string]string{
		"/openapi/v2":             swagger("A", map[string]string{"A": kinds("a", "apps")}, onGizmos, "/api/v1/pods"),
		"/openapi/v3":             v3Root(gizmoKey, "api/v1"),
		"/openapi/v3/" + gizmoKey: "local",
	}))
	var serving, syncing sync.WaitGroup
	stop := make(chan struct{})
	syncing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			e := gizmo(swagger("A", map[string]string{"A": kinds("a", "gizmo.example.com")}, onGizmos))
			e.v3, e.etag, e.local = v3Doc("remote"), fmt.Sprint(i%3), i%4 == 3
			f.Sync(snapshot(e, widget("not JSON")))
		}
	})
	for range 4 {
		serving.Go(func() {
			for range 50 {
				if got := described(f.v2(t)); got[onGizmos] != "A" || len(got) != 2 {
					t.Errorf("paths: %v", got)
				}
				if got := f.roots(t); len(got) != 2 {
					t.Errorf("keys: %v", got)
				}
				if got := f.get("/openapi/v3/" + gizmoKey).Body.String(); got != "local" && got != v3Doc("remote") {
					t.Errorf("document: %s", got)
				}
			}
		})
	}
	serving.Wait()
	close(stop)
	syncing.Wait()
}

func TestRequestsAreCountedAsTheReferenceDoes(t *testing.T) {
	metrics.Register()
	metrics.Reset()
	f := newFixture(newLocal(map[string]string{"/openapi/v2": good("/api/v1/pods"), "/openapi/v3": v3Root("api/v1")}))
	f.Sync(snapshot(gizmoV3(v3Doc("a"))))
	f.v2(t)
	f.roots(t)
	f.get("/openapi/v3/" + gizmoKey)
	if err := testutil.GatherAndCompare(legacyregistry.DefaultGatherer, strings.NewReader(`
# HELP apiserver_request_total [STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.
# TYPE apiserver_request_total counter
apiserver_request_total{code="200",component="",dry_run="",group="",resource="",scope="",subresource="openapi/v3",verb="GET",version=""} 1
apiserver_request_total{code="200",component="",dry_run="",group="",resource="",scope="",subresource="openapi/v3/",verb="GET",version=""} 1
`), "apiserver_request_total"); err != nil {
		t.Error(err)
	}
}
