package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/annex-api/annex/internal/testcerts"
)

// silent is where servers of tests put what clients do wrong.
var silent = log.New(io.Discard, "", 0)

// manner is how an extension server behaves. The zero value is well.
type manner struct {
	// serves are its group versions.
	serves []string
	// delay is how long it takes to say what it serves.
	delay time.Duration
	// slowLists is how long it takes to list.
	slowLists time.Duration
	// reset ends connections at once, as a sidecar may; plain speaks no TLS.
	reset, plain bool
	// broken answers 500 to all; groupsAway 503 to who asks for its groups.
	broken, groupsAway bool
	// namesNoKind leaves the kind out of the list of resources.
	namesNoKind bool
	// badOpenAPI answers half a document.
	badOpenAPI bool
	// drops ends the connection of who asks for objects.
	drops bool
	// html is answered with this status by something else, outside of the Pod.
	html int
	// empty serves no resource; forgetful answers every other list without objects.
	empty, forgetful bool
	// refusesProtobuf answers 406 where protobuf is preferred; noBookmark never ends initial events.
	refusesProtobuf, noBookmark bool
	// noOpenAPI has no documents; dangling refers to a definition that is not there.
	noOpenAPI, dangling bool
	// full answers 429 to lists.
	full bool
	// notReady is a line of /readyz that fails.
	notReady string
	// trust says who calls, and whether they may; nil serves everybody.
	trust func(http.Handler) http.Handler
	// clientCAs are asked for in handshakes.
	clientCAs *x509.CertPool
}

// server is an extension server, in its Pod.
type server struct {
	inside net.Listener

	mu          sync.Mutex
	address     string // of the Pod
	manner      manner
	certificate tls.Certificate
	log         []logged
	lists       int
	connections []net.Conn

	servers []*http.Server
	ends    context.CancelFunc
	over    context.Context
	done    sync.WaitGroup
}

// startServer listens at the Pod's address, and inside the Pod. An address of no interface here is
// one that nobody has.
func startServer(address string, local bool, certificate tls.Certificate, m manner) (_ *server, err error) {
	s := &server{address: address, certificate: certificate, manner: m}
	s.over, s.ends = context.WithCancel(context.Background())
	if s.inside, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	s.serve(s.inside, true)
	if local {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.serve(listener, false)
	}
	return s, nil
}

func (s *server) serve(l net.Listener, inside bool) {
	h := &http.Server{
		Handler: s.handler(inside), ErrorLog: silent, ReadHeaderTimeout: time.Minute,
		BaseContext: func(net.Listener) context.Context { return s.over },
	}
	s.servers = append(s.servers, h)
	s.done.Go(func() { _ = h.Serve(&listener{Listener: l, s: s, inside: inside}) }) // until it is closed
}

// listener gives connections as the server's manner says.
type listener struct {
	net.Listener
	s      *server
	inside bool
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.s.connected(conn)
		m := l.s.how()
		switch {
		case m.reset && !l.inside:
			_ = conn.(*net.TCPConn).SetLinger(0) // a reset in place of a polite end
			_ = conn.Close()
		case m.plain:
			return conn, nil
		default:
			return tls.Server(conn, &tls.Config{
				GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return l.s.tls(), nil },
			}), nil
		}
	}
}

func (s *server) connected(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connections = append(s.connections, conn)
}

// disconnect ends all connections, as the end of a process does.
func (s *server) disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.connections {
		_ = conn.Close() // it may have ended
	}
	s.connections = nil
}

func (s *server) tls() *tls.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &tls.Config{Certificates: []tls.Certificate{s.certificate}, NextProtos: []string{"http/1.1"}}
	if s.manner.clientCAs != nil {
		c.ClientAuth, c.ClientCAs = tls.RequestClientCert, s.manner.clientCAs
	}
	return c
}

func (s *server) Close() error {
	s.ends()
	var errs []error
	for _, h := range s.servers {
		errs = append(errs, h.Close())
	}
	s.done.Wait()
	return errors.Join(errs...)
}

