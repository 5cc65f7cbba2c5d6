package status

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubefake "k8s.io/client-go/kubernetes/fake"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// fakeLeases says that its watches do not begin with a list.
type fakeLeases struct {
	coordinationclient.LeasesGetter
}

func (fakeLeases) IsWatchListSemanticsUnSupported() bool { return true }

func TestDifferenceMustLast(t *testing.T) {
	start := time.Now()
	seen := func(stored string, v catalog.Verdict) *catalog.Snapshot {
		return newStored(t, condition(catalog.Status(stored), "R", "", start)).snapshot(v)
	}
	unknown := catalog.Verdict{Status: apiregistrationv1.ConditionUnknown, Reason: "ServiceAccessError"}
	d := differences{}
	for i, c := range []struct {
		at     time.Duration
		stored string
		own    catalog.Verdict
		views  string
		wait   time.Duration
	}{
		{0, "True", up, "{}", 0},
		{0, "True", catalog.Verdict{}, "{}", 0},
		{0, "True", down, "{}", dissentAfter},
		{1 * time.Second, "True", gone, "{}", dissentAfter - time.Second},
		{2 * time.Second, "False", down, "{}", 0},           // all agree
		{3 * time.Second, "True", down, "{}", dissentAfter}, // and begin anew
		{6 * time.Second, "True", down, `{"v1.a.example":{"status":"False","reason":"FailedDiscoveryCheck"}}`, 0},
		{7 * time.Second, "True", unknown, "{}", dissentAfter},
		{10 * time.Second, "True", unknown, `{"v1.a.example":{"status":"Unknown","reason":"ServiceAccessError"}}`, 0},
		{11 * time.Second, "True", up, "{}", 0},
	} {
		views, wait := d.update(start.Add(c.at), seen(c.stored, c.own))
		if got, _ := json.Marshal(views); string(got) != c.views || wait != c.wait {
			t.Errorf("step %d: %s and %v, want %s and %v", i, got, wait, c.views, c.wait)
		}
	}
	if _, wait := d.update(start, nil); wait != 0 || len(d) != 0 {
		t.Errorf("without a snapshot: %v, %v", wait, d)
	}
}

func TestWhatIsDoneAboutTheLease(t *testing.T) {
	now := time.Now()
	some := map[string]view{name: {"False", "R"}}
	for what, c := range map[string]struct {
		p             publication
		views         map[string]view
		change, renew bool
		wait          time.Duration
	}{
		"agreement costs nothing":         {publication{written: now}, nil, false, false, 0},
		"what is left of an earlier life": {publication{unsure: true}, nil, true, false, 0},
		"a failure is retried, not now":   {publication{unsure: true, written: now}, some, false, false, dissentPause},
		"the first is told at once":       {publication{}, some, true, false, 0},
		"the next is not":                 {publication{views: some, written: now.Add(-time.Second)}, nil, false, false, dissentPause - time.Second},
		"an old one is taken back":        {publication{views: some, written: now.Add(-dissentPause)}, nil, true, false, 0},
		"the same is left alone":          {publication{views: some, written: now.Add(-time.Second)}, some, false, false, dissentRenewal - time.Second},
		"and renewed in time":             {publication{views: some, written: now.Add(-dissentRenewal)}, some, false, true, 0},
	} {
		change, renew, wait := c.p.next(now, c.views)
		if change != c.change || renew != c.renew || wait != c.wait {
			t.Errorf("%s: change %v, renew %v, wait %v", what, change, renew, wait)
		}
	}
}

func TestDissentIsBounded(t *testing.T) {
	views := map[string]view{}
	for i := range 1000 {
		views[fmt.Sprintf("v1.group-%04d.%s", i, strings.Repeat("x", 240))] = view{"False", "FailedDiscoveryCheck"}
	}
	encoded, err := encodeViews(views)
	if err != nil || len(encoded) > maxDissent {
		t.Fatalf("%d bytes, %v", len(encoded), err)
	}
	var kept map[string]view
	if err := json.Unmarshal([]byte(encoded), &kept); err != nil || len(kept) < 300 || len(kept) == len(views) {
		t.Errorf("%d of %d are kept, %v", len(kept), len(views), err)
	}
}

