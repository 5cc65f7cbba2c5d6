package proxy

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

const initialEvents = "/things?allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&sendInitialEvents=true&watch=true"

// found is a snapshot in which the server's watches were found to be so.
func found(s *backendtest.Server, support catalog.WatchListSupport, policy string) *catalog.Snapshot {
	o := s.APIService(name)
	if policy != "" {
		o.Annotations = map[string]string{catalog.WatchListAnnotation: policy}
	}
	f := backendtest.Facts([]*apiregistrationv1.APIService{o}, s)
	f.WatchLists = map[string]catalog.WatchListSupport{name: support}
	return catalog.Build(f)
}

func TestWatchListIsRefusedWhereItIsMissing(t *testing.T) {
	for _, c := range []struct {
		support catalog.WatchListSupport
		policy  string
		refused bool
	}{
		{catalog.WatchListUnknown, "", false},
		{catalog.WatchListUnknown, "auto", false},
		{catalog.WatchListWorks, "", false},
		{catalog.WatchListRefused, "", false}, // the server says so itself
		{catalog.WatchListMissing, "", true},
		{catalog.WatchListMissing, "auto", true},
		{catalog.WatchListMissing, "pass", false},
		{catalog.WatchListMissing, "nonsense", true},
		{catalog.WatchListWorks, "refuse", true},
		{catalog.WatchListUnknown, "refuse", true},
	} {
		s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "passed") }))
		snapshot := found(s, c.support, c.policy)
		f := startFront(t, snapshot.APIServices()[0])
		f.proxy.Sync(snapshot)
		for _, way := range []struct {
			path     string
			watchAll bool // asks for the end of initial events
		}{
			{initialEvents, true},
			{"/watch/things?sendInitialEvents=true&resourceVersionMatch=NotOlderThan", true},
			{"/namespaces/x/things?watch=1&%73endInitialEvents=true", true},
			{"/things?watch=1&sendInitialEvents=1", true},
			{"/things?watch=1", false},
			{"/things?watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan", false},
			{"/things?watch=1&sendInitialEvents=", true}, // as kube-apiserver reads it
			{"/things?watch=1&sendInitialEvents=0", false},
			{"/things?sendInitialEvents=true", false}, // a list
			{"/things/x?sendInitialEvents=true", false},
		} {
			response := f.do(t, "GET", base+way.path, nil, nil)
			want := http.StatusOK
			if c.refused && way.watchAll {
				want = http.StatusUnprocessableEntity
			}
			if response.StatusCode != want {
				t.Errorf("%s and %q, %s: %s", c.support, c.policy, way.path, response.Status)
			}
		}
	}
}

// The answer is that of kube-apiserver with WatchList off, to the letter.
func TestTheAnswerToARefusedWatchList(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("asked") }))
	snapshot := found(s, catalog.WatchListMissing, "")
	f := startFront(t, snapshot.APIServices()[0])
	response := f.do(t, "GET", base+initialEvents, nil, nil)
	const forbidden = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
	want := metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Reason: "Invalid", Code: 422,
		Message: `ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: Forbidden: ` + forbidden,
		Details: &metav1.StatusDetails{Group: "meta.k8s.io", Kind: "ListOptions", Causes: []metav1.StatusCause{
			{Type: "FieldValueForbidden", Field: "sendInitialEvents", Message: "Forbidden: " + forbidden},
		}},
	}
	body := read(t, response)
	var got metav1.Status
	if err := json.Unmarshal([]byte(body), &got); err != nil || !cmp.Equal(want, got) {
		t.Errorf("%v %s", err, cmp.Diff(want, got))
	}
	if response.StatusCode != 422 || response.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s %v", response.Status, response.Header)
	}
}

// Clients that began to wait before it was known wait no longer.
func TestWatchesThatWaitInVainEndWhenThatIsKnown(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(eventThenSilence))
	before := found(s, catalog.WatchListUnknown, "")
	f := startFront(t, before.APIServices()[0])
	f.proxy.Sync(before)
	waiting, plain := f.do(t, "GET", base+initialEvents, nil, nil), f.do(t, "GET", base+"/things?watch=1", nil, nil)
	f.proxy.Sync(found(s, catalog.WatchListMissing, ""))
	if body := read(t, waiting); body != "event\n" {
		t.Errorf("%q", body)
	}
	if _, err := io.ReadFull(plain.Body, make([]byte, len("event\n"))); err != nil {
		t.Errorf("a watch that waits for nothing: %v", err)
	}
}

func TestAWatchThatWaitsInVainForItsHeaderIsRefused(t *testing.T) {
	begun := make(chan struct{})
	s := backendtest.Start(t, "api", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	}))
	before := found(s, catalog.WatchListUnknown, "")
	f := startFront(t, before.APIServices()[0])
	f.proxy.Sync(before)
	go func() {
		<-begun
		f.proxy.Sync(found(s, catalog.WatchListMissing, ""))
	}()
	if got := status(t, f.do(t, "GET", base+initialEvents, nil, nil)); got.Code != 422 || got.Reason != "Invalid" {
		t.Errorf("%+v", got)
	}
}