// insideAddress is where a port of the Pod is, seen from within; empty if nobody listens there.
func (s *server) insideAddress(port string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, listens, _ := net.SplitHostPort(s.address); listens == port {
		return s.inside.Addr().String()
	}
	return ""
}

// moved tells it the address that its Pod has now.
func (s *server) moved(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.address = address
}

func (s *server) how() manner {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.manner
}

// change makes it behave otherwise, as after a restart.
func (s *server) change(set func(*manner)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set(&s.manner)
}

// show makes it show another certificate.
func (s *server) show(p testcerts.Pair) {
	c := p.TLS()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.certificate = c
}

// logged is a line of a log, and when the container runtime got it.
type logged struct {
	at   time.Time
	text string
}

// say writes a line into its log.
func (s *server) say(format string, args ...any) { s.said(time.Now(), fmt.Sprintf(format, args...)) }

// said writes lines as they were written then.
func (s *server) said(at time.Time, lines ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range lines {
		s.log = append(s.log, logged{at, line})
	}
	s.log = s.log[max(0, len(s.log)-100):]
}

// forget begins a new log, as a new container does.
func (s *server) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = nil
}

func (s *server) handler(inside bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m := s.how()
		if m.html != 0 && !inside {
			w.Header().Set("Content-Type", "text/html")
			w.Header().Set("Server", "another")
			w.WriteHeader(m.html)
			_, _ = io.WriteString(w, "<html>no backend</html>") // a reader that is gone wants nothing
			return
		}
		answer := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.answer(m, w, r) }))
		if m.trust != nil {
			answer = m.trust(answer)
		}
		answer.ServeHTTP(w, r)
	})
}

type object = map[string]any

func write(w http.ResponseWriter, code int, o any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(o) // a reader that is gone wants nothing
}

