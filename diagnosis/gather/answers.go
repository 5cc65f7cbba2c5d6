package gather

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/diagnosis"
)

const (
	// countLists is how many lists are compared, and countLimit how many objects are asked for in each: some
	// or none is what tells.
	countLists, countLimit = 3, "10"
	// watchListWait is how long the end of the initial events is waited for, unless Options say
	// otherwise.
	watchListWait = 5 * time.Second
	// maxWatch bounds what is read of a watch, in bytes, and maxWatchEvents its events: nothing
	// matches its selector.
	maxWatch, maxWatchEvents = 1 << 20, 1000
	// protobufFirst is what client-go accepts.
	protobufFirst = "application/vnd.kubernetes.protobuf,application/json"
	// nothing is a label that no object has.
	nothing = "aggregation.annex.dev/watch-list-probe"
	// watchSlack is how much longer the server may go on: it has no reason to end the watch before.
	watchSlack = 10 * time.Second
	// late is from when on an answer is compared with one of the API server's own.
	late = time.Second
)

// answers sees what a client gets through the API server.
func (g *gathering) answers(ctx context.Context, a *apiregistrationv1.APIService, f *diagnosis.APIServiceFacts) {
	path := rootOf(a)
	together(
		func() {
			answer, whole, _ := g.answered(ctx, request{path: path, most: maxObject})
			f.GroupVersion = diagnosis.Saw(answer)
			f.Resources = resources(answer, whole)
			if answer.Took >= late {
				f.OwnAnswer = g.answer(ctx, request{path: "/version"})
			}
		},
		func() { f.OpenAPIV3 = g.answer(ctx, request{path: "/openapi/v3" + path}) },
	)
	served, seen := f.Resources.Get()
	listable, can := first(served, "list")
	if !can {
		var why error = unsupported("no resource can be listed")
		if !seen {
			why = f.Resources.Why()
		}
		f.List, f.Protobuf = diagnosis.Unseen[diagnosis.Answer](why), diagnosis.Unseen[diagnosis.Answer](why)
		f.Counts = diagnosis.Unseen[[]diagnosis.Count](why)
		return
	}
	one := url.Values{"limit": {"1"}}
	together(
		func() {
			f.List = g.answer(ctx, request{path: path + "/" + listable, query: one})
			answer := f.List.Value
			if answer.Code == http.StatusOK {
				f.Counts = g.counts(ctx, path, listable)
			} else {
				f.Counts = diagnosis.Unseen[[]diagnosis.Count](fmt.Errorf("list %s: answered %d", listable, answer.Code))
			}
		},
		func() {
			f.Protobuf = g.answer(ctx, request{path: path + "/" + listable, query: one, accept: protobufFirst})
		},
	)
}

// answer is what came, of which only the beginning is kept.
func (g *gathering) answer(ctx context.Context, r request) diagnosis.Known[diagnosis.Answer] {
	r.most = maxEndpointAnswer
	answer, _, _ := g.answered(ctx, r) // the answer has the error
	return diagnosis.Saw(answer)
}

// watches sees whether watches end their initial events. What Annex has found out of one among many is
// not asked again.
func (g *gathering) watches(ctx context.Context, a *apiregistrationv1.APIService, f *diagnosis.APIServiceFacts) {
	if r := f.Remote.Value; !g.WatchList || len(g.Names) == 0 && r != nil && slices.Contains([]string{"Works", "Missing", "Refused"}, r.Status.WatchList) {
		return
	}
	served, seen := f.Resources.Get()
	watchable, can := first(served, "list", "watch")
	switch {
	case !seen:
		f.WatchList = diagnosis.Unseen[diagnosis.WatchList](f.Resources.Why())
	case !can:
		f.WatchList = diagnosis.Unseen[diagnosis.WatchList](unsupported("no resource can be watched"))
	default:
		f.WatchList = diagnosis.Saw(g.watchList(ctx, rootOf(a), watchable))
	}
}

// rootOf is the path of an APIService's group version.
func rootOf(a *apiregistrationv1.APIService) string {
	if a.Spec.Group == "" {
		return "/api/" + a.Spec.Version
	}
	return "/apis/" + a.Spec.Group + "/" + a.Spec.Version
}

