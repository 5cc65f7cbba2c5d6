package broken

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// bookmarks come this often; in life about once a minute.
const bookmarkEvery = time.Second

// stuckFor is how long a write waits where watches that ended hold the server up.
const stuckFor = 6 * time.Second

// watcher is one open watch.
type watcher struct {
	s *Server
	c call
	filter
	encoder *json.Encoder
	flush   *http.ResponseController
	next    int // of the changes
	columns bool
}

func (s *Server) watch(c call) {
	fieldSelector, labelSelector := c.query("fieldSelector"), c.query("labelSelector")
	f, err := newFilter(c.namespace, labelSelector, fieldSelector, c.user)
	if err != nil {
		s.fail(c.w, err)
		return
	}
	switch s.fault {
	case SelectorsIgnored:
		f, err = newFilter(c.namespace, "", "", c.user)
	case WatchUnauthorized:
		f.user = adminToken
	}
	if err != nil {
		s.fail(c.w, err)
		return
	}
	text := c.query("resourceVersion")
	from := uint64(0)
	if text != "" {
		if from, err = s.parse(text); err != nil {
			s.fail(c.w, err)
			return
		}
	}
	lists := c.query("sendInitialEvents") == "true"
	if lists && c.query("resourceVersionMatch") != string(metav1.ResourceVersionMatchNotOlderThan) {
		s.fail(c.w, apierrors.NewBadRequest("sendInitialEvents needs resourceVersionMatch=NotOlderThan"))
		return
	}
	c.w.Header().Set("Content-Type", "application/json")
	w := &watcher{s: s, c: c, filter: f, encoder: json.NewEncoder(c.w), flush: http.NewResponseController(c.w)}
	defer func() {
		s.mu.Lock()
		s.stops++
		s.mu.Unlock()
	}()
	w.run(from, lists)
}

func (w *watcher) run(from uint64, lists bool) {
	s := w.s
	s.mu.Lock()
	now := s.now()
	state := s.stateAt(now)
	s.mu.Unlock()
	switch {
	case from == 0 || lists || s.fault == WatchReplays:
		w.initial(state)
		w.next = int(now - oldest)
		if lists && s.fault != NoInitialEventsEnd {
			w.bookmark(now, true)
		}
	case from < oldest && s.fault == ExpiredIsSilent:
		w.next = int(now - oldest)
	case from < oldest:
		status := apierrors.NewResourceExpired("too old resource version").ErrStatus
		status.Kind, status.APIVersion = "Status", "v1"
		w.send("ERROR", status)
		_ = w.flush.Flush() // an error shows at the end of the request
		if s.fault == OpenAfterError {
			<-w.c.r.Context().Done()
		}
		return
	default:
		w.next = int(from - oldest)
	}
	w.follow()
}

// initial shows all that is there.
func (w *watcher) initial(state map[string]*unstructured.Unstructured) {
	count := 0
	for _, key := range inOrder(state) {
		if !w.matches(state[key]) {
			continue
		}
		if count++; count == 3 && w.s.fault == InitialEventLost {
			continue
		}
		w.object("ADDED", state[key])
	}
	_ = w.flush.Flush() // an error shows at the next write
}

// follow shows changes until the client goes or the time is over.
func (w *watcher) follow() {
	end := make(<-chan time.Time)
	if seconds, _ := strconv.Atoi(w.c.query("timeoutSeconds")); seconds > 0 && w.s.fault != WatchNeverEnds {
		timer := time.NewTimer(time.Duration(seconds) * time.Second)
		defer timer.Stop()
		end = timer.C
	}
	ticker := time.NewTicker(bookmarkEvery)
	defer ticker.Stop()
	marks := w.c.query("allowWatchBookmarks") == "true"
	for {
		w.s.mu.Lock()
		w.next = min(w.next, len(w.s.changes)) // a client from the future waits
		batch := w.s.changes[w.next:]
		w.next = len(w.s.changes)
		changed, now := w.s.changed, w.s.now()
		w.s.mu.Unlock()
		for _, c := range batch {
			w.change(c)
		}
		if err := w.flush.Flush(); err != nil {
			return
		}
		select {
		case <-changed:
		case <-ticker.C:
			if marks {
				w.bookmark(now, w.s.fault == EndOnEveryBookmark)
			}
		case <-end:
			return
		case <-w.c.r.Context().Done():
			return
		}
	}
}

// change shows what a change means to this watcher.
func (w *watcher) change(c change) {
	was, is := w.matches(c.old), w.matches(c.new)
	gone := func(o *unstructured.Unstructured) {
		o = o.DeepCopy()
		o.SetResourceVersion(w.s.text(c.version))
		switch w.s.fault {
		case DeletedIsDropped:
		case DeletedIsEmpty:
			w.send("DELETED", map[string]any{"apiVersion": group + "/" + w.c.version, "kind": kind, "metadata": map[string]any{}})
		default:
			w.object("DELETED", o)
		}
	}
	switch {
	case is && was:
		w.object("MODIFIED", c.new)
	case is:
		w.object("ADDED", c.new)
	case was:
		gone(c.old)
	case w.s.fault == DeletedUnfiltered && c.new == nil && c.old.GetNamespace() == w.namespace:
		gone(c.old)
	}
}

// object sends an object in the form that was asked for.
func (w *watcher) object(event string, o *unstructured.Unstructured) {
	switch as(w.c.r) {
	case "Table":
		table := tableOf([]*unstructured.Unstructured{o}, w.c.query("includeObject"), w.c.version)
		table["metadata"] = map[string]any{"resourceVersion": o.GetResourceVersion()}
		if w.columns {
			delete(table, "columnDefinitions")
		}
		w.columns = true
		w.send(event, table)
	default:
		w.send(event, shown(o, w.c.version).Object)
	}
}

func (w *watcher) bookmark(version uint64, ends bool) {
	metadata := map[string]any{"resourceVersion": w.s.text(version), "creationTimestamp": nil}
	if ends {
		metadata["annotations"] = map[string]any{metav1.InitialEventsAnnotationKey: "true"}
	}
	w.send("BOOKMARK", map[string]any{"apiVersion": group + "/" + w.c.version, "kind": kind, "metadata": metadata})
	_ = w.flush.Flush() // an error shows at the next write
}

func (w *watcher) send(event string, object any) {
	_ = w.encoder.Encode(map[string]any{"type": event, "object": object}) // an error shows at the next flush
}
