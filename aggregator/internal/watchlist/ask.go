// Package watchlist finds out whether extension servers support WatchList.
//
// A client that sends sendInitialEvents=true waits for a bookmark with the
// annotation k8s.io/initial-events-end, and lists nothing meanwhile. A server
// that ignores the option, as those before Kubernetes v1.27 and many made by
// hand do, never sends it: the client's informer hangs for ever.
package watchlist

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

const (
	// maxAnswer bounds what is read of an answer, in bytes, and maxEvents the
	// events: nothing matches the selector, so a bookmark is all there should be.
	maxAnswer = 1 << 20
	maxEvents = 1000
	// nothing is a label that no object has.
	nothing = "aggregation.annex.dev/watch-list-probe"
)

// Silent is what a watch shows that gets no answer in time, not even a header. One says
// nothing: the server may be slow. It may also send its header with its first event,
// and then never answers a watch for nothing, nor ends the initial events of others.
const Silent catalog.WatchListSupport = "Silent"

// Path returns the path and query of a watch that shows whether the server
// behind a supports WatchList: on the first of its resources, by name, that can
// be listed and watched, over all namespaces, for nothing. False means that
// there is no such resource, or that none is known.
func Path(a *catalog.APIService) (string, bool) {
	d := a.Document.Discovery
	if d == nil || d.Freshness == apidiscoveryv2.DiscoveryFreshnessStale {
		return "", false
	}
	first := ""
	for _, r := range d.Resources {
		if slices.Contains(r.Verbs, "list") && slices.Contains(r.Verbs, "watch") && (first == "" || r.Resource < first) {
			first = r.Resource
		}
	}
	if first == "" {
		return "", false
	}
	query := url.Values{
		"watch":                {"true"},
		"sendInitialEvents":    {"true"},
		"resourceVersionMatch": {string(metav1.ResourceVersionMatchNotOlderThan)},
		"allowWatchBookmarks":  {"true"},
		"labelSelector":        {nothing},
	}
	u := url.URL{Path: a.DiscoveryPath() + "/" + first, RawQuery: query.Encode()}
	return u.RequestURI(), true
}

// HTTP opens a watch at one endpoint, as whom probes are sent.
func HTTP(backends *backend.Pool) Try {
	return func(ctx context.Context, a *catalog.APIService) catalog.WatchListSupport {
		path, found := Path(a)
		if !found {
			return catalog.WatchListUnknown
		}
		b := backends.Get(a)
		choice, err := b.Pick(a.Target)
		if err != nil {
			return catalog.WatchListUnknown
		}
		defer func() { choice.Done(time.Now(), balance.Neutral) }()
		var asked atomic.Bool
		traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { asked.Store(true) }})
		response, err := b.Open(traced, choice.Address, backend.Call{As: backend.Aggregator, Path: path, Accept: "application/json"})
		if err != nil && asked.Load() && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return Silent
		}
		if err != nil {
			return catalog.WatchListUnknown
		}
		defer response.Body.Close()
		return Judge(ctx, response)
	}
}

// Judge says what an answer to the watch shows. It reads the body until it
// knows, until ctx ends, which means that no bookmark came in time, or until the
// bounds; the caller closes it. A server that sends more objects than that though
// nothing matches the selector heeds no options, and this one no more than the others.
func Judge(ctx context.Context, response *http.Response) catalog.WatchListSupport {
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusUnprocessableEntity, http.StatusNotImplemented:
		return catalog.WatchListRefused
	default:
		return catalog.WatchListUnknown
	}
	limited := &io.LimitedReader{R: response.Body, N: maxAnswer}
	events := json.NewDecoder(limited)
	beyond := catalog.WatchListUnknown
	for range maxEvents {
		var e event
		err := events.Decode(&e)
		switch {
		case err == nil && e.Type == "BOOKMARK" && e.Object.Metadata.Annotations[metav1.InitialEventsAnnotationKey] == "true":
			return catalog.WatchListWorks
		case err == nil && e.Type == "ERROR" && e.Object.Code >= 400 && e.Object.Code < 500:
			return catalog.WatchListRefused
		case err == nil && e.Type == "ERROR":
			return catalog.WatchListUnknown
		case err == nil:
			if e.Type == "ADDED" {
				beyond = catalog.WatchListMissing
			}
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return catalog.WatchListMissing
		case limited.N == 0 && ctx.Err() == nil:
			return beyond
		case errors.Is(err, io.EOF) && ctx.Err() == nil:
			return catalog.WatchListMissing // the server ended the watch itself, without the bookmark
		default:
			return catalog.WatchListUnknown
		}
	}
	return beyond
}

// event is what is read of a watch event.
type event struct {
	Type   string `json:"type"`
	Object struct {
		Code     int `json:"code"`
		Metadata struct {
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
	} `json:"object"`
}
