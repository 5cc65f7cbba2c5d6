package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/annex-api/annex/internal/testcerts"
)

// patience bounds the wait for anything here.
const patience = 90 * time.Second

// prom is a running Prometheus.
type prom struct {
	url string
	log *bytes.Buffer // read after its end
}

// startPrometheus runs one until the test ends. It scrapes the servers and evaluates the
// rules each second.
func startPrometheus(t *testing.T, rules []byte, servers ...*apiServer) *prom {
	t.Helper()
	dir := t.TempDir()
	var targets []string
	for _, s := range servers {
		targets = append(targets, s.target())
	}
	config := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [rules.yaml]\nscrape_configs:\n"+
		"  - job_name: apiserver\n    static_configs:\n      - targets: [%s]\n", strings.Join(targets, ", "))
	for name, content := range map[string][]byte{"rules.yaml": rules, "prometheus.yaml": []byte(config)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close() // Prometheus takes no listener
	ctx, cancel := context.WithCancel(context.Background())
	command := exec.CommandContext(ctx, tool(t, "prometheus"),
		"--config.file="+filepath.Join(dir, "prometheus.yaml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	p := &prom{url: "http://" + address, log: &bytes.Buffer{}}
	command.Stdout, command.Stderr = p.log, p.log
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 10 * time.Second
	if err := command.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = command.Wait() // interrupted
		if t.Failed() {
			t.Logf("Prometheus said:\n%s", p.log)
		}
	})
	await(t, func() string {
		response, err := http.Get(p.url + "/-/ready")
		if err != nil {
			return err.Error()
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return response.Status
		}
		return ""
	})
	return p
}

// await waits until nothing is wrong any more.
func await(t *testing.T, wrong func() string) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		said := wrong()
		if said == "" {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after %v still: %s", patience, said)
		}
	}
}

// sample is one of the answer to a query.
type sample struct {
	Metric map[string]string `json:"metric"`
	Value  [2]any            `json:"value"`
}

func (p *prom) query(expr string) ([]sample, error) {
	response, err := http.Get(p.url + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, 8<<20))
	if err != nil {
		return nil, err
	}
	var answer struct {
		Status, Error string
		Data          struct {
			Result []sample `json:"result"`
		}
	}
	if err := json.Unmarshal(content, &answer); err != nil {
		return nil, fmt.Errorf("%w: %.200s", err, content)
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("%s: %s", answer.Status, answer.Error)
	}
	return answer.Data.Result, nil
}

