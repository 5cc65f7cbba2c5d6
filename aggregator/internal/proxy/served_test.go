package proxy

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// soon is how long a watch may outlive its API.
const soon = 2 * time.Second

// changed is a snapshot with the server's claim of name, changed.
func changed(s *backendtest.Server, change func(*apiregistrationv1.APIService)) *catalog.Snapshot {
	o := s.APIService(name)
	change(o)
	return catalog.Build(backendtest.Facts([]*apiregistrationv1.APIService{o}, s))
}

// ways in which an APIService comes to lead elsewhere.
var ways = map[string]func(s *backendtest.Server) *catalog.Snapshot{
	"deleted": func(s *backendtest.Server) *catalog.Snapshot { return s.Snapshot("v1.other.example") },
	"local": func(s *backendtest.Server) *catalog.Snapshot {
		return changed(s, func(o *apiregistrationv1.APIService) { o.Spec.Service, o.Spec.CABundle = nil, nil })
	},
	"another Service": func(s *backendtest.Server) *catalog.Snapshot {
		return changed(s, func(o *apiregistrationv1.APIService) { o.Spec.Service.Name = "elsewhere" })
	},
	"another namespace": func(s *backendtest.Server) *catalog.Snapshot {
		return changed(s, func(o *apiregistrationv1.APIService) { o.Spec.Service.Namespace = "elsewhere" })
	},
	"another port": func(s *backendtest.Server) *catalog.Snapshot {
		return changed(s, func(o *apiregistrationv1.APIService) { o.Spec.Service.Port = new(int32(8443)) })
	},
	"endpoints of its own": func(s *backendtest.Server) *catalog.Snapshot {
		return changed(s, func(o *apiregistrationv1.APIService) {
			o.Annotations = map[string]string{catalog.EndpointsAnnotation: "https://192.0.2.1"}
		})
	},
	"invalid": func(s *backendtest.Server) *catalog.Snapshot {
		return changed(s, func(o *apiregistrationv1.APIService) { o.Spec.Version = "v2" })
	},
}

// eventThenSilence answers a watch with one event, and then nothing for ever.
func eventThenSilence(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, "event\n")
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func TestWatchesEndCleanlyWithTheirClaim(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		for way, next := range ways {
			t.Run(map[bool]string{false: "h1 ", true: "h2 "}[http2]+way, func(t *testing.T) {
				t.Parallel()
				s := backendtest.Start(t, "api", http.HandlerFunc(eventThenSilence))
				f := startFront(t, s.Claim(name), func(_ *Config, f *front) { f.http2 = http2 })
				f.proxy.Sync(s.Snapshot(name))
				response := f.do(t, "GET", base+"/things?watch=1", nil, nil)
				if (response.ProtoMajor == 2) != http2 {
					t.Fatalf("the client speaks %s", response.Proto)
				}
				if _, err := io.ReadFull(response.Body, make([]byte, len("event\n"))); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				f.proxy.Sync(next(s))
				if rest := read(t, response); rest != "" { // which fails unless it is a clean end
					t.Errorf("more came: %q", rest)
				}
				if took := time.Since(began); took > soon {
					t.Errorf("the watch ended after %v", took)
				}
			})
		}
	}
}

// What else of an APIService changes leaves its watches alone.
func TestWatchesGoOnWhereTheClaimStays(t *testing.T) {
	events := make(chan string)
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for {
			select {
			case e := <-events:
				_, _ = io.WriteString(w, e)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}))
	f := startFront(t, s.Claim(name))
	f.proxy.Sync(s.Snapshot(name))
	answered := make(chan *http.Response, 1)
	go func() {
		response, err := f.client.Get(f.URL + base + "/things?watch=1")
		if err != nil {
			t.Error(err)
		}
		answered <- response
	}()
	events <- "1"
	response := <-answered
	defer response.Body.Close()
	for what, next := range map[string]*catalog.Snapshot{
		"the same": s.Snapshot(name),
		"others":   s.Snapshot(name, "v1.other.example"),
		"a priority": changed(s, func(o *apiregistrationv1.APIService) {
			o.Spec.GroupPriorityMinimum++
		}),
		"a CA bundle": changed(s, func(o *apiregistrationv1.APIService) { o.Spec.CABundle = append(o.Spec.CABundle, '\n') }),
		"a setting": changed(s, func(o *apiregistrationv1.APIService) {
			o.Annotations = map[string]string{catalog.MaxInFlightAnnotation: "5"}
		}),
		"watch lists": changed(s, func(o *apiregistrationv1.APIService) {
			o.Annotations = map[string]string{catalog.WatchListAnnotation: "refuse"}
		}),
	} {
		f.proxy.Sync(next)
		events <- "2"
		if _, err := io.ReadFull(response.Body, make([]byte, 1)); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// Before the extension server has answered there is something better than an end.
func TestAWatchThatIsNotAnsweredYetIsToldToComeBack(t *testing.T) {
	begun := make(chan struct{})
	s := backendtest.Start(t, "api", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	}))
	f := startFront(t, s.Claim(name))
	f.proxy.Sync(s.Snapshot(name))
	go func() {
		<-begun
		f.proxy.Sync(catalog.Build(catalog.Facts{}))
	}()
	began := time.Now()
	response := f.do(t, "GET", base+"/things?watch=1", nil, nil)
	if got := status(t, response); got.Code != 503 || got.Details.Causes[0].Type != "APIServiceMoved" || got.Details.Name != name {
		t.Errorf("%+v", got)
	}
	if took := time.Since(began); took > soon || f.probes.Load() > 0 {
		t.Errorf("after %v, %d probes", took, f.probes.Load())
	}
}

