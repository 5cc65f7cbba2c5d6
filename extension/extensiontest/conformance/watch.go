package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// The types of events.
const (
	added    = "ADDED"
	modified = "MODIFIED"
	deleted  = "DELETED"
	bookmark = "BOOKMARK"
	failed   = "ERROR"
)

// maxStream bounds one watch.
const maxStream = 512 << 20

// soon is how long an event may take.
const soon = 10 * time.Second

// event is one line of a watch.
type event struct {
	kind   string
	object *unstructured.Unstructured
}

// String is for failures.
func (e event) String() string {
	return fmt.Sprintf("%s %s at resourceVersion %q", e.kind, e.object.GetName(), e.object.GetResourceVersion())
}

// watch is one that is open, or was refused.
type watch struct {
	// refused is the answer where it was not 200.
	refused *answer
	// after is the resourceVersion that the watch begins from; "" or "0" where it lists first.
	after string
	began time.Time

	record *recorder
	cancel context.CancelFunc
	done   chan struct{} // closed at the end
	events chan event    // closed after that, so that who sees its end sees that of the watch
	err    error         // how it ended, after done; nil at a clean end
}

// exchange is the watch for a report.
func (w *watch) exchange() *Exchange { return w.record.copy() }

// stop ends the watch and waits for its reader.
func (w *watch) stop() {
	w.cancel()
	<-w.done
}

// watch opens a watch of the kit's namespace. It ends the check where there is no answer.
func (t *T) watch(ctx context.Context, pairs ...string) *watch {
	return t.watchPath(ctx, t.admin, t.subject.path(t.subject.namespace, ""), "", pairs...)
}

// watching is watch that ends the check where the watch is refused.
func (t *T) watching(ctx context.Context, pairs ...string) *watch {
	return t.granted(t.watch(ctx, pairs...))
}

func (t *T) granted(w *watch) *watch {
	if w.refused != nil {
		t.want(*w.refused, http.StatusOK)
	}
	return w
}

func (t *T) watchPath(ctx context.Context, c *client, path, accept string, pairs ...string) *watch {
	q := query(pairs...)
	q.Set("watch", "true")
	r := request{method: http.MethodGet, path: path, query: q}
	if accept != "" {
		r = r.with("Accept", accept)
	}
	w, err := openWatch(ctx, c, r)
	if err != nil {
		t.fatalf(w.exchange(), "there was no answer: %v", err)
	}
	w.after = q.Get("resourceVersion")
	t.mu.Lock()
	t.watches = append(t.watches, w)
	t.mu.Unlock()
	return w
}

// openWatch opens a watch. The caller stops it, also after an error.
func openWatch(ctx context.Context, c *client, r request) (*watch, error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{cancel: cancel, events: make(chan event, 64), done: make(chan struct{})}
	// The header must come soon; the body may take its time.
	timer := time.AfterFunc(requestLimit, cancel)
	w.began = time.Now()
	resp, e, err := c.open(ctx, r)
	w.record = &recorder{e: e}
	if !timer.Stop() && err == nil {
		resp.Body.Close()
		err = fmt.Errorf("none within %v", requestLimit)
	}
	if err != nil {
		close(w.done)
		close(w.events)
		return w, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		defer close(w.events)
		defer close(w.done)
		raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		w.record.add(raw)
		w.refused = &answer{Exchange: w.exchange(), raw: raw}
		return w, err
	}
	go w.read(ctx, resp.Body)
	return w, nil
}

func (w *watch) read(ctx context.Context, body io.ReadCloser) {
	defer close(w.events)
	defer close(w.done)
	defer body.Close()
	d := json.NewDecoder(io.LimitReader(body, maxStream))
	for {
		var raw json.RawMessage
		err := d.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return
		}
		var line struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		var o *unstructured.Unstructured
		if err == nil {
			w.record.add(append(raw, '\n'))
			if err = json.Unmarshal(raw, &line); err == nil {
				o, err = parse(line.Object)
			}
		}
		if err != nil {
			if ctx.Err() == nil {
				w.err = err
				w.record.ended(err)
			}
			return
		}
		select {
		case w.events <- event{kind: line.Type, object: o}:
		case <-ctx.Done():
			return
		}
	}
}

// until gives the events up to the one that is wanted, with it; false where the watch ended, or the
// time passed, before.
func (w *watch) until(ctx context.Context, within time.Duration, wanted func(event) bool) ([]event, bool) {
	timer := time.NewTimer(within)
	defer timer.Stop()
	var seen []event
	for {
		select {
		case e, ok := <-w.events:
			if !ok {
				return seen, false
			}
			seen = append(seen, e)
			if wanted(e) {
				return seen, true
			}
		case <-timer.C:
			return seen, false
		case <-ctx.Done():
			return seen, false
		}
	}
}

// during gives the events that come within a time.
func (w *watch) during(ctx context.Context, d time.Duration) []event {
	seen, _ := w.until(ctx, d, func(event) bool { return false })
	return seen
}

// await waits for one event of the check's own objects and ends the check where it does not come. Other
// events of these objects before it are given too.
func (t *T) await(ctx context.Context, w *watch, kind string, o *unstructured.Unstructured) []event {
	seen, ok := w.until(ctx, soon, func(e event) bool {
		return e.kind == kind && e.object.GetName() == o.GetName() && e.object.GetNamespace() == o.GetNamespace() && !t.replayed(w, e)
	})
	own := t.ownEvents(w, seen)
	if !ok {
		t.fatalf(w.exchange(), "no %s of %s came within %v; it saw: %s", kind, o.GetName(), soon, describe(own))
	}
	return own
}

// replayFault is the number of the fault of watches that replay.
const replayFault = 2

// replayed says whether an event is of the time before the watch, in a check that is about something
// else.
func (t *T) replayed(w *watch, e event) bool {
	if t.check.Finds(replayFault) || w.after == "" || w.after == "0" || e.kind != added {
		return false
	}
	sign, err := resourceversion.CompareResourceVersion(e.object.GetResourceVersion(), w.after)
	return err == nil && sign <= 0
}

// ownEvents are those of the check's objects, and errors.
func (t *T) ownEvents(w *watch, events []event) []event {
	var own []event
	for _, e := range events {
		if e.kind == failed || e.kind != bookmark && t.mine(e.object) && !t.replayed(w, e) {
			own = append(own, e)
		}
	}
	return own
}

func describe(events []event) string {
	if len(events) == 0 {
		return "nothing"
	}
	text := ""
	for i, e := range events {
		if i == 10 {
			return fmt.Sprintf("%s, and %d more", text, len(events)-i)
		}
		if i > 0 {
			text += ", "
		}
		text += e.String()
	}
	return text
}

// ended waits for the stream's end.
func (w *watch) ended(ctx context.Context, within time.Duration) bool {
	_, _ = w.until(ctx, within, func(event) bool { return false })
	select {
	case <-w.done:
		return ctx.Err() == nil
	default:
		return false
	}
}

// isEnd says whether a bookmark ends the initial events.
func isEnd(e event) bool {
	return e.kind == bookmark && e.object.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true"
}
