package openapi

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/NYTimes/gziphandler"
	"k8s.io/kube-openapi/pkg/handler3"
	"k8s.io/kube-openapi/pkg/spec3"

	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/document"
)

// v3Types are the media types of version 3.
var v3Types = mediaTypes{
	protobuf:    "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
	oldProtobuf: "application/com.github.proto-openapi.spec.v3@v1.0+protobuf",
}

// v3Document is an extension server's document. Its ETag is the hash of its
// bytes, so that what is cached for ever under that hash is never wrong.
type v3Document struct {
	blob     catalog.Blob
	serial   uint64
	modified time.Time
	etag     func() string
	protobuf *conversion
}

func (s *Service) newV3Document(name string, b catalog.Blob, serial uint64) *v3Document {
	return &v3Document{
		blob:     b,
		serial:   serial,
		modified: s.now(),
		etag:     sync.OnceValue(func() string { return hash(b.Data) }),
		protobuf: &conversion{turns: s.turns, logf: s.logf, what: "OpenAPI v3 of APIService " + name, encode: func(ctx context.Context) ([]byte, error) {
			return document.ProtobufV3(ctx, b.Data, v3Protobuf)
		}},
	}
}

// v3Protobuf drops fields that the format does not know: encoding would fail on
// them.
func v3Protobuf(data []byte) ([]byte, error) {
	var doc spec3.OpenAPI
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	known, err := json.Marshal(&doc)
	if err != nil {
		return nil, fmt.Errorf("encode as JSON: %w", err)
	}
	return handler3.ToV3ProtoBinary(known)
}

func hash(data []byte) string { return fmt.Sprintf("%X", sha512.Sum512(data)) }

// documentURL is where a document is found, with the hash of its content.
func documentURL(key, etag string) string {
	u := url.URL{Path: "/openapi/v3/" + key, RawQuery: url.Values{"hash": {etag}}.Encode()}
	return u.String()
}

// rootCache keeps the list of documents while its inputs do not change.
type rootCache struct {
	mu       sync.Mutex
	id       string
	body     []byte
	etag     string
	modified time.Time
}

// pollRoots brings the local handlers' lists up to date; see await.
func (s *Service) pollRoots(r *http.Request) bool {
	polls := make([]starter, len(s.locals))
	for i, l := range s.locals {
		polls[i] = l.v3
	}
	return await(r.Context(), polls)
}

func (s *Service) serveRoot(w http.ResponseWriter, r *http.Request) {
	if !s.pollRoots(r) {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	body, etag, modified, err := s.root()
	if err != nil {
		s.logf("list the OpenAPI v3 documents: %v", err)
		http.Error(w, "the list of OpenAPI v3 documents cannot be encoded", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", jsonType)
	w.Header().Set("Etag", strconv.Quote(etag))
	http.ServeContent(w, r, "", modified, bytes.NewReader(body))
}

// root lists the local documents that no extension server owns, and those of
// the extension servers.
func (s *Service) root() (body []byte, etag string, modified time.Time, err error) {
	rs := s.current.Load()
	id := fmt.Sprintf("%x", rs.v3ID)
	lists := make([]answer[handler3.OpenAPIV3Discovery], len(s.locals))
	for i, l := range s.locals {
		lists[i] = l.v3.last()
		id += fmt.Sprintf(" %q", lists[i].id)
	}
	c := &s.v3
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.body != nil && c.id == id {
		return c.body, c.etag, c.modified, nil
	}
	all := handler3.OpenAPIV3Discovery{Paths: map[string]handler3.OpenAPIV3DiscoveryGroupVersion{}}
	for _, list := range lists {
		for key, entry := range list.value.Paths {
			_, taken := all.Paths[key]
			if _, owned := rs.byKey[key]; !owned && !taken {
				all.Paths[key] = entry
			}
		}
	}
	for _, r := range rs.ordered {
		if r.v3 != nil {
			all.Paths[r.key] = handler3.OpenAPIV3DiscoveryGroupVersion{ServerRelativeURL: documentURL(r.key, r.v3.etag())}
		}
	}
	if body, err = json.Marshal(all); err != nil {
		return nil, "", time.Time{}, err
	}
	c.id, c.body, c.etag, c.modified = id, body, hash(body), s.now()
	return c.body, c.etag, c.modified, nil
}

// serveKey answers for an extension server's document itself, and hands the
// request on to the local handler that lists the key.
func (s *Service) serveKey(w http.ResponseWriter, r *http.Request) {
	key := strings.TrimPrefix(r.URL.Path, "/openapi/v3/")
	if remote, owned := s.current.Load().byKey[key]; owned {
		if remote.v3 == nil {
			http.NotFound(w, r)
			return
		}
		s.gzipped.serve(w, r, gziphandler.GzipHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.serveDocument(w, r, key, remote.v3)
		})))
		return
	}
	if !s.pollRoots(r) {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	for _, l := range s.locals {
		if _, listed := l.v3.last().value.Paths[key]; listed {
			s.gzipped.serve(w, r, l.compressing)
			return
		}
	}
	http.NotFound(w, r)
}

func (s *Service) serveDocument(w http.ResponseWriter, r *http.Request, key string, d *v3Document) {
	w.Header().Add("Vary", "Accept")
	accepted := acceptable(r.Header.Get("Accept"), v3Types)
	if accepted == "" {
		w.WriteHeader(http.StatusNotAcceptable)
		return
	}
	etag := d.etag()
	if asked := r.URL.Query().Get("hash"); asked != "" {
		if asked != etag {
			http.Redirect(w, r, documentURL(key, etag), http.StatusMovedPermanently)
			return
		}
		// The URL names the content, so the answer holds for ever: a year.
		w.Header().Set("Cache-Control", "public, immutable")
		w.Header().Set("Expires", s.now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat))
	}
	data := d.blob.Data
	if accepted == v3Types.protobuf {
		var err error
		if data, err = d.protobuf.get(r.Context()); err != nil {
			w.Header().Del("Cache-Control")
			w.Header().Del("Expires")
			http.Error(w, notEncoded, http.StatusServiceUnavailable)
			return
		}
	}
	w.Header().Set("Content-Type", accepted)
	w.Header().Set("Etag", strconv.Quote(etag))
	http.ServeContent(w, r, "", d.modified, bytes.NewReader(data))
}
