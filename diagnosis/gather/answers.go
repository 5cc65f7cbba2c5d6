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
	// countLists is how many lists are compared.
	countLists = 3
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
)

// answers sees what a client gets through the API server.
func (g *gathering) answers(ctx context.Context, a *apiregistrationv1.APIService, f *diagnosis.APIServiceFacts) {
	path := "/apis/" + a.Spec.Group + "/" + a.Spec.Version
	if a.Spec.Group == "" {
		path = "/api/" + a.Spec.Version
	}
	together(
		func() {
			answer, whole := g.answered(ctx, request{path: path})
			f.GroupVersion = diagnosis.Saw(answer)
			f.Resources = resources(answer, whole)
		},
		func() {
			answer, _ := g.answered(ctx, request{path: "/openapi/v3" + path})
			f.OpenAPIV3 = diagnosis.Saw(answer)
		},
	)
	served, seen := f.Resources.Get()
	if !seen {
		why := f.Resources.Why()
		f.List, f.Protobuf = diagnosis.Unseen[diagnosis.Answer](why), diagnosis.Unseen[diagnosis.Answer](why)
		f.WatchList, f.Counts = diagnosis.Unseen[diagnosis.WatchList](why), diagnosis.Unseen[[]diagnosis.Count](why)
		return
	}
	listable, can := first(served, "list")
	if !can {
		why := unsupported("no resource can be listed")
		f.List, f.Protobuf = diagnosis.Unseen[diagnosis.Answer](why), diagnosis.Unseen[diagnosis.Answer](why)
		f.WatchList, f.Counts = diagnosis.Unseen[diagnosis.WatchList](why), diagnosis.Unseen[[]diagnosis.Count](why)
		return
	}
	one := url.Values{"limit": {"1"}}
	together(
		func() {
			answer, _ := g.answered(ctx, request{path: path + "/" + listable, query: one})
			f.List = diagnosis.Saw(answer)
			if answer.Code == http.StatusOK {
				f.Counts = g.counts(ctx, path, listable)
			} else {
				f.Counts = diagnosis.Unseen[[]diagnosis.Count](fmt.Errorf("list %s: answered %d", listable, answer.Code))
			}
		},
		func() {
			answer, _ := g.answered(ctx, request{path: path + "/" + listable, query: one, accept: protobufFirst})
			f.Protobuf = diagnosis.Saw(answer)
		},
		func() {
			watchable, can := first(served, "list", "watch")
			switch {
			case !g.WatchList:
			case !can:
				f.WatchList = diagnosis.Unseen[diagnosis.WatchList](unsupported("no resource can be watched"))
			default:
				f.WatchList = diagnosis.Saw(g.watchList(ctx, path, watchable))
			}
		},
	)
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
		p, err := get[page[json.RawMessage]](ctx, g.cluster, path+"/"+resource, url.Values{"limit": {"500"}})
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
		"timeoutSeconds":       {fmt.Sprint(max(1, int(wait.Seconds())))},
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
	events := json.NewDecoder(io.LimitReader(response.Body, maxWatch))
	for !w.Bookmark && w.Events < maxWatchEvents {
		var e struct {
			Type   string `json:"type"`
			Object struct {
				metav1.TypeMeta
				Metadata metav1.ObjectMeta `json:"metadata"`
				Message  string            `json:"message"`
			} `json:"object"`
		}
		if err := events.Decode(&e); err != nil {
			break // it ended, or the time has: the bookmark did not come
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
