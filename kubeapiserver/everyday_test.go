package kubeapiserver_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

// everydayGroup is the group whose requests are audited.
const everydayGroup = "everyday.test"

// auditPolicy audits the requests of one group.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- level: Metadata
  resources: [{group: ` + everydayGroup + `}]
- level: None
`

// auditEvents lists the events in an audit log of the requests for a path, in the order
// in which they were written.
func auditEvents(t *testing.T, log, path string) []auditv1.Event {
	t.Helper()
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var events []auditv1.Event
	for line := range strings.Lines(string(data)) {
		var e auditv1.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			continue // the last line, half written
		}
		if got, _, _ := strings.Cut(e.RequestURI, "?"); got == path {
			events = append(events, e)
		}
	}
	return events
}

// handledErrors collects what the process handles as an error.
type handledErrors struct {
	mu   sync.Mutex
	list []string
}

// handled is registered before there is a server.
var handled handledErrors

func (h *handledErrors) handle(_ context.Context, err error, message string, keysAndValues ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, fmt.Sprint(message, " ", err, " ", keysAndValues))
}

// of lists those that name a group.
func (h *handledErrors) of(group string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []string
	for _, e := range h.list {
		if strings.Contains(e, "/apis/"+group+"/") {
			list = append(list, e)
		}
	}
	return list
}

// What happens every day is audited as what it is, and nothing of it is an error: a
// watch and a log that their client leaves, that the extension server ends, or whose
// API is deleted; a session that its client leaves.
func TestEverydayEndsAreNoErrors(t *testing.T) {
	dir := t.TempDir()
	log, policy := filepath.Join(dir, "audit.log"), filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	audits, err := server.Beside("--audit-policy-file="+policy, "--audit-log-path="+log, "--audit-log-mode=blocking")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := audits.Stop(); err != nil {
			t.Error(err)
		}
	})
	v1 := gv(everydayGroup, "v1")
	e := server.Register(t, "everyday", v1)
	end := make(chan struct{})
	e.Handle("*", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			conn, err := test.Hijack(w, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = io.Copy(io.Discard, conn)
			return
		}
		_, _ = io.WriteString(w, "hello")
		_ = http.NewResponseController(w).Flush()
		var stop chan struct{} // nil: never
		if strings.Contains(r.URL.Path, "/ended/") {
			stop = end
		}
		select {
		case <-r.Context().Done():
		case <-stop:
		}
	})
	base := "/apis/" + v1.String() + "/namespaces/"
	client := audits.Client(test.Admin)
	client.Timeout = 0
	defer client.CloseIdleConnections()
	test.Eventually(t, func() string {
		if a := audits.Get(t, test.Admin, "/apis/"+v1.String()); a.Code != http.StatusOK {
			return fmt.Sprintf("the second server answers %d", a.Code)
		}
		return ""
	})
	open := func(ctx context.Context, path string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, audits.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { response.Body.Close() })
		if _, err := io.ReadFull(response.Body, make([]byte, len("hello"))); err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", path, response.Status, err)
		}
		return response
	}
	for _, path := range []string{"left/things?watch=true", "x/things/y/log?follow=true", "x/things"} {
		ctx, leave := context.WithCancel(t.Context())
		open(ctx, base+path)
		leave()
	}
	ended := open(t.Context(), base+"ended/things?watch=true")
	close(end)
	if _, err := io.ReadAll(ended.Body); err != nil {
		t.Errorf("a watch that its server ended: %v", err)
	}
	raw := audits.Dial(t, "http/1.1")
	raw.Send(t, "GET "+base+"x/things/y/console HTTP/1.1", websocket()...)
	if a := raw.Receive(t); a.Code != http.StatusSwitchingProtocols {
		t.Fatalf("%+v", a)
	}
	_ = raw.Close()
	gone := open(t.Context(), base+"gone/things?watch=true")
	server.Unregister(t, "v1."+everydayGroup)
	if _, err := io.ReadAll(gone.Body); err != nil {
		t.Errorf("a watch whose API is gone: %v", err)
	}

	for path, code := range map[string]int32{
		"left/things": 200, "x/things/y/log": 200, "x/things": 200, "ended/things": 200, "x/things/y/console": 101, "gone/things": 200,
	} {
		var last auditv1.Event
		test.Eventually(t, func() string {
			events := auditEvents(t, log, base+path)
			if n := len(events); n == 0 || events[n-1].Stage != auditv1.StageResponseComplete && events[n-1].Stage != auditv1.StagePanic {
				return path + " has no end in the audit log"
			}
			last = events[len(events)-1]
			return ""
		})
		if last.Stage != auditv1.StageResponseComplete || last.ResponseStatus == nil || last.ResponseStatus.Code != code {
			t.Errorf("%s is audited as %s, %+v", path, last.Stage, last.ResponseStatus)
		}
	}
	if list := handled.of(everydayGroup); len(list) > 0 {
		t.Errorf("handled as errors: %q", list)
	}
}

// What the client must see as broken is, and somebody is told; but of a log, which ends
// with its server in every roll-out, the client alone.
func TestAnAnswerThatBreaksOffIsAnError(t *testing.T) {
	v1 := gv("v2."+everydayGroup, "v1")
	e := server.Register(t, "broken-off", v1)
	e.Handle("*", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	for _, path := range []string{"/namespaces/default/things/y/log?follow=true", "/things"} {
		if a, err := server.TryGet(t.Context(), test.Admin, "/apis/"+v1.String()+path); err == nil {
			t.Errorf("%s is whole: %+v", path, a)
		}
	}
	test.Eventually(t, func() string {
		if n := len(handled.of(v1.Group)); n != 1 {
			return fmt.Sprintf("%d errors are handled", n)
		}
		return ""
	})
}

// outlived is a second or two, and what a busy machine adds.
const outlived = 5 * time.Second

// A watch and a session end within two seconds when their API goes to somebody else,
// cleanly, over both protocols.
func TestWatchesDoNotOutliveTheirAPI(t *testing.T) {
	for way, change := range map[string]func(t *testing.T, group string, e *test.Extension){
		"deleted": func(t *testing.T, group string, _ *test.Extension) { server.Unregister(t, "v1."+group) },
		"local": func(t *testing.T, group string, _ *test.Extension) {
			server.UpdateRegistration(t, "v1."+group, func(a *apiregistrationv1.APIService) { a.Spec.Service, a.Spec.CABundle = nil, nil })
		},
		"another-service": func(t *testing.T, group string, e *test.Extension) {
			server.Expose(t, e.Name+"-next", "localhost")
			server.UpdateRegistration(t, "v1."+group, func(a *apiregistrationv1.APIService) { a.Spec.Service.Name = e.Name + "-next" })
		},
		"crd": func(t *testing.T, group string, _ *test.Extension) {
			defineGizmos(t, group)
			server.Unregister(t, "v1."+group) // its own, which is local, takes the place
		},
	} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			group := way + ".outlive.test"
			e := server.Register(t, "outlive-"+way, gv(group, "v1"))
			e.Handle("*", func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Upgrade") != "" {
					if conn, err := test.Hijack(w, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello"); err == nil {
						defer conn.Close()
						_, _ = io.Copy(io.Discard, conn)
					}
					return
				}
				_, _ = io.WriteString(w, "hello")
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			})
			path := "/apis/" + group + "/v1/namespaces/default/things"
			ends := map[string]chan error{}
			wait := func(what string, body io.Reader) {
				end := make(chan error, 1)
				ends[what] = end
				if _, err := io.ReadFull(body, make([]byte, len("hello"))); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				go func() {
					_, err := io.ReadAll(body)
					end <- err
				}()
			}
			client := server.Client(test.Admin)
			defer client.CloseIdleConnections()
			response, err := client.Get(server.URL + path + "?watch=true")
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			wait("a watch over "+response.Proto, response.Body)
			raw := server.Dial(t, "http/1.1")
			raw.Send(t, "GET "+path+"?watch=true HTTP/1.1", "Authorization: Bearer "+test.Admin)
			first, err := http.ReadResponse(bufio.NewReader(raw), nil)
			if err != nil {
				t.Fatal(err)
			}
			wait("a watch over "+first.Proto, first.Body)
			session := server.Dial(t, "http/1.1")
			session.Send(t, "GET "+path+"/x/console HTTP/1.1", websocket()...)
			if a := session.Receive(t); a.Code != http.StatusSwitchingProtocols {
				t.Fatalf("%+v", a)
			}
			wait("a session", session)
			change(t, group, e)
			timeout := time.After(outlived)
			for what, end := range ends {
				select {
				case err := <-end:
					if err != nil {
						t.Errorf("%s ended with %v", what, err)
					}
				case <-timeout:
					t.Fatalf("%s outlives its API", what)
				}
			}
		})
	}
}
