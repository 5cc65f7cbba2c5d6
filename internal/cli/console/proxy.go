package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/internal/cli/kubeconfig"
)

// readable are the paths of the API that the page reads, and the only ones that it gets.
var readable = []string{
	"/apis/aggregation.annex.dev/v1alpha1/remoteapiservices",
	"/apis/apiregistration.k8s.io/v1/apiservices",
}

// eventsPath has what happened before the page was opened. Of it the page gets Events on APIServices.
const eventsPath = "/api/v1/namespaces/default/events"

var eventsAsked = url.Values{"fieldSelector": {"involvedObject.kind=APIService"}, "limit": {"500"}}

// parameters are what it may ask of them.
var parameters = []string{"watch", "allowWatchBookmarks", "timeoutSeconds", "resourceVersion"}

const (
	// maxRequests is how many go to the API server at a time. A page has two at most.
	maxRequests = 32
	// listLimit bounds a list where the user sets no bound, watchLimit a watch.
	listLimit  = time.Minute
	watchLimit = time.Hour
)

// proxy asks the API server as the user of the kubeconfig. Of a request it takes the path, which
// must be one of a few, and some parameters, and gives back JSON alone.
type proxy struct {
	connection *kubeconfig.Connection
	base       *url.URL
	transport  http.RoundTripper
	places     chan struct{}
}

func newProxy(c *kubeconfig.Connection) (*proxy, error) {
	config := c.Streaming()
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, c.Explain("read the API server's address", err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, c.Explain("make a client", err)
	}
	return &proxy{connection: c, base: base, transport: transport, places: make(chan struct{}, maxRequests)}, nil
}

func (p *proxy) close() { (&http.Client{Transport: p.transport}).CloseIdleConnections() }

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case p.places <- struct{}{}:
		defer func() { <-p.places }()
	default:
		answer(w, http.StatusTooManyRequests, "too many pages of this console are open")
		return
	}
	asked := url.Values{}
	for _, name := range parameters {
		if v := r.URL.Query().Get(name); v != "" {
			asked.Set(name, v)
		}
	}
	if r.URL.Path == eventsPath {
		asked = eventsAsked
	}
	limit := p.connection.Config.Timeout
	switch {
	case asked.Get("watch") != "":
		limit = watchLimit
	case limit == 0:
		limit = listLimit
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	target := *p.base
	target.Path = strings.TrimSuffix(target.Path, "/") + r.URL.Path
	target.RawQuery = asked.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		answer(w, http.StatusInternalServerError, err.Error())
		return
	}
	request.Header.Set("Accept", "application/json")
	response, err := p.transport.RoundTrip(request)
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			answer(w, http.StatusBadGateway, p.connection.Explain("ask the API server", err).Error())
		}
		return
	}
	defer response.Body.Close()
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if kind != "application/json" || response.StatusCode < 200 || response.StatusCode > 299 && response.StatusCode < 400 {
		code := response.StatusCode
		if code < 400 {
			code = http.StatusBadGateway
		}
		answer(w, code, fmt.Sprintf("the API server answered %d %s, and no JSON", response.StatusCode, http.StatusText(response.StatusCode)))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if date := response.Header.Get("Date"); date != "" {
		w.Header().Set("Date", date) // by which the page tells times
	}
	w.WriteHeader(response.StatusCode)
	copyAtOnce(w, response.Body)
}

// copyAtOnce passes on what comes when it comes. A page whose answer breaks off asks again.
func copyAtOnce(w http.ResponseWriter, from io.Reader) {
	flush := http.NewResponseController(w)
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return
			}
			_ = flush.Flush() // the next write fails where this does
		}
		switch {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			panic(http.ErrAbortHandler) // half an answer must not look like a whole one
		}
	}
}

// answer says why there is none, as the API does.
func answer(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{ // the browser is gone where it cannot be written
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Message: message, Code: int32(code),
	})
}