func dissentLease(lease, server, sees string, renewed time.Time) *coordinationv1.Lease {
	at := metav1.NewMicroTime(renewed)
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "kube-system", Name: lease, Labels: map[string]string{dissentLabel: "true"},
			Annotations: map[string]string{serverAnnotation: server, dissentAnnotation: sees},
		},
		Spec: coordinationv1.LeaseSpec{RenewTime: &at},
	}
}

func TestWordsForTheOthers(t *testing.T) {
	const fails = `{"v1.a.example":{"status":"False","reason":"FailedDiscoveryCheck"}}`
	now := time.Now()
	p := newPeerViews(func() {})
	expect := func(own catalog.Status, want string) {
		t.Helper()
		if got := p.others(now, name, own); got != want {
			t.Errorf("others than %s: %q, want %q", own, got, want)
		}
	}
	expect("True", "")
	p.learn(now, dissentLease("annex-dissent-l2", "two:6443", fails, now))
	p.learn(now, dissentLease("annex-dissent-l1", "one:6443", fails, now))
	p.learn(now, dissentLease("annex-dissent-l3", "three:6443", `{"v1.a.example":{"status":"Unknown","reason":"EndpointsAccessError"},"v1.b.example":{"status":"False"}}`, now))
	p.learn(now, dissentLease("annex-dissent-l4", "four:6443", `{"v1.a.example":{"status":"True","reason":"Passed"}}`, now))
	expect("True", "unavailable to one:6443, two:6443: FailedDiscoveryCheck; unknown to three:6443: EndpointsAccessError")
	expect("False", "available to four:6443; unknown to three:6443: EndpointsAccessError")
	for _, bad := range []string{"", "[]", "{", `{"v1.a.example":3}`, strings.Repeat(" ", 3*maxDissent)} {
		p.learn(now, dissentLease("annex-dissent-l3", "three:6443", bad, now))
		expect("True", "unavailable to one:6443, two:6443: FailedDiscoveryCheck")
	}
	p.learn(now, dissentLease("annex-dissent-l5", "evil\nserver", fails, now))
	p.learn(now, dissentLease("annex-dissent-l6", strings.Repeat("x", maxServerName+1), fails, now))
	expect("True", "unavailable to one:6443, two:6443: FailedDiscoveryCheck")
	p.forget("annex-dissent-l2")
	expect("True", "unavailable to one:6443: FailedDiscoveryCheck")
	for i := range 7 {
		p.learn(now, dissentLease(fmt.Sprint("annex-dissent-m", i), fmt.Sprintf("s%d:6443", i), fails, now))
	}
	expect("True", "unavailable to one:6443, s0:6443, s1:6443, s2:6443, s3:6443, 3 more: FailedDiscoveryCheck")

	now = now.Add(dissentLifetime) // but one has been renewed meanwhile, by its own clock
	p.learn(now, dissentLease("annex-dissent-l1", "one:6443", fails, now.Add(-time.Hour)))
	p.learn(now, dissentLease("annex-dissent-m0", "s0:6443", fails, now.Add(-dissentLifetime)))
	expect("True", "unavailable to one:6443: FailedDiscoveryCheck")
	if over, wait := p.expired(now); len(over) != 11 || wait != dissentLifetime {
		t.Errorf("%d have expired, the next do in %v: %v", len(over), wait, over)
	}
}

