package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/annex-api/annex/bench/internal/fixture"
)

const (
	aggregatedType = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	etag           = `"bench"`
	maxObject      = 1 << 20
)

// handler answers as an extension API server does, from bytes made beforehand.
// Which group a discovery request means is told by the TLS server name, so that
// one process stands for any number of extension servers.
type handler struct {
	// createTakes is how long a POST takes.
	createTakes time.Duration
	// leaving is closed when watches are to end; nil for never.
	leaving <-chan struct{}
	events  events

	// prepared holds the documents of each group that was asked for.
	prepared sync.Map // group -> *documents
}

type documents struct {
	item, list, bookmark, event  []byte
	aggregated, groups, versions []byte
	resources                    []byte
}

func (h *handler) of(group string) *documents {
	if d, ok := h.prepared.Load(group); ok {
		return d.(*documents)
	}
	d, _ := h.prepared.LoadOrStore(group, newDocuments(group))
	return d.(*documents)
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimSuffix(r.URL.Path, "/")
	if path == "/apis" {
		h.discovery(w, r)
		return
	}
	// apis, group, version, namespaces, namespace, resource, name
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if len(parts) < 2 || parts[0] != "apis" || !fixture.IsGroup(parts[1]) {
		http.NotFound(w, r)
		return
	}
	d := h.of(parts[1])
	rest := strings.Join(parts[2:], "/")
	collection := fixture.Version + "/namespaces/" + fixture.Namespace + "/" + fixture.Resource
	switch {
	case rest == "":
		write(w, "application/json", d.versions)
	case rest == fixture.Version:
		write(w, "application/json", d.resources)
	case r.Method == http.MethodPost && rest == collection:
		h.create(w, r)
	case r.Method == http.MethodPost && rest == collection+"/"+fixture.Emit:
		h.emit(w, r)
	case r.Method != http.MethodGet:
		http.Error(w, "read only", http.StatusMethodNotAllowed)
	case rest == collection && r.URL.Query().Get("watch") != "":
		h.watch(w, r, d)
	case rest == collection:
		write(w, "application/json", d.list)
	case rest == collection+"/one":
		write(w, "application/json", d.item)
	default:
		http.NotFound(w, r)
	}
}

func (h *handler) discovery(w http.ResponseWriter, r *http.Request) {
	if r.TLS == nil {
		http.Error(w, "TLS only", http.StatusBadRequest)
		return
	}
	group, ok := fixture.GroupOfServerName(r.TLS.ServerName)
	if !ok {
		http.Error(w, "no such extension server", http.StatusNotFound)
		return
	}
	d := h.of(group)
	w.Header().Set("ETag", etag)
	w.Header().Set("Vary", "Accept")
	switch {
	case r.Header.Get("If-None-Match") == etag:
		w.WriteHeader(http.StatusNotModified)
	case strings.Contains(strings.ReplaceAll(r.Header.Get("Accept"), " ", ""), "g=apidiscovery.k8s.io;v=v2;"):
		write(w, aggregatedType, d.aggregated)
	default:
		write(w, "application/json", d.groups)
	}
}

func write(w http.ResponseWriter, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Write(body) // An error means that the client has left.
}

// create answers with the object that was sent, and holds nothing.
func (h *handler) create(w http.ResponseWriter, r *http.Request) {
	object, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxObject))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		http.Error(w, "the object is too large", http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		http.Error(w, "the object did not arrive", http.StatusBadRequest)
		return
	}
	create(w, r, h.createTakes, object)
}

// watch sends the first event, then one for each that is asked for.
func (h *handler) watch(w http.ResponseWriter, r *http.Request, d *documents) {
	seen, more := h.events.now() // Who has the first event misses none after it.
	write(w, "application/json", d.bookmark)
	stream := http.NewResponseController(w)
	if err := stream.Flush(); err != nil {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case <-h.leaving:
			return
		case <-more:
		}
		var count int64
		for count, more = h.events.now(); seen < count; seen++ {
			w.Write(d.event) // An error comes with the flush.
			if err := stream.Flush(); err != nil {
				return
			}
		}
	}
}

func newDocuments(group string) *documents {
	type object map[string]any
	gv := group + "/" + fixture.Version
	names := []string{fixture.Resource, "gadgets", "gizmos", "levers", "wheels"}
	verbs := []string{"get", "list", "watch"}
	version := object{"groupVersion": gv, "version": fixture.Version}
	entry := object{"name": group, "versions": []object{version}, "preferredVersion": version}
	var plain, rich []object
	for _, name := range names {
		singular := strings.TrimSuffix(name, "s")
		kind := strings.ToUpper(singular[:1]) + singular[1:]
		plain = append(plain, object{"name": name, "singularName": singular, "namespaced": true, "kind": kind, "verbs": verbs})
		rich = append(rich, object{
			"resource": name, "singularResource": singular, "scope": "Namespaced", "verbs": verbs,
			"responseKind": object{"group": group, "version": fixture.Version, "kind": kind},
		})
	}
	return &documents{
		item:     fixture.Item(group, "one"),
		list:     fixture.List(group),
		bookmark: fixture.Bookmark(group),
		event:    fixture.Event(group),
		versions: encode(object{"kind": "APIGroup", "apiVersion": "v1", "name": group, "versions": []object{version}, "preferredVersion": version}),
		groups:   encode(object{"kind": "APIGroupList", "apiVersion": "v1", "groups": []object{entry}}),
		resources: encode(object{
			"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": gv, "resources": plain,
		}),
		aggregated: encode(object{
			"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": object{},
			"items": []object{{
				"metadata": object{"name": group},
				"versions": []object{{"version": fixture.Version, "freshness": "Current", "resources": rich}},
			}},
		}),
	}
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("a document of plain values does not encode: %v", err))
	}
	return b
}