// A request may have been routed by a snapshot that is over when it begins.
func TestAWatchThatBeginsAfterTheChangeEnds(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(eventThenSilence))
	f := startFront(t, s.Claim(name))
	f.proxy.Sync(catalog.Build(catalog.Facts{}))
	if got := status(t, f.do(t, "GET", base+"/things?watch=1", nil, nil)); got.Code != 503 {
		t.Errorf("%+v", got)
	}
}

// What is finite may be finished: it is as good as an answer that came before.
func TestOtherRequestsFinishAtTheOldServer(t *testing.T) {
	next := make(chan struct{})
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "one ")
		_ = http.NewResponseController(w).Flush()
		<-next
		_, _ = io.WriteString(w, "two")
	}))
	f := startFront(t, s.Claim(name))
	f.proxy.Sync(s.Snapshot(name))
	for _, path := range []string{"/things", "/namespaces/x/things/y/log"} {
		response := f.do(t, "GET", base+path, nil, nil)
		f.proxy.Sync(catalog.Build(catalog.Facts{}))
		next <- struct{}{}
		if body := read(t, response); body != "one two" {
			t.Errorf("%s: %q", path, body)
		}
	}
}

func TestSessionsEndWithTheirClaim(t *testing.T) {
	for way, next := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			serverEnd := make(chan error, 1)
			s := backendtest.Start(t, "api", switching(t, "websocket", func(conn io.ReadWriteCloser, buffered *bufio.Reader) {
				_, _ = io.WriteString(conn, "hello")
				_, err := io.ReadAll(buffered) // keeps the session as long as it can
				serverEnd <- err
			}))
			f := startFront(t, s.Claim(name))
			f.proxy.Sync(s.Snapshot(name))
			conn, reader := f.upgrade(t, "websocket")
			if _, err := io.ReadFull(reader, make([]byte, len("hello"))); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			f.proxy.Sync(next(s))
			if rest, err := io.ReadAll(reader); err != nil || len(rest) > 0 {
				t.Errorf("the client read %q, %v, want the end", rest, err)
			}
			_ = conn.Close()
			<-serverEnd
			if took := time.Since(began); took > soon {
				t.Errorf("the session ended after %v", took)
			}
		})
	}
}

// An upgrade that waits for its answer is a session to be.
func TestAnUpgradeThatIsNotAnsweredYetEnds(t *testing.T) {
	begun := make(chan struct{})
	s := backendtest.Start(t, "api", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	}))
	f := startFront(t, s.Claim(name))
	f.proxy.Sync(s.Snapshot(name))
	conn := f.dial(t)
	_, _ = io.WriteString(conn, upgradeRequest("websocket"))
	<-begun
	began := time.Now()
	f.proxy.Sync(catalog.Build(catalog.Facts{}))
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("%v, %v", response, err)
	}
	if took := time.Since(began); took > soon {
		t.Errorf("after %v", took)
	}
}

// However many they are, they are ended within a second, not in one moment.
func TestManyEndsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const watches = 1000
		var s served
		claim := (&backendtest.Server{Service: "api", Address: "192.0.2.1:443"}).Snapshot(name)
		s.update(claim)
		var mu sync.Mutex
		var ends []time.Duration
		began := time.Now()
		for i := range watches + 1 {
			forget := s.hold(placeOf(claim.APIServices()[0]), &balance.Stream{End: func() {
				mu.Lock()
				defer mu.Unlock()
				ends = append(ends, time.Since(began))
				if i == watches {
					t.Error("one is ended that is over")
				}
			}})
			if i == watches {
				forget()
			}
		}
		s.update(catalog.Build(catalog.Facts{}))
		time.Sleep(servedOver)
		synctest.Wait()
		if len(ends) != watches || len(s.streams) > 0 {
			t.Fatalf("%d are ended, %d places are held", len(ends), len(s.streams))
		}
		distinct := map[time.Duration]bool{}
		for _, e := range ends {
			distinct[e] = true
		}
		if len(distinct) != watches {
			t.Errorf("%d ends in %d moments", len(ends), len(distinct))
		}
	})
}

// Whoever has let go of everything holds nothing.
func TestPlacesAreForgotten(t *testing.T) {
	var s served
	claim := (&backendtest.Server{Service: "api", Address: "192.0.2.1:443"}).Claim(name)
	for range 3 {
		s.hold(placeOf(claim), &balance.Stream{End: func() { t.Error(errors.New("ended")) }})()
	}
	if len(s.streams) > 0 {
		t.Errorf("%d places are held", len(s.streams))
	}
}