// The condition is one server's; what another one sees is said beside it.
func TestConditionNamesWhoSeesOtherwise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, kube := newStored(t), kubefake.NewClientset()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		start := func(ctx context.Context, identity string, v catalog.Verdict) (w *Writer, ended chan struct{}) {
			w, ended = New(Config{
				Client: s.client.ApiregistrationV1(), Leases: fakeLeases{kube.CoordinationV1()},
				Namespace: "kube-system", Name: "writer", Identity: "id-of-" + identity, Server: identity + ":6443",
			}), make(chan struct{})
			w.Sync(s.snapshot(v))
			go func() { defer close(ended); _ = w.Run(ctx) }()
			return w, ended
		}
		// later lets time pass, and tells the writers what is stored by then.
		later := func(d time.Duration, sync func()) {
			time.Sleep(d)
			synctest.Wait()
			sync()
			synctest.Wait()
		}
		message := func(want string) {
			t.Helper()
			c := s.object().Status.Conditions
			if len(c) != 1 || c[0].Status != "True" || c[0].Reason != "Passed" || c[0].Message != want {
				t.Errorf("%+v, want the message %q", c, want)
			}
		}
		first, firstEnded := start(ctx, "a", up)
		secondCtx, stopSecond := context.WithCancel(ctx)
		second, secondEnded := (*Writer)(nil), chan struct{}(nil)
		later(2*time.Second, func() { first.Sync(s.snapshot(up)) })
		message("all checks passed")
		second, secondEnded = start(secondCtx, "b", down)
		both := func(v catalog.Verdict) func() {
			return func() { first.Sync(s.snapshot(up)); second.Sync(s.snapshot(v)) }
		}
		later(2*time.Second, both(down))
		message("all checks passed")                                // it has not lasted
		later(4*time.Second, func() { first.Sync(s.snapshot(up)) }) // the other comes to it by itself
		want := "all checks passed (seen by a:6443; unavailable to b:6443: FailedDiscoveryCheck)"
		message(want)
		writes := s.writes()
		for range 20 { // as long as it lasts
			later(10*time.Second, both(gone)) // another message, which is its own
		}
		message(want)
		if n := s.writes(); n != writes {
			t.Errorf("%d writes of the condition while nothing changed", n-writes)
		}
		later(6*time.Second, both(up))
		later(6*time.Second, both(up))
		message("all checks passed")
		quiet := len(kube.Actions())
		later(time.Minute, both(up))
		for _, a := range kube.Actions()[quiet:] {
			if a.GetVerb() != "get" && !(a.GetVerb() == "update" && a.Matches("update", "leases")) {
				t.Errorf("an action while all agree, beside those of the election: %v", a)
			}
		}

		// A server that leaves takes its words along.
		later(6*time.Second, both(down))
		later(6*time.Second, both(down))
		message(want)
		stopSecond()
		<-secondEnded
		later(time.Second, func() { first.Sync(s.snapshot(up)) })
		message("all checks passed")

		// One that dies cannot.
		leases := kube.CoordinationV1().Leases("kube-system")
		if _, err := leases.Create(ctx, dissentLease("annex-dissent-dead", "dead:6443", `{"v1.a.example":{"status":"False"}}`, time.Now()), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		later(time.Second, func() { first.Sync(s.snapshot(up)) })
		message("all checks passed (seen by a:6443; unavailable to dead:6443)")
		later(dissentLifetime, func() { first.Sync(s.snapshot(up)) })
		later(time.Second, func() { first.Sync(s.snapshot(up)) })
		message("all checks passed")
		if _, err := leases.Get(ctx, "annex-dissent-dead", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("the Lease of a server that is gone: %v", err)
		}
		cancel()
		<-firstEnded
	})
}

