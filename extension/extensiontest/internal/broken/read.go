package broken

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// call is a request for the resource.
type call struct {
	w                               http.ResponseWriter
	r                               *http.Request
	user                            string
	version, namespace, name, which string // which subresource
}

var groupResource = schema.GroupResource{Group: group, Resource: resource}

func (c call) query(name string) string { return c.r.URL.Query().Get(name) }
func (c call) dryRun() bool             { return c.query("dryRun") != "" }
func (c call) key() string              { return c.namespace + "/" + c.name }

// serveResource reads the path and finds the verb.
func (s *Server) serveResource(w http.ResponseWriter, r *http.Request, user string) {
	c := call{w: w, r: r, user: user}
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/apis/"+group+"/"), "/")
	c.version, parts = parts[0], parts[1:]
	if len(parts) > 1 && parts[0] == "namespaces" {
		c.namespace, parts = parts[1], parts[2:]
	}
	if len(parts) == 0 || parts[0] != resource || len(parts) > 3 {
		s.fail(w, apierrors.NewNotFound(groupResource, r.URL.Path))
		return
	}
	if parts = append(parts, "", ""); true {
		c.name, c.which = parts[1], parts[2]
	}
	s.mu.Lock()
	down := s.down
	s.mu.Unlock()
	if down {
		if s.fault == EmptyWhileDown && r.Method == http.MethodGet && c.name == "" {
			s.answer(w, r, http.StatusOK, map[string]any{"apiVersion": group + "/" + c.version, "kind": kind + "List", "metadata": map[string]any{"resourceVersion": s.text(oldest)}, "items": []any{}})
			return
		}
		s.fail(w, apierrors.NewServiceUnavailable("the storage is down"))
		return
	}
	switch {
	case r.Method == http.MethodGet && c.name == "" && c.query("watch") == "true":
		s.watch(c)
	case r.Method == http.MethodGet && c.name == "":
		s.list(c)
	case r.Method == http.MethodGet && c.which == "log":
		s.stream(c)
	case r.Method == http.MethodGet:
		s.get(c)
	default:
		s.write(c)
	}
}

func (s *Server) get(c call) {
	s.mu.Lock()
	o := s.objects[c.key()]
	s.mu.Unlock()
	if o == nil || !visible(o, c.user) && s.fault != GetUnauthorized {
		s.fail(c.w, apierrors.NewNotFound(groupResource, c.name))
		return
	}
	s.answerObject(c, http.StatusOK, o)
}

// answerObject writes an object in the form that was asked for.
func (s *Server) answerObject(c call, code int, o *unstructured.Unstructured) {
	switch as(c.r) {
	case "PartialObjectMetadata":
		s.answer(c.w, c.r, code, partial(o).Object)
	default:
		s.answer(c.w, c.r, code, shown(o, c.version).Object)
	}
}

// token is a continue token.
type token struct {
	Version uint64 `json:"v"`
	After   string `json:"a"`
}

func (s *Server) list(c call) {
	f, err := newFilter(c.namespace, c.query("labelSelector"), c.query("fieldSelector"), c.user)
	if err != nil {
		s.fail(c.w, err)
		return
	}
	version, after, err := s.listVersion(c)
	if err != nil {
		s.fail(c.w, err)
		return
	}
	s.mu.Lock()
	if version == 0 {
		version = s.now()
	}
	state := s.stateAt(version)
	s.mu.Unlock()
	limit, _ := strconv.Atoi(c.query("limit")) // none is 0
	var items []*unstructured.Unstructured
	next, remaining := "", int64(0)
	for _, key := range inOrder(state) {
		if key <= after || !f.matches(state[key]) {
			continue
		}
		if limit > 0 && len(items) == limit {
			remaining++
			continue
		}
		items = append(items, state[key])
		after = key
	}
	metadata := map[string]any{"resourceVersion": s.text(version)}
	if s.fault == ListWithoutVersion {
		metadata["resourceVersion"] = ""
	}
	if remaining > 0 {
		raw, err := json.Marshal(token{version, after})
		if err != nil {
			s.fail(c.w, err)
			return
		}
		next = base64.RawURLEncoding.EncodeToString(raw)
		metadata["continue"], metadata["remainingItemCount"] = next, remaining
	}
	s.answer(c.w, c.r, http.StatusOK, s.listOf(c, items, metadata))
}

// listOf is a list in the form that was asked for.
func (s *Server) listOf(c call, items []*unstructured.Unstructured, metadata map[string]any) map[string]any {
	form := as(c.r)
	if form == "Table" {
		table := tableOf(items, c.query("includeObject"), c.version)
		table["metadata"] = metadata
		return table
	}
	objects := []any{}
	for _, o := range items {
		if form == "PartialObjectMetadataList" {
			objects = append(objects, partial(o).Object)
		} else {
			objects = append(objects, shown(o, c.version).Object)
		}
	}
	if form == "PartialObjectMetadataList" {
		return map[string]any{"apiVersion": "meta.k8s.io/v1", "kind": form, "metadata": metadata, "items": objects}
	}
	return map[string]any{"apiVersion": group + "/" + c.version, "kind": kind + "List", "metadata": metadata, "items": objects}
}

// listVersion is the version of which a list is wanted, 0 for now, and the key after which it goes on.
func (s *Server) listVersion(c call) (uint64, string, error) {
	if text := c.query("continue"); text != "" {
		var t token
		raw, err := base64.RawURLEncoding.DecodeString(text)
		if err == nil {
			err = json.Unmarshal(raw, &t)
		}
		if err != nil || t.After == "" {
			return 0, "", apierrors.NewBadRequest("the continue token is none")
		}
		return t.Version, t.After, nil
	}
	text, match := c.query("resourceVersion"), c.query("resourceVersionMatch")
	if match != "" && text == "" {
		return 0, "", apierrors.NewBadRequest("resourceVersionMatch is forbidden unless resourceVersion is provided")
	}
	if text == "" || text == "0" {
		return 0, "", nil
	}
	version, err := s.parse(text)
	if err != nil {
		return 0, "", err
	}
	s.mu.Lock()
	now := s.now()
	s.mu.Unlock()
	if version > now {
		large := apierrors.NewTimeoutError("Too large resource version", 1)
		large.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"}}
		return 0, "", large
	}
	if match != string(metav1.ResourceVersionMatchExact) {
		return 0, "", nil
	}
	if version < oldest {
		return 0, "", apierrors.NewResourceExpired("too old resource version")
	}
	return version, "", nil
}

// streamEnd is when a stream is cut that should be long-running; in life it is a minute.
const streamEnd = time.Second

// stream writes a line now and then until its client goes.
func (s *Server) stream(c call) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	end := make(<-chan time.Time)
	if s.fault == StreamCut {
		timer := time.NewTimer(streamEnd)
		defer timer.Stop()
		end = timer.C
	}
	flusher := http.NewResponseController(c.w)
	for {
		if _, err := fmt.Fprintln(c.w, "a line"); err != nil {
			return
		}
		if err := flusher.Flush(); err != nil {
			return
		}
		select {
		case <-ticker.C:
		case <-end:
			return
		case <-c.r.Context().Done():
			return
		}
	}
}
