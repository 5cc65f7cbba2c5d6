package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/annex-api/annex/bench/internal/fixture"
)

const (
	hugeBytes     = 128 << 20
	bombBytes     = 1 << 30 // after decompression
	bombPart      = 16 << 20
	manyResources = 100_000
	nestedDepth   = 3 << 20
	// endlessChunk is sent every endlessPause: 32 MiB a second.
	endlessChunk = 1 << 20
	endlessPause = time.Second / 32
	slowPause    = 500 * time.Millisecond
)

// hostile answers with documents that are there to hurt, for the groups that
// stand for them; resources and probes work, so that nobody gives up early.
type hostile struct {
	next     http.Handler
	blanks   []byte // endlessChunk bytes of white space, which JSON allows anywhere
	bomb     []byte
	versions atomic.Int64
	many     map[string]manyDocuments
	// hung is set once the hanging group's objects were asked for.
	hung atomic.Bool
}

type manyDocuments struct{ aggregated, resources, openapi []byte }

func (d manyDocuments) write(w http.ResponseWriter, path string) {
	document := d.openapi
	if path == "/apis" {
		document = d.aggregated
	}
	w.Write(document) // An error means that the client has left.
}

func newHostile(next http.Handler) (*hostile, error) {
	bomb, err := newBomb()
	if err != nil {
		return nil, fmt.Errorf("making the gzip bomb: %w", err)
	}
	h := &hostile{next: next, blanks: bytes.Repeat([]byte(" "), endlessChunk), bomb: bomb, many: map[string]manyDocuments{}}
	for i, kind := range fixture.Hostile {
		if kind == "many-resources" {
			group := fixture.Group(fixture.FirstHostile + i)
			h.many[group] = newMany(group, manyResources, 0)
		}
	}
	return h, nil
}

// newBomb joins many copies of one compressed part: gzip allows that.
func newBomb() ([]byte, error) {
	var part bytes.Buffer
	w, err := gzip.NewWriterLevel(&part, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(bytes.Repeat([]byte(" "), bombPart)); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return bytes.Repeat(part.Bytes(), bombBytes/bombPart), nil
}

// newMany makes the documents of count resources, whose names begin at a number.
func newMany(group string, count int, first int64) manyDocuments {
	type object map[string]any
	verbs := []string{"get", "list"}
	plain, rich, paths := make([]object, count), make([]object, count), make(map[string]object, count)
	for i := range count {
		name := fmt.Sprintf("things%06d", first+int64(i))
		kind := object{"group": group, "version": fixture.Version, "kind": "Thing"}
		plain[i] = object{"name": name, "singularName": name, "namespaced": true, "kind": "Thing", "verbs": verbs}
		rich[i] = object{"resource": name, "singularResource": name, "scope": "Namespaced", "verbs": verbs, "responseKind": kind}
		paths["/apis/"+group+"/"+fixture.Version+"/"+name] = object{"get": object{"responses": object{"200": object{"description": "OK"}}}}
	}
	return manyDocuments{
		aggregated: encode(object{
			"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": object{},
			"items": []object{{"metadata": object{"name": group}, "versions": []object{{"version": fixture.Version, "freshness": "Current", "resources": rich}}}},
		}),
		resources: encode(object{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group + "/" + fixture.Version, "resources": plain}),
		openapi:   encode(object{"swagger": "2.0", "info": object{"title": "many", "version": "v1"}, "paths": paths}),
	}
}

func (h *hostile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.TLS == nil {
		http.Error(w, "TLS only", http.StatusBadRequest)
		return
	}
	group, _ := fixture.GroupOfServerName(r.TLS.ServerName)
	kind, ok := fixture.HostileKind(group)
	if !ok {
		h.next.ServeHTTP(w, r)
		return
	}
	path := strings.TrimSuffix(r.URL.Path, "/")
	object := strings.Contains(path, "/"+fixture.Resource)
	switch {
	case kind == "hanging":
		if object {
			h.hung.Store(true)
		}
		if h.hung.Load() {
			<-r.Context().Done()
			return
		}
		h.next.ServeHTTP(w, r)
	case kind == "flapping":
		w.Header().Set("Connection", "close") // The next request sees the other certificate.
		h.next.ServeHTTP(w, r)
	case kind == "slow-headers" && path != "/apis/"+group+"/"+fixture.Version:
		crawl(w)
	case kind == "slow" && object:
		w.Header().Set("Content-Type", "application/json")
		h.repeat(w, r, h.blanks[:1], slowPause, -1)
	case path == "/openapi/v3" && kind != "endless":
		// The document's name changes each time: it is always to be downloaded.
		key := "apis/" + group + "/" + fixture.Version
		url := fmt.Sprintf("/openapi/v3/%s?hash=%d", key, h.versions.Add(1))
		b, err := json.Marshal(map[string]any{"paths": map[string]any{key: map[string]string{"serverRelativeURL": url}}})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		write(w, "application/json", b)
	case path == "/apis", strings.HasPrefix(path, "/openapi/"):
		h.document(w, r, kind, group, path)
	case kind == "many-resources" && path == "/apis/"+group+"/"+fixture.Version:
		write(w, "application/json", h.many[group].resources)
	case kind == "changing" && path == "/apis/"+group+"/"+fixture.Version:
		write(w, "application/json", newMany(group, 1, h.versions.Add(1)).resources)
	default:
		h.next.ServeHTTP(w, r)
	}
}

func (h *hostile) document(w http.ResponseWriter, r *http.Request, kind, group, path string) {
	contentType := "application/json"
	if path == "/apis" {
		contentType = aggregatedType
	}
	w.Header().Set("Content-Type", contentType)
	switch kind {
	case "endless":
		h.repeat(w, r, h.blanks, endlessPause, -1)
	case "huge":
		h.repeat(w, r, h.blanks, 0, hugeBytes/endlessChunk)
	case "slow":
		h.repeat(w, r, h.blanks[:1], slowPause, -1)
	case "gzip-bomb":
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(h.bomb) // An error means that the client has left.
	case "nested":
		w.Write(bytes.Repeat([]byte("["), nestedDepth))
	case "many-resources":
		h.many[group].write(w, path)
	case "changing":
		version := h.versions.Add(1)
		w.Header().Set("ETag", fmt.Sprintf("%q", fmt.Sprint(version)))
		newMany(group, 1, version).write(w, path)
	}
}

// repeat sends a part again and again, a number of times or, if that is
// negative, until the client leaves.
func (h *hostile) repeat(w http.ResponseWriter, r *http.Request, part []byte, pause time.Duration, times int) {
	tick := time.NewTicker(max(pause, time.Nanosecond))
	defer tick.Stop()
	flush := http.NewResponseController(w)
	for n := 0; n != times; n++ {
		if _, err := w.Write(part); err != nil {
			return
		}
		if pause == 0 {
			continue
		}
		if err := flush.Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}
