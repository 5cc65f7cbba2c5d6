package kubeapiserver_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

// collector takes spans as an OpenTelemetry collector does.
type collector struct {
	collectortrace.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans []*tracev1.Span
}

func (c *collector) Export(_ context.Context, r *collectortrace.ExportTraceServiceRequest) (*collectortrace.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range r.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			c.spans = append(c.spans, scope.GetSpans()...)
		}
	}
	return &collectortrace.ExportTraceServiceResponse{}, nil
}

// below describes the spans of a name, each with its attributes and what the one above it is
// called.
func (c *collector) below(name string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := map[string]string{}
	for _, s := range c.spans {
		names[string(s.GetSpanId())] = s.GetName()
	}
	var found []string
	for _, s := range c.spans {
		if s.GetName() != name {
			continue
		}
		line := "below " + names[string(s.GetParentSpanId())] + ":"
		for _, a := range s.GetAttributes() {
			line += fmt.Sprintf(" %s=%s%d", a.GetKey(), a.GetValue().GetStringValue(), a.GetValue().GetIntValue())
		}
		found = append(found, line)
	}
	return found
}

// A request that is sampled has spans of the endpoint's choice and of the attempt there, in
// the reference's own trace: above the span of its transport.
func TestTracesReachACollector(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, receiver := &collector{}, grpc.NewServer()
	collectortrace.RegisterTraceServiceServer(receiver, c)
	var serving sync.WaitGroup
	serving.Go(func() { _ = receiver.Serve(listener) }) // ends with Stop
	t.Cleanup(func() {
		receiver.Stop()
		serving.Wait()
	})
	config := filepath.Join(t.TempDir(), "tracing.yaml")
	content := "apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\nendpoint: " + listener.Addr().String() + "\nsamplingRatePerMillion: 1000000\n"
	if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	traced, err := server.Beside("--tracing-config-file=" + config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := traced.Stop(); err != nil {
			t.Error(err)
		}
	})
	v1 := gv("traces.annex", "v1")
	e := traced.Register(t, "traces", v1)
	if a := traced.Get(t, test.Admin, "/apis/"+v1.String()+"/things"); a.Code != 200 {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	apiService := "annex.apiservice=v1." + v1.Group
	test.Eventually(t, func() string {
		for name, want := range map[string][]string{
			"Wait for a place at the extension server": {apiService},
			"Choose an endpoint":                       {apiService, fmt.Sprintf(":%d", e.Port)},
			"Attempt at an endpoint":                   {apiService, "annex.attempt=1", "annex.attempt.kind=first", "http.response.status_code=200"},
			"HTTP GET":                                 {"below Attempt at an endpoint:"},
		} {
			if found := c.below(name); !anyHolds(found, want) {
				return fmt.Sprintf("no span %q with %q: %.2000q", name, want, found)
			}
		}
		return ""
	})
}

// anyHolds says whether one of the lines holds all of the words.
func anyHolds(lines, words []string) bool {
	for _, line := range lines {
		held := true
		for _, w := range words {
			held = held && strings.Contains(line, w)
		}
		if held {
			return true
		}
	}
	return false
}