// firing lists the alerts that fire, each as its name and what it is about.
func (p *prom) firing() ([]string, error) {
	samples, err := p.query(`ALERTS{alertstate="firing"}`)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, s := range samples {
		about := s.Metric["name"] + s.Metric["service"]
		if about == "" {
			about = s.Metric["instance"]
		}
		all = append(all, s.Metric["alertname"]+" "+about)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// TestAlertsFire runs a Prometheus over three API servers and extension servers, each of which
// has a fault, until every alert has fired for the one that it is for, and none for the one
// that is well. Times after which alerts fire are left out. Those that tell of a quarter of an
// hour are tested by promtool alone.
func TestAlertsFire(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs a Prometheus until all alerts have fired")
	}
	tool(t, "prometheus")
	hangs := func(_ http.ResponseWriter, r *http.Request, _ int) { <-r.Context().Done() }
	well := &extension{name: "well", verified: true, expires: 12 * time.Hour} // it lives for less than 14 days, as some do
	dead := &extension{name: "dead", dead: 1}
	cutOff := &extension{name: "cutoff"}
	flaps := &extension{name: "flaps"}
	halfDead := &extension{name: "halfdead", dead: 1}
	full := &extension{name: "full", things: hangs, settings: map[string]string{"aggregation.annex.dev/max-in-flight": "1"}}
	fails := &extension{name: "fails", things: func(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(http.StatusInternalServerError) }}
	slow := &extension{name: "slow", things: func(w http.ResponseWriter, r *http.Request, _ int) {
		if r.URL.Query().Get("watch") == "" {
			wait(r.Context(), 3*time.Second)
		}
	}}
	aborts := &extension{name: "aborts", things: func(w http.ResponseWriter, _ *http.Request, replica int) {
		if replica == 0 {
			panic(http.ErrAbortHandler)
		}
	}}
	noBookmark := &extension{name: "nobookmark", things: func(w http.ResponseWriter, r *http.Request, _ int) {
		if r.URL.Query().Get("watch") == "" {
			_, _ = io.WriteString(w, "{}")
		} // else the watch ends without its bookmark
	}}
	broken := &extension{name: "broken", broken: true}
	expires := &extension{name: "expires", verified: true, old: true, expires: 12 * time.Hour}
	all := []*extension{well, dead, cutOff, flaps, halfDead, full, fails, slow, aborts, noBookmark, broken, expires}
	for _, e := range all {
		replicas := 1
		switch e {
		case dead:
			replicas = 0
		case aborts:
			replicas = 2
		}
		e.start(t, replicas)
	}
	proxy := testcerts.New("front-proxy").Issue(testcerts.Subject{
		Name: "front-proxy-client", NotBefore: time.Now().Add(-7 * 24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	})
	one := startAPIServer(t, state(all), nil)
	two := startAPIServer(t, state(all), nil, cutOff.addresses...)
	three := startAPIServer(t, state([]*extension{expires}), &proxy) // all that it serves is degraded
	p := startPrometheus(t, impatient(t), one, two, three)

	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	defer clients.Wait()
	defer stop()
	every := func(e *extension, at time.Duration) {
		clients.Go(func() {
			for wait(ctx, at) {
				one.get(ctx, e)
			}
		})
	}
	every(well, 100*time.Millisecond)
	every(fails, 100*time.Millisecond)
	every(dead, 100*time.Millisecond)
	for range 4 {
		every(slow, 0)
		every(full, 0)
	}
	clients.Go(func() { // the endpoint that fails is back by then
		for wait(ctx, 5*time.Second) {
			var burst sync.WaitGroup
			for range 20 {
				burst.Go(func() { one.get(ctx, aborts) })
			}
			burst.Wait()
		}
	})
	clients.Go(func() {
		for gone := true; wait(ctx, 1500*time.Millisecond); gone = !gone {
			if gone {
				one.source.Set(state(all, flaps))
			} else {
				one.source.Set(state(all))
			}
		}
	})

	want := map[string]string{
		"AnnexAPIServiceUnavailable":        dead.apiService(),
		"AnnexAPIServersDisagree":           cutOff.apiService(),
		"AnnexAPIServiceFlaps":              flaps.apiService(),
		"AnnexAPIServiceDegraded":           halfDead.apiService(),
		"AnnexEndpointLeftOut":              halfDead.service(),
		"AnnexNoEndpointReached":            cutOff.service(),
		"AnnexRequestsWait":                 full.service(),
		"AnnexNearLimit":                    full.service(),
		"AnnexClientsTurnedAway":            full.apiService(),
		"AnnexRequestsFail":                 fails.apiService(),
		"AnnexRequestsSlow":                 slow.apiService(),
		"AnnexManyRetries":                  aborts.apiService(),
		"AnnexWatchListMissing":             noBookmark.apiService(),
		"AnnexDownloadsFail":                broken.service(),
		"AnnexCertificateExpires":           expires.apiService(),
		"AnnexFrontProxyCertificateExpires": three.target(),
	}
	promtoolAlone := []string{"AnnexDiscoveryStale"}
	for _, name := range names(alerts(t)) {
		if want[name] == "" && !slices.Contains(promtoolAlone, name) {
			t.Errorf("no fault is made for %s", name)
		}
	}
	fired := map[string]bool{}
	await(t, func() string {
		firing, err := p.firing()
		if err != nil {
			return err.Error()
		}
		for _, f := range firing {
			fired[f] = true
		}
		var missing []string
		for name, about := range want {
			if !fired[name+" "+about] {
				missing = append(missing, name+" "+about)
			}
		}
		if len(missing) > 0 {
			slices.Sort(missing)
			return fmt.Sprintf("not fired: %q, of all: %q", missing, firing)
		}
		return ""
	})
	for f := range fired {
		if strings.HasSuffix(f, " "+well.apiService()) || strings.HasSuffix(f, " "+well.service()) {
			t.Errorf("of an extension server that is well: %s", f)
		}
	}
	await(t, func() string { // faults lead to their pages
		samples, err := p.query(`annex_aggregation_fault{reason="ServingCertificateExpiring",code="ANX406"}`)
		if err == nil && len(samples) == 3 {
			return ""
		}
		return fmt.Sprintf("%d series have the code of a certificate that expires: %v", len(samples), err)
	})
	for _, q := range queries(t) {
		await(t, func() string {
			samples, err := p.query(q)
			if err == nil && len(samples) > 0 {
				return ""
			}
			return fmt.Sprintf("the dashboard's %s: %d series, %v", q, len(samples), err)
		})
	}
}

// wait waits for a while, and says whether it was not ended before.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
