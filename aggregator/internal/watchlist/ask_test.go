package watchlist

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

const (
	bookmark = `{"type":"BOOKMARK","object":{"kind":"Thing","metadata":{"resourceVersion":"7","annotations":{"k8s.io/initial-events-end":"true"}}}}`
	ordinary = `{"type":"BOOKMARK","object":{"kind":"Thing","metadata":{"resourceVersion":"7"}}}`
	added    = `{"type":"ADDED","object":{"kind":"Thing","metadata":{"name":"x"}}}`
	tooOld   = `{"type":"ERROR","object":{"kind":"Status","status":"Failure","code":410}}`
	broken   = `{"type":"ERROR","object":{"kind":"Status","status":"Failure","code":500}}`
)

// hanging is a body that says nothing after its text until ctx ends.
type hanging struct {
	io.Reader
	ctx context.Context
}

func (h hanging) Read(p []byte) (int, error) {
	if n, err := h.Reader.Read(p); err == nil {
		return n, nil
	}
	<-h.ctx.Done()
	return 0, h.ctx.Err()
}

func (hanging) Close() error { return nil }

func TestJudge(t *testing.T) {
	for what, c := range map[string]struct {
		code  int
		body  string
		hangs bool
		want  catalog.WatchListSupport
	}{
		"the bookmark":                          {200, bookmark, true, catalog.WatchListWorks},
		"the bookmark after others":             {200, added + "\n" + ordinary + "\n" + bookmark, true, catalog.WatchListWorks},
		"nothing":                               {200, "", true, catalog.WatchListMissing},
		"bookmarks, but not that one":           {200, ordinary, true, catalog.WatchListMissing},
		"objects in spite of the selector":      {200, added, true, catalog.WatchListMissing},
		"an end":                                {200, "", false, catalog.WatchListMissing},
		"half an event":                         {200, `{"type":`, true, catalog.WatchListMissing},
		"half an event, and an end":             {200, `{"type":`, false, catalog.WatchListUnknown},
		"what is no event":                      {200, `<html>`, true, catalog.WatchListUnknown},
		"everything in spite of the selector":   {200, strings.Repeat(added, maxEvents), true, catalog.WatchListMissing},
		"much of it, and the bookmark":          {200, strings.Repeat(added, maxEvents-1) + bookmark, true, catalog.WatchListWorks},
		"large objects in spite of it":          {200, strings.Repeat(added+strings.Repeat(" ", maxAnswer/10), 11), true, catalog.WatchListMissing},
		"large objects, and an end":             {200, strings.Repeat(added+strings.Repeat(" ", maxAnswer/10), 11), false, catalog.WatchListMissing},
		"endless bookmarks":                     {200, strings.Repeat(ordinary, maxEvents), true, catalog.WatchListUnknown},
		"one endless object":                    {200, `{"type":"` + strings.Repeat("A", maxAnswer), true, catalog.WatchListUnknown},
		"a refusal as an event":                 {200, tooOld, true, catalog.WatchListRefused},
		"a failure as an event":                 {200, broken, true, catalog.WatchListUnknown},
		"a refusal of the option":               {422, "{}", false, catalog.WatchListRefused},
		"a refusal of the query":                {400, "{}", false, catalog.WatchListRefused},
		"no watches at all":                     {405, "{}", false, catalog.WatchListRefused},
		"a denial, which says nothing":          {403, "{}", false, catalog.WatchListUnknown},
		"too many requests, which says nothing": {429, "{}", false, catalog.WatchListUnknown},
		"a failure, which says nothing":         {500, "{}", false, catalog.WatchListUnknown},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				body := io.NopCloser(io.Reader(strings.NewReader(c.body)))
				if c.hangs {
					body = hanging{strings.NewReader(c.body), ctx}
				}
				if got := Judge(ctx, &http.Response{StatusCode: c.code, Body: body}); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
			})
		})
	}
}

// Whoever ends the probe learns nothing of the server.
func TestJudgeOfAProbeThatIsGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	response := &http.Response{StatusCode: 200, Body: hanging{strings.NewReader(""), ctx}}
	if got := Judge(ctx, response); got != catalog.WatchListUnknown {
		t.Errorf("got %q", got)
	}
}

func TestPath(t *testing.T) {
	resource := func(name string, verbs ...string) apidiscoveryv2.APIResourceDiscovery {
		return apidiscoveryv2.APIResourceDiscovery{Resource: name, Verbs: verbs}
	}
	for _, c := range []struct {
		resources []apidiscoveryv2.APIResourceDiscovery
		want      string
	}{
		{nil, ""},
		{[]apidiscoveryv2.APIResourceDiscovery{resource("a", "list"), resource("b", "watch")}, ""},
		{[]apidiscoveryv2.APIResourceDiscovery{resource("c", "list", "watch"), resource("a", "get"), resource("b", "watch", "list")}, "/apis/a.example/v1/b"},
	} {
		a := &catalog.APIService{Registration: catalog.Registration{Name: "v1.a.example", Group: "a.example", Version: "v1"}}
		if _, found := Path(a); found {
			t.Error("a path without discovery")
		}
		a.Document.Discovery = &apidiscoveryv2.APIVersionDiscovery{Version: "v1", Resources: c.resources}
		got, found := Path(a)
		u, err := url.Parse(got)
		if err != nil || u.Path != c.want || found != (c.want != "") {
			t.Errorf("%v: got %q, %v, want %q", c.resources, got, err, c.want)
		}
		if found && fmt.Sprint(u.Query()["sendInitialEvents"], u.Query()["labelSelector"]) != "[true] ["+nothing+"]" {
			t.Errorf("query %v", u.Query())
		}
	}
}

// The group without a name is at /api/v1.
func TestPathOfTheLegacyGroup(t *testing.T) {
	a := &catalog.APIService{Registration: catalog.Registration{Name: catalog.LegacyName, Version: "v1"}}
	a.Document.Discovery = listOf("things")
	if got, _ := Path(a); !strings.HasPrefix(got, "/api/v1/things?") {
		t.Errorf("got %q", got)
	}
}