// resources are those that an answer lists.
func resources(answer diagnosis.Answer, whole reply) diagnosis.Known[[]metav1.APIResource] {
	switch {
	case answer.Failure != "":
		return diagnosis.Unseen[[]metav1.APIResource](errors.New(answer.Failure))
	case answer.Code != http.StatusOK:
		return diagnosis.Unseen[[]metav1.APIResource](fmt.Errorf("the resource list is answered with %d", answer.Code))
	case whole.cut:
		return diagnosis.Unseen[[]metav1.APIResource](errTooLarge)
	}
	var l metav1.APIResourceList
	err := json.Unmarshal(whole.body, &l)
	if err != nil {
		err = fmt.Errorf("read the resource list: %w", err)
	}
	return diagnosis.Look(l.APIResources, err)
}

// first is the first resource by name that has all these verbs.
func first(served []metav1.APIResource, verbs ...string) (string, bool) {
	name := ""
	for _, r := range served {
		able := !slices.ContainsFunc(verbs, func(v string) bool { return !slices.Contains(r.Verbs, v) })
		if able && r.Name != "" && !strings.ContainsAny(r.Name, "/?#%") && (name == "" || r.Name < name) {
			name = r.Name
		}
	}
	return name, name != ""
}

// counts are of lists one after another.
func (g *gathering) counts(ctx context.Context, path, resource string) diagnosis.Known[[]diagnosis.Count] {
	found := []diagnosis.Count{}
	for range countLists {
		p, err := send[page[json.RawMessage]](ctx, g.cluster, request{path: path + "/" + resource, query: url.Values{"limit": {countLimit}}, most: maxObject})
		if err != nil {
			return diagnosis.Unseen[[]diagnosis.Count](err)
		}
		count := diagnosis.Count{Resource: resource, Objects: int64(len(p.Items)), ResourceVersion: p.Metadata.ResourceVersion}
		if p.Metadata.RemainingItemCount != nil {
			count.Objects += *p.Metadata.RemainingItemCount
		}
		found = append(found, count)
	}
	return diagnosis.Saw(found)
}

// watchList opens a watch that nothing matches, and waits for the bookmark that ends its initial
// events.
func (g *gathering) watchList(ctx context.Context, path, resource string) diagnosis.WatchList {
	wait := g.WatchListWait
	if wait <= 0 {
		wait = watchListWait
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	w := diagnosis.WatchList{Resource: resource}
	r := request{path: path + "/" + resource, query: url.Values{
		"watch":                {"true"},
		"sendInitialEvents":    {"true"},
		"resourceVersionMatch": {string(metav1.ResourceVersionMatchNotOlderThan)},
		"allowWatchBookmarks":  {"true"},
		"labelSelector":        {nothing},
		"timeoutSeconds":       {fmt.Sprint(int((wait + watchSlack).Seconds()))},
	}}
	begin := time.Now()
	response, sent, err := g.open(ctx, r)
	if err != nil {
		w.Answer, w.Waited = answerOf(reply{sent: sent, ended: time.Now()}, err), time.Since(begin)
		return w
	}
	defer response.Body.Close()
	a := reply{code: response.StatusCode, header: response.Header, sent: sent, ended: time.Now()}
	if response.StatusCode != http.StatusOK {
		// What can be read of it says why.
		a.body, err = io.ReadAll(io.LimitReader(response.Body, maxBody))
		w.Answer, w.Waited = answerOf(a, err), time.Since(begin)
		return w
	}
	w.Answer = answerOf(a, nil)
	limited := &io.LimitedReader{R: response.Body, N: maxWatch}
	events := json.NewDecoder(limited)
	for !w.Bookmark && w.Failure == "" {
		if w.Events == maxWatchEvents {
			w.Failure = fmt.Sprintf("%d events came, and more are not read", w.Events)
			break
		}
		var e struct {
			Type   string `json:"type"`
			Object struct {
				metav1.TypeMeta
				Metadata metav1.ObjectMeta `json:"metadata"`
				Message  string            `json:"message"`
			} `json:"object"`
		}
		if err := events.Decode(&e); err != nil {
			switch {
			case errors.Is(ctx.Err(), context.DeadlineExceeded): // it was waited for long enough
			case limited.N <= 0:
				w.Failure = fmt.Sprintf("%d bytes came, and more are not read", maxWatch)
			default: // the server stops, a proxy cuts it off, or the user ends it
				w.Failure = fmt.Sprintf("the watch was cut off after %s: %v", time.Since(begin).Round(time.Millisecond), err)
			}
			break
		}
		switch {
		case e.Type == "BOOKMARK" && e.Object.Metadata.Annotations[metav1.InitialEventsAnnotationKey] == "true":
			w.Bookmark = true
		case e.Type == "ERROR":
			w.Failure = "the watch ended with an error: " + e.Object.Message[:min(len(e.Object.Message), maxMessage)]
		default:
			w.Events++
		}
	}
	w.Waited = time.Since(begin)
	return w
}
