package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

type object = map[string]any

// api is an API server with RemoteAPIServices, or with APIServices alone, that a test changes as it
// likes. Watches are told of each change.
type api struct {
	*httptest.Server
	plain bool
	// ahead is how far its clock is.
	ahead time.Duration

	mu      sync.Mutex
	version int
	objects map[string]object
	events  []object
	watches map[chan object]bool
}

func newAPI(t *testing.T, plain bool) *api {
	t.Helper()
	a := &api{plain: plain, version: 1, objects: map[string]object{}, watches: map[chan object]bool{}}
	a.Server = httptest.NewServer(a)
	t.Cleanup(func() {
		a.CloseClientConnections()
		a.Close()
	})
	return a
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	served := "/apis/aggregation.annex.dev/v1alpha1/remoteapiservices"
	if a.plain {
		served = "/apis/apiregistration.k8s.io/v1/apiservices"
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Date", time.Now().Add(a.ahead).UTC().Format(http.TimeFormat))
	if r.URL.Path == "/api/v1/namespaces/default/events" && !a.plain {
		a.mu.Lock()
		defer a.mu.Unlock()
		_ = json.NewEncoder(w).Encode(object{"items": a.events})
		return
	}
	if r.URL.Path != served {
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "message": "the server could not find the requested resource", "code": 404})
		return
	}
	if r.URL.Query().Get("watch") != "" {
		a.watch(w, r)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	items := []object{}
	for _, o := range a.objects {
		items = append(items, o)
	}
	_ = json.NewEncoder(w).Encode(object{"metadata": object{"resourceVersion": strconv.Itoa(a.version)}, "items": items})
}

// watch sends what changes from now on: a test changes nothing before the page has listed, but for
// what it has seen there.
func (a *api) watch(w http.ResponseWriter, r *http.Request) {
	events := make(chan object, 4096)
	a.mu.Lock()
	if at, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion")); at < a.version {
		a.mu.Unlock()
		_ = json.NewEncoder(w).Encode(object{"type": "ERROR", "object": object{"kind": "Status", "code": 410, "message": "too old"}})
		return
	}
	a.watches[events] = true
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.watches, events)
		a.mu.Unlock()
	}()
	flush := http.NewResponseController(w)
	_ = flush.Flush()
	for {
		select {
		case e := <-events:
			if json.NewEncoder(w).Encode(e) != nil || flush.Flush() != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

// set adds or changes an object.
func (a *api) set(name string, status object) {
	a.put(object{"metadata": object{"name": name}, "status": status})
}

func (a *api) put(o object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	metadata := o["metadata"].(object)
	metadata["resourceVersion"] = strconv.Itoa(a.version)
	name := metadata["name"].(string)
	kind := "ADDED"
	if a.objects[name] != nil {
		kind = "MODIFIED"
	}
	a.objects[name] = o
	for events := range a.watches {
		events <- object{"type": kind, "object": o}
	}
}

// kubeconfig writes one that leads here.
func (a *api) kubeconfig(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	content := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "production",
"clusters": [{"name": "c", "cluster": {"server": %q}}], "users": [{"name": "u", "user": {}}],
"contexts": [{"name": "production", "context": {"cluster": "c", "user": "u"}}]}`, a.URL)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func ago(d time.Duration) string { return time.Now().Add(-d).UTC().Format(time.RFC3339) }

func endpoint(address, state, p50, p99, errors string) object {
	e := object{
		"address": address, "kind": "endpoint", "zone": "zone-a", "node": "node-1", "pod": "system/server-" + address[strings.LastIndex(address, ".")+1:strings.Index(address, ":")],
		"state": state, "since": ago(26 * time.Hour), "inFlight": 3, "requests": 412, "latency": object{"p50": p50, "p99": p99}, "errorRate": errors,
	}
	if state != "Healthy" {
		e["since"] = ago(3 * time.Minute)
		e["lastError"] = object{"message": "dial tcp " + address + ": connect: connection refused", "time": ago(20 * time.Second)}
	}
	return e
}

func certificate(subject string, days int) object {
	return object{
		"subject": "CN=" + subject, "issuer": "CN=annex-ca", "names": []string{subject}, "daysLeft": days,
		"notBefore": ago(24 * time.Hour), "notAfter": time.Now().Add(time.Duration(days) * 24 * time.Hour).UTC().Format(time.RFC3339), "keyID": "aa" + strconv.Itoa(days),
	}
}

// healthy is the status of an APIService with which nothing is wrong.
func healthy(service, p50, p99 string, addresses ...string) object {
	endpoints := []object{}
	for _, a := range addresses {
		endpoints = append(endpoints, endpoint(a, "Healthy", p50, p99, "0%"))
	}
	n := strconv.Itoa(len(addresses))
	return object{
		"service": service, "state": "Healthy", "since": ago(26 * time.Hour), "server": "control-1:6443",
		"views":           []object{{"server": "control-1:6443", "available": "True", "since": ago(26 * time.Hour)}},
		"endpointSummary": n + "/" + n, "endpoints": endpoints, "latency": object{"p50": p50, "p99": p99}, "errorRate": "0%",
		"limits":    object{"maxInFlight": 400, "inFlight": 3 * len(addresses), "queued": 0},
		"discovery": object{"freshness": "Current", "fetched": ago(40 * time.Second), "bytes": 2311, "resources": 4},
		"openAPIV2": object{"freshness": "Current", "fetched": ago(50 * time.Second), "bytes": 48210},
		"openAPIV3": object{"freshness": "Current", "fetched": ago(50 * time.Second), "bytes": 31744},
		"watchList": "Works",
		"certificates": object{
			"serving": certificate(strings.ReplaceAll(strings.Split(service, ":")[0], "/", ".")+".svc", 88), "caBundle": []object{certificate("annex-ca", 3200)},
			"frontProxy": certificate("front-proxy-client", 301),
		},
	}
}

// with is a status with some fields changed.
func with(status object, changed object) object {
	out := object{}
	for k, v := range status {
		out[k] = v
	}
	for k, v := range changed {
		out[k] = v
	}
	return out
}
