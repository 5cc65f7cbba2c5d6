package gather

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/diagnosis"
)

const (
	// maxRequests is how many requests are under way at once, and maxLarge how many of these whose
	// answers may be as large as maxAnswer.
	maxRequests, maxLarge = 64, 16
	// requestTimeout bounds one request, unless Options say otherwise. It is longer than the time
	// that API servers give an extension server to say what it serves.
	requestTimeout = 15 * time.Second
	// maxAnswer bounds what is read of one answer, in bytes.
	maxAnswer = 32 << 20
	// pageSize is how many objects are asked for at once, and maxPages how often.
	pageSize, maxPages = 500, 10
	// maxObject bounds one object: etcd takes less.
	maxObject = 4 << 20
	// maxTries is how often an API server is asked that has no room for a request, and maxPause how long
	// it is waited between two.
	maxTries, maxPause = 3, 5 * time.Second
	// maxMessage is how much of a message that came from elsewhere is kept in an error.
	maxMessage = 1000
)

// errNotFound: there is no such thing. It is seen, not unknown.
var errNotFound = errors.New("not found")

// errTooLarge: an answer went on beyond what is read of it.
var errTooLarge = errors.New("the answer is too large")

// cluster asks an API server with the caller's rights.
type cluster struct {
	config  *rest.Config
	client  *http.Client
	base    *url.URL
	slots   chan struct{}
	large   chan struct{}
	timeout time.Duration
}

func connect(config *rest.Config, timeout time.Duration) (*cluster, error) {
	config = rest.CopyConfig(config)
	config.Timeout = 0 // each request has its own
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("read the address of the API server: %w", err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	if client == http.DefaultClient {
		client = &http.Client{}
	}
	// A redirect would take the caller's credentials wherever an extension server wants them.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if timeout <= 0 {
		timeout = requestTimeout
	}
	return &cluster{config: config, client: client, base: base, slots: make(chan struct{}, maxRequests), large: make(chan struct{}, maxLarge), timeout: timeout}, nil
}

// request is what is asked.
type request struct {
	method string // GET if it is empty
	path   string
	query  url.Values
	accept string // JSON if it is empty
	// contentType is that of body.
	contentType string
	body        []byte
	// most is how much of the answer is kept; maxAnswer if it is 0.
	most int64
}

// reply is what came.
type reply struct {
	code   int
	header http.Header
	body   []byte
	// cut says that there was more than was kept.
	cut bool
	// sent and ended are when it was sent, and when the answer was complete.
	sent, ended time.Time
}

// at is the URL of a path below the API server's own.
func (c *cluster) at(path string, query url.Values) *url.URL {
	u := c.base.JoinPath(strings.Split(path, "/")...)
	u.RawQuery = query.Encode()
	return u
}

// ask sends a request in its turn, and reads the answer within its bounds. The error is nil for
// every answer that came whole or cut, whatever its code. An API server that has no room for it is asked
// again after the time that it says; meanwhile the request keeps its turn, so that fewer are sent.
func (c *cluster) ask(ctx context.Context, r request) (reply, error) {
	turns := []chan struct{}{c.slots}
	if r.most == 0 {
		r.most = maxAnswer
		turns = []chan struct{}{c.large, c.slots}
	}
	for _, turn := range turns {
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
		case <-ctx.Done():
			return reply{}, c.failed(ctx, r, ctx.Err())
		}
	}
	for tries := 1; ; tries++ {
		a, err := c.askOnce(ctx, r)
		pause, full := noRoom(a)
		if err != nil || !full || tries == maxTries {
			return a, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return a, c.failed(ctx, r, ctx.Err())
		}
	}
}

// noRoom says whether an answer is that of an API server whose fairness refuses a request for now, and
// when to ask again. That is plain text. What is a Status is of an extension server, or of the layer for its
// sake: to see that is what is asked for.
func noRoom(a reply) (time.Duration, bool) {
	if a.code != http.StatusTooManyRequests || statusOf(a.body) != nil {
		return 0, false
	}
	seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || seconds < 1 {
		seconds = 1
	}
	return min(time.Duration(seconds)*time.Second, maxPause), true
}

func (c *cluster) askOnce(ctx context.Context, r request) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	response, sent, err := c.open(ctx, r)
	if err != nil {
		return reply{sent: sent, ended: time.Now()}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, r.most+1))
	a := reply{code: response.StatusCode, header: response.Header, body: body}
	if int64(len(body)) > r.most {
		a.body, a.cut = body[:r.most], true
		// A client that leaves before the end is noted by the server: what is not too much is read.
		_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxAnswer-r.most)) // nothing more is wanted of it
	}
	a.sent, a.ended = sent, time.Now()
	if err != nil {
		return a, c.failed(ctx, r, err)
	}
	return a, nil
}

// open sends a request out of turn. The caller closes the answer's body, and bounds ctx.
func (c *cluster) open(ctx context.Context, r request) (*http.Response, time.Time, error) {
	method := r.method
	if method == "" {
		method = http.MethodGet
	}
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	q, err := http.NewRequestWithContext(ctx, method, c.at(r.path, r.query).String(), body)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("ask for %s: %w", r.path, err)
	}
	q.Header.Set("Accept", "application/json")
	if r.accept != "" {
		q.Header.Set("Accept", r.accept)
	}
	if r.contentType != "" {
		q.Header.Set("Content-Type", r.contentType)
	}
	sent := time.Now()
	response, err := c.client.Do(q)
	if err != nil {
		return nil, sent, c.failed(ctx, r, err)
	}
	return response, sent, nil
}