// Whoever may write Leases can write many and large ones, of any name.
func TestLeasesThatAreReadAreBounded(t *testing.T) {
	const fails = `{"v1.a.example":{"status":"False"}}`
	now, changes := time.Now(), 0
	p := newPeerViews(func() { changes++ })
	p.learn(now, dissentLease("kube-scheduler", "stranger:6443", fails, now))
	if over, _ := p.expired(now.Add(time.Hour)); len(p.reports) != 0 || len(over) != 0 || changes != 0 {
		t.Errorf("a Lease of another name: %d reports, %d to be removed", len(p.reports), len(over))
	}
	for i := range 2 * maxReports {
		p.learn(now, dissentLease(fmt.Sprint(dissentPrefix, i), fmt.Sprintf("s%d:6443", i), fails, now))
	}
	if len(p.reports) != maxReports || changes != maxReports {
		t.Errorf("%d reports after %d changes, want %d", len(p.reports), changes, maxReports)
	}
	p.learn(now, dissentLease(dissentPrefix+"0", "s0:6443", "{}", now)) // one that is known
	p.forget(dissentPrefix + "1")
	p.learn(now, dissentLease(dissentPrefix+"late", "late:6443", fails, now)) // and one that finds a place
	if len(p.reports) != maxReports || changes != maxReports+3 {
		t.Errorf("%d reports after %d changes, want %d", len(p.reports), changes, maxReports+3)
	}

	many := map[string]view{}
	for i := range maxViews + 1 {
		many[fmt.Sprint(i)] = view{}
	}
	data, err := json.Marshal(many)
	if err != nil {
		t.Fatal(err)
	}
	p.learn(now, dissentLease(dissentPrefix+"0", "s0:6443", string(data), now))
	if n := len(p.reports[dissentPrefix+"0"].views); n != 0 {
		t.Errorf("%d views of one server", n)
	}
	clear(many)
	for i := range 2 * maxViews {
		many[fmt.Sprintf("%04d", i)] = view{Status: "Unknown"}
	}
	encoded, err := encodeViews(many)
	if n := strings.Count(encoded, "status"); err != nil || len(encoded) > maxDissent || n > maxViews {
		t.Errorf("a server writes %d views in %d bytes, %v: its word is not read", n, len(encoded), err)
	}
}

// Those beyond the bound are read, and removed, when others have gone.
func TestLeasesBeyondTheBoundFindAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, kube := newStored(t), kubefake.NewClientset()
		leases := kube.CoordinationV1().Leases("kube-system")
		left := func() (n int) {
			list, err := leases.List(t.Context(), metav1.ListOptions{LabelSelector: dissentLabel})
			if err != nil {
				t.Fatal(err)
			}
			return len(list.Items)
		}
		for i := range 2*maxReports + maxReports/2 {
			lease := dissentLease(fmt.Sprint(dissentPrefix, i), fmt.Sprintf("s%d:6443", i), `{"v1.a.example":{"status":"False"}}`, time.Now())
			if _, err := leases.Create(t.Context(), lease, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if n := left(); n != 2*maxReports+maxReports/2 {
			t.Fatalf("%d Leases carry the label", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := New(Config{
			Client: s.client.ApiregistrationV1(), Leases: fakeLeases{kube.CoordinationV1()},
			Namespace: "kube-system", Name: "writer", Identity: "id-of-a", Server: "a:6443",
		})
		w.Sync(s.snapshot(up))
		ended := make(chan struct{})
		go func() { defer close(ended); _ = w.Run(ctx) }()
		time.Sleep(8 * dissentLifetime)
		synctest.Wait()
		if n := left(); n != 0 {
			t.Errorf("%d Leases of servers that are gone are left", n)
		}
		cancel()
		<-ended
	})
}

// Of the Leases that are followed only what is used is kept.
func TestLeasesAreKeptInShort(t *testing.T) {
	full := dissentLease(dissentPrefix+"a", "a:6443", "{}", time.Now())
	full.Labels["large"], full.Annotations["large"] = "x", strings.Repeat("x", 100_000)
	full.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "m"}}
	stranger := full.DeepCopy()
	stranger.Name = "stranger"
	for _, lease := range []*coordinationv1.Lease{full, stranger} {
		kept, err := reportOnly(lease)
		if err != nil || kept.(*coordinationv1.Lease).Size() > 300 {
			t.Errorf("%s: %v, %v", lease.Name, kept, err)
		}
	}
	kept, _ := reportOnly(full)
	a, b := newPeerViews(func() {}), newPeerViews(func() {})
	now := time.Now()
	a.learn(now, full)
	b.learn(now, kept.(*coordinationv1.Lease))
	if diff := cmp.Diff(a.reports, b.reports, cmp.AllowUnexported(peerReport{})); diff != "" {
		t.Error(diff)
	}
}
