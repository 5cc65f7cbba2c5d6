package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

const (
	fleetGroup = "fleet.example.com"
	fleetPath  = "/apis/fleet.example.com/v1/things"
	// takeover is well over the Lease's time, and two looks at it, which are up to 22 s apart: 74 s,
	// which another test holds it to by a clock of its own.
	takeover = 90 * time.Second
)

// fleetServer answers discovery and a list of things.
func fleetServer() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", discoveryHandler(fleetGroup, "v1", "get", "list"))
	mux.HandleFunc(fleetPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"kind":"ThingList","apiVersion":"fleet.example.com/v1","metadata":{},"items":[]}`)) // the client may have gone
	})
	return mux
}

// serves asks a member for things of the extension server.
func (m *member) serves(ctx context.Context) error {
	a, err := do(ctx, m.admin, http.MethodGet, fleetPath, "")
	if err == nil && a.code != http.StatusOK {
		err = fmt.Errorf("%d %s", a.code, a.body)
	}
	return err
}

// refuses asks a member, and errs unless it holds the API for unavailable by its own verdict.
func (m *member) refuses(ctx context.Context) error {
	a, err := do(ctx, m.admin, http.MethodGet, fleetPath, "")
	if err != nil {
		return err
	}
	var status metav1.Status
	if err := json.Unmarshal([]byte(a.body), &status); err != nil || a.code != http.StatusServiceUnavailable || !strings.HasPrefix(status.Message, "service unavailable (APIService ") {
		return fmt.Errorf("%d %s", a.code, a.body)
	}
	return nil
}

// askAll asks members again and again until stop is called, which returns how often they were
// asked, and fails the test for each answer that was none.
func askAll(t *testing.T, members []*member) (stop func() int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	var asked, failed atomic.Int64
	var first sync.Once
	for _, m := range members {
		group.Go(func() {
			ticker := time.NewTicker(20 * time.Millisecond)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
				err := m.serves(ctx)
				if ctx.Err() != nil {
					return
				}
				asked.Add(1)
				if err != nil {
					failed.Add(1)
					first.Do(func() { t.Logf("the server at %s: %v", m.port, err) })
				}
			}
		})
	}
	stop = sync.OnceValue(func() int64 {
		cancel()
		group.Wait()
		if n := failed.Load(); n > 0 {
			t.Errorf("%d of %d requests failed at servers that reach the extension server", n, asked.Load())
		}
		return asked.Load()
	})
	t.Cleanup(func() { stop() })
	return stop
}

// TestSeveralServersRouteOnTheirOwnVerdict cuts one server off from the extension server: it alone
// is concerned, whether it reports or not. Unlike in the reference, which takes the API down
// everywhere.
func TestSeveralServersRouteOnTheirOwnVerdict(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	name := "v1." + fleetGroup
	registerServer(t, f.members[0].cluster, fleetGroup, fleetServer())
	for _, m := range f.members {
		eventually(t, "things through each server", m.serves)
	}
	holder, err := f.holder(t.Context(), f.members[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the server at %s reports", holder.port)

	t.Run("one that does not report is cut off", func(t *testing.T) {
		others := f.without(holder)
		cut := others[0]
		seen := watchChanges(t, others[1].cluster, name)
		stop := askAll(t, f.without(cut))
		begin := time.Now()
		cut.gate.close()
		eventually(t, "refusal by the server that is cut off", cut.refuses)
		t.Logf("it refuses after %v", time.Since(begin))
		others[1].awaitMessage(t, name, fmt.Sprintf("all checks passed (seen by %s; unavailable to %s: FailedDiscoveryCheck)", holder.calledIn(t), cut.calledIn(t)))
		t.Logf("the condition names it after %v", time.Since(begin))
		// Long enough for several probes of each server.
		until := time.Now().Add(4 * time.Second)
		eventually(t, "the time in between", func(ctx context.Context) error {
			if err := cut.refuses(ctx); err != nil {
				t.Fatalf("the server that is cut off: %v", err)
			}
			if left := time.Until(until); left > 0 {
				return fmt.Errorf("%v left", left)
			}
			return nil
		})
		cut.gate.open()
		begin = time.Now()
		eventually(t, "things through the server that was cut off", cut.serves)
		t.Logf("it serves %v after its return; the others answered %d requests", time.Since(begin), stop())
		others[1].awaitMessage(t, name, "all checks passed")
		t.Logf("the condition names it no more after %v", time.Since(begin))
		found := seen.until(t, "mended")
		for _, c := range found {
			if c.Status != apiregistrationv1.ConditionTrue || c.Reason != "Passed" || c.LastTransitionTime != seen.first.LastTransitionTime {
				t.Errorf("the shared condition changed: %v", c)
			}
		}
		if len(found) != 2 {
			t.Errorf("the message changed %d times, want once each way: %v", len(found), found)
		}
		if now, err := f.holder(t.Context(), cut); err != nil || now != holder {
			t.Errorf("the holder has changed: %v", err)
		}
	})

	var next *member
	t.Run("the one that reports is killed", func(t *testing.T) {
		// One that could not renew the Lease in time has lost it.
		now, err := f.holder(t.Context(), f.members[0])
		if err != nil {
			t.Fatal(err)
		}
		holder = now
		rest := f.without(holder)
		stop := askAll(t, rest)
		begin := time.Now()
		holder.kill()
		eventually(t, "another holder of the Lease", func(ctx context.Context) (err error) {
			next, err = f.holder(ctx, rest[0])
			if err == nil && next == holder {
				err = fmt.Errorf("still the server at %s", holder.port)
			}
			return err
		})
		took := time.Since(begin)
		t.Logf("the server at %s took over after %v; %d requests meanwhile", next.port, took, stop())
		if took > takeover {
			t.Errorf("another took over after %v, want at most %v", took, takeover)
		}
		if other, err := f.holder(t.Context(), rest[1]); err != nil || other != next {
			t.Errorf("the servers do not agree on the holder: %v", err)
		}
	})
	if next == nil {
		t.Fatal("nobody reports")
	}

	// Only the new reporter can be the author of a report of what only it sees.
	t.Run("its successor is cut off", func(t *testing.T) {
		other := f.without(holder, next)[0]
		seen := watchChanges(t, other.cluster, name)
		stop := askAll(t, []*member{other})
		begin := time.Now()
		next.gate.close()
		t.Logf("condition False after %v", other.awaitCondition(t, name, apiregistrationv1.ConditionFalse, begin))
		eventually(t, "refusal by the server that is cut off", next.refuses)
		other.awaitMessage(t, name, fmt.Sprintf(" (seen by %s; available to %s)", next.calledIn(t), other.calledIn(t)))
		next.gate.open()
		t.Logf("condition True after %v", other.awaitCondition(t, name, apiregistrationv1.ConditionTrue, time.Now()))
		eventually(t, "things through the server that was cut off", next.serves)
		t.Logf("the other answered %d requests", stop())
		other.awaitMessage(t, name, "all checks passed")
		var turns []string
		for _, c := range seen.until(t, "mended again") {
			t.Logf("%s %s: %s", c.Status, c.Reason, c.Message)
			if s := string(c.Status); len(turns) == 0 || turns[len(turns)-1] != s {
				turns = append(turns, s)
			}
		}
		if strings.Join(turns, " ") != "False True" {
			t.Errorf("the condition turned %v, want False and True once each", turns)
		}
	})
}

// acknowledgement is what a writer of ConfigMaps knows of one of them.
type acknowledgement struct {
	sequence string // of the last acknowledged write; empty if there is none
	version  string // its resourceVersion
	tried    string // a write without an answer, which may have happened, or may happen yet
}

// mapWriter creates ConfigMaps and updates each once. After a failure it leaves that one alone and
// goes on at the next server.
type mapWriter struct {
	name    string
	members []*member
	at      int
	broken  int // writes without an answer while all were to go on
	known   map[string]*acknowledgement
}

func (w *mapWriter) run(ctx context.Context, acknowledged *atomic.Int64) {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		name := fmt.Sprintf("%s-%d", w.name, n/2)
		a := w.known[name]
		if a == nil {
			a = &acknowledgement{}
			w.known[name] = a
		}
		if a.tried != "" {
			continue
		}
		got, err := w.write(ctx, name, a.sequence == "", fmt.Sprint(n))
		if err != nil {
			a.tried = fmt.Sprint(n)
			w.at++
			if ctx.Err() == nil {
				w.broken++
			}
			continue
		}
		a.sequence, a.version = fmt.Sprint(n), got.ResourceVersion
		acknowledged.Add(1)
	}
}

func (w *mapWriter) write(ctx context.Context, name string, first bool, sequence string) (*corev1.ConfigMap, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	maps := w.members[w.at%len(w.members)].kube.CoreV1().ConfigMaps(metav1.NamespaceDefault)
	if first {
		return maps.Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"writer": w.name}},
			Data:       map[string]string{"sequence": sequence, "filling": strings.Repeat("x", 500)},
		}, metav1.CreateOptions{})
	}
	return maps.Patch(ctx, name, types.MergePatchType, fmt.Appendf(nil, `{"data":{"sequence":%q}}`, sequence), metav1.PatchOptions{})
}

// verify lists what is there through one server.
func (w *mapWriter) verify(t *testing.T, through *member) {
	t.Helper()
	list, err := through.kube.CoreV1().ConfigMaps(metav1.NamespaceDefault).List(t.Context(), metav1.ListOptions{LabelSelector: "writer=" + w.name})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*corev1.ConfigMap{}
	for i := range list.Items {
		found[list.Items[i].Name] = &list.Items[i]
	}
	for name, a := range w.known {
		m := found[name]
		delete(found, name)
		switch {
		case m == nil && a.sequence == "": // it was never acknowledged
		case m == nil:
			t.Errorf("%s is lost; write %s was acknowledged at version %s", name, a.sequence, a.version)
		case a.tried != "" && m.Data["sequence"] == a.tried:
		case m.Data["sequence"] != a.sequence || m.ResourceVersion != a.version:
			t.Errorf("%s holds write %s at version %s; known is %+v", name, m.Data["sequence"], m.ResourceVersion, *a)
		}
	}
	for name := range found {
		t.Errorf("%s was never written", name)
	}
}

// TestSeveralServersLoseNothing kills one API server and then the etcd node that leads, under a
// load of writes through all servers.
func TestSeveralServersLoseNothing(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	var writers []*mapWriter
	for i := range 6 {
		writers = append(writers, &mapWriter{name: fmt.Sprintf("writer-%d", i), members: f.members, at: i, known: map[string]*acknowledgement{}})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var acknowledged atomic.Int64
	var group sync.WaitGroup
	for _, w := range writers {
		group.Go(func() { w.run(ctx, &acknowledged) })
	}
	defer group.Wait()
	defer cancel()
	more := func(what string, n int64) {
		t.Helper()
		from, begin := acknowledged.Load(), time.Now()
		eventually(t, what, func(context.Context) error {
			if got := acknowledged.Load() - from; got < n {
				return fmt.Errorf("only %d acknowledged writes", got)
			}
			return nil
		})
		t.Logf("%s: %d acknowledged writes in %v", what, acknowledged.Load()-from, time.Since(begin))
	}
	more("all servers", 300)
	f.members[0].kill()
	more("after the end of an API server", 300)
	leader, err := f.leader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	leader.kill()
	more("after the end of the leading etcd node", 300)
	cancel()
	group.Wait()

	unanswered := 0
	for _, w := range writers {
		for _, m := range f.members[1:] {
			w.verify(t, m)
		}
		unanswered += w.broken
	}
	t.Logf("%d acknowledged writes, %d without an answer", acknowledged.Load(), unanswered)
	if unanswered == 0 {
		t.Error("no write was under way when the servers were killed: this test has tested nothing")
	}
}