// failed names what was asked. The URL, which the error of a client holds, is left out.
func (c *cluster) failed(ctx context.Context, r request, err error) error {
	var inURL *url.Error
	if errors.As(err, &inURL) {
		err = inURL.Err
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = timedOut{}
	}
	return fmt.Errorf("ask for %s: %w", r.path, err)
}

// timedOut is the end of a request's time, in the words of both worlds.
type timedOut struct{}

func (timedOut) Error() string   { return diagnosis.ErrTimedOut.Error() }
func (timedOut) Unwrap() []error { return []error{diagnosis.ErrTimedOut, context.DeadlineExceeded} }

// get reads one object.
func get[T any](ctx context.Context, c *cluster, path string, query url.Values) (T, error) {
	return send[T](ctx, c, request{path: path, query: query})
}

// send reads the object that a request is answered with.
func send[T any](ctx context.Context, c *cluster, r request) (T, error) {
	var object T
	a, err := c.ask(ctx, r)
	if err != nil {
		return object, err
	}
	if err := refusal(r.path, a); err != nil {
		return object, err
	}
	if a.cut {
		return object, fmt.Errorf("read %s: %w", r.path, errTooLarge)
	}
	if err := json.Unmarshal(a.body, &object); err != nil {
		return object, fmt.Errorf("read %s: %w", r.path, err)
	}
	return object, nil
}

// refusal is nil where what was asked for came.
func refusal(path string, a reply) error {
	switch {
	case a.code >= 200 && a.code < 300:
		return nil
	case a.code == http.StatusNotFound:
		return fmt.Errorf("ask for %s: %w", path, errNotFound)
	case a.code == http.StatusForbidden || a.code == http.StatusUnauthorized:
		return fmt.Errorf("ask for %s: %w: %w", path, diagnosis.ErrForbidden, saidNo(a))
	}
	return fmt.Errorf("ask for %s: answered %d: %w", path, a.code, saidNo(a))
}

// saidNo is an answer as the error that clients of Kubernetes know.
func saidNo(a reply) error {
	s := statusOf(a.body)
	if s == nil {
		s = &metav1.Status{Status: metav1.StatusFailure, Code: int32(a.code)}
		switch a.code {
		case http.StatusForbidden:
			s.Reason = metav1.StatusReasonForbidden
		case http.StatusUnauthorized:
			s.Reason = metav1.StatusReasonUnauthorized
		}
	}
	s.Message = message(a)
	return &apierrors.StatusError{ErrStatus: *s}
}

// message is what an answer says, bounded.
func message(a reply) string {
	text := string(a.body)
	if s := statusOf(a.body); s != nil && s.Message != "" {
		text = s.Message
	}
	text = strings.TrimSpace(text)
	if len(text) > maxMessage {
		text = text[:maxMessage] + "…"
	}
	return text
}

// statusOf is a body as a Status; nil if it is none.
func statusOf(body []byte) *metav1.Status {
	var s metav1.Status
	if !bytes.Contains(body[:min(len(body), 4096)], []byte(`"Status"`)) || json.Unmarshal(body, &s) != nil || s.Kind != "Status" {
		return nil
	}
	return &s
}

// optional is an object that need not be there: nil where it is not.
func optional[T any](ctx context.Context, c *cluster, path string) diagnosis.Known[*T] {
	object, err := send[T](ctx, c, request{path: path, most: maxObject})
	switch {
	case errors.Is(err, errNotFound):
		return diagnosis.Saw[*T](nil)
	case err != nil:
		return diagnosis.Unseen[*T](err)
	}
	return diagnosis.Saw(&object)
}

// page is a list in the form that all lists have.
type page[T any] struct {
	Metadata metav1.ListMeta `json:"metadata"`
	Items    []T             `json:"items"`
}

// list reads objects page by page, and makes each what is kept of it; keep says which. It ends
// after most of them. What is not served at all is an empty list.
func list[T, K any](ctx context.Context, c *cluster, path string, query url.Values, most int, keep func(T) (K, bool)) ([]K, error) {
	kept := []K{}
	q := url.Values{}
	for name, values := range query {
		q[name] = values
	}
	q.Set("limit", fmt.Sprint(pageSize))
	for range maxPages {
		p, err := get[page[T]](ctx, c, path, q)
		if errors.Is(err, errNotFound) && len(kept) == 0 {
			return kept, nil
		}
		if err != nil {
			return nil, err
		}
		for _, object := range p.Items {
			if k, wanted := keep(object); wanted {
				kept = append(kept, k)
			}
			if len(kept) == most {
				return kept, nil
			}
		}
		if p.Metadata.Continue == "" {
			return kept, nil
		}
		q.Set("continue", p.Metadata.Continue)
	}
	return kept, nil
}

// all keeps every object as it is.
func all[T any](object T) (T, bool) { return object, true }

// selecting is a query for objects with a label or field.
func selecting(kind, selector string) url.Values { return url.Values{kind: {selector}} }