func (s *server) answer(m manner, w http.ResponseWriter, r *http.Request) {
	path := strings.Trim(r.URL.Path, "/")
	switch parts := strings.Split(path, "/"); {
	case m.broken:
		write(w, http.StatusInternalServerError, status(http.StatusInternalServerError, "InternalError", "an error on the server"))
	case path == "apis" && m.groupsAway:
		write(w, http.StatusServiceUnavailable, status(http.StatusServiceUnavailable, "ServiceUnavailable", "the groups are not known yet"))
	case path == "readyz" && m.notReady != "":
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, "[+]ping ok\n[-]"+m.notReady+" failed: reason withheld\nreadyz check failed\n")
	case path == "readyz":
		_, _ = io.WriteString(w, "[+]ping ok\nreadyz check passed\n")
	case path == "apis":
		groups := []object{}
		for _, gv := range m.serves {
			group, version, _ := strings.Cut(gv, "/")
			v := object{"groupVersion": gv, "version": version}
			groups = append(groups, object{"name": group, "versions": []object{v}, "preferredVersion": v})
		}
		write(w, http.StatusOK, object{"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
	case strings.HasPrefix(path, "openapi/"):
		openAPI(m, path, w)
	case len(parts) >= 3 && parts[0] == "apis" && slices.Contains(m.serves, parts[1]+"/"+parts[2]):
		if len(parts) > 3 {
			s.things(m, parts[1]+"/"+parts[2], w, r)
			return
		}
		select {
		case <-time.After(m.delay):
		case <-r.Context().Done():
			return
		}
		resources := []object{{"name": "things", "singularName": "thing", "namespaced": false, "kind": "Thing", "verbs": []string{"get", "list", "watch"}}}
		if m.empty {
			resources = []object{}
		}
		list := object{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": parts[1] + "/" + parts[2], "resources": resources}
		if m.namesNoKind {
			delete(list, "kind")
			delete(list, "apiVersion")
		}
		write(w, http.StatusOK, list)
	default:
		write(w, http.StatusNotFound, status(http.StatusNotFound, "NotFound", "the server could not find the requested resource"))
	}
}

func status(code int, reason, message string) object {
	return object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message}
}

// hold is a parameter of lists that are not answered.
const hold = "hold"

// things are its only resource: one object.
func (s *server) things(m manner, gv string, w http.ResponseWriter, r *http.Request) {
	switch {
	case m.drops:
		panic(http.ErrAbortHandler)
	case m.refusesProtobuf && strings.Contains(r.Header.Get("Accept"), "protobuf"):
		write(w, http.StatusNotAcceptable, status(http.StatusNotAcceptable, "NotAcceptable", "only the following media types are accepted: application/json"))
		return
	case m.full && r.URL.Query().Get("watch") == "":
		write(w, http.StatusTooManyRequests, status(http.StatusTooManyRequests, "TooManyRequests", "too many requests"))
		return
	}
	one := object{"apiVersion": gv, "kind": "Thing", "metadata": object{"name": "one", "uid": "0b3f5f60-5a0e-4c59-8f0e-0123456789ab", "resourceVersion": "10"}}
	if r.URL.Query().Get("watch") != "" {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		if r.URL.Query().Get("sendInitialEvents") == "true" && !m.noBookmark {
			_ = json.NewEncoder(w).Encode(object{"type": "BOOKMARK", "object": object{
				"apiVersion": gv, "kind": "Thing", "metadata": object{"resourceVersion": "10", "annotations": object{"k8s.io/initial-events-end": "true"}},
			}})
		}
		_ = http.NewResponseController(w).Flush() // a reader that is gone wants nothing
		<-r.Context().Done()
		return
	}
	wait := m.slowLists
	if r.URL.Query().Has(hold) {
		wait = time.Hour
	}
	select {
	case <-time.After(wait):
	case <-r.Context().Done():
		return
	}
	s.mu.Lock()
	s.lists++
	items := []object{one}
	if m.forgetful && s.lists%2 == 0 {
		items = []object{}
	}
	s.mu.Unlock()
	write(w, http.StatusOK, object{"kind": "ThingList", "apiVersion": gv, "metadata": object{"resourceVersion": "10"}, "items": items})
}

func openAPI(m manner, path string, w http.ResponseWriter) {
	if m.noOpenAPI {
		write(w, http.StatusNotFound, status(http.StatusNotFound, "NotFound", "there is no OpenAPI"))
		return
	}
	if m.badOpenAPI {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"swagger":"2.0","openapi":"3.0.0","paths":{`) // a reader that is gone wants nothing
		return
	}
	info := object{"title": "things", "version": "v1"}
	if path == "openapi/v3" {
		paths := object{}
		for _, gv := range m.serves {
			paths["apis/"+gv] = object{"serverRelativeURL": "/openapi/v3/apis/" + gv + "?hash=1"}
		}
		write(w, http.StatusOK, object{"paths": paths})
		return
	}
	paths, definitions := object{}, object{}
	for _, gv := range m.serves {
		group, version, _ := strings.Cut(gv, "/")
		kind := group + "." + version + ".Thing"
		definition := object{"type": "object", "x-kubernetes-group-version-kind": []object{{"group": group, "version": version, "kind": "Thing"}}}
		if m.dangling {
			definition["properties"] = object{"spec": object{"$ref": "#/definitions/" + group + ".Nowhere"}}
		}
		definitions[kind] = definition
		paths["/apis/"+gv+"/things"] = object{"get": object{
			"operationId": "list" + kind, "produces": []string{"application/json"},
			"responses": object{"200": object{"description": "OK", "schema": object{"$ref": "#/definitions/" + kind}}},
		}}
	}
	if path == "openapi/v2" {
		write(w, http.StatusOK, object{"swagger": "2.0", "info": info, "paths": paths, "definitions": definitions})
		return
	}
	write(w, http.StatusOK, object{"openapi": "3.0.0", "info": info, "paths": object{}})
}
