package handlerchain

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-logr/logr"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/component-base/metrics/legacyregistry"
)

// observation is all that can be told of a sequence of requests.
type observation struct {
	Answers []answer
	Seen    []seen
	Audit   []string
	Metrics map[string]float64
	Spans   []string
	Log     []string
	// Waits are for how long priority and fairness may queue each request.
	Waits []string
	// Uncounted is true where the end of a late handler was not counted.
	Uncounted bool
}

// timed are families whose samples come with time, not with requests.
var timed = []string{
	"go_", "process_", "workqueue_", "rest_client_", "apiserver_flowcontrol_read_vs_write_current_requests",
	"apiserver_flowcontrol_priority_level_request_utilization", "apiserver_flowcontrol_priority_level_seat_utilization",
	"apiserver_flowcontrol_demand_seats", "hidden_metrics_total", "registered_metrics_total", "disabled_metrics_total",
}

// levels are gauges that must be again as they were.
var levels = []string{
	"apiserver_flowcontrol_current_executing_requests", "apiserver_flowcontrol_current_executing_seats",
	"apiserver_flowcontrol_current_inqueue_requests", "apiserver_flowcontrol_current_inqueue_seats",
}

// gather reads all counters, and how often each histogram was added to.
func gather(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		t.Fatalf("gathering metrics: %v", err)
	}
	values := map[string]float64{}
	for _, f := range families {
		name := f.GetName()
		if slices.ContainsFunc(timed, func(p string) bool { return strings.HasPrefix(name, p) }) {
			continue
		}
		for _, m := range f.GetMetric() {
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				values[series(name, m)] = m.GetCounter().GetValue()
			case dto.MetricType_HISTOGRAM:
				values[series(name, m)] = float64(m.GetHistogram().GetSampleCount())
			case dto.MetricType_SUMMARY:
				values[series(name, m)] = float64(m.GetSummary().GetSampleCount())
			case dto.MetricType_GAUGE:
				if slices.Contains(levels, name) {
					values[series(name, m)] = m.GetGauge().GetValue()
				}
			}
		}
	}
	return values
}

func series(name string, m *dto.Metric) string {
	var labels []string
	for _, l := range m.GetLabel() {
		labels = append(labels, l.GetName()+"="+l.GetValue())
	}
	sort.Strings(labels)
	return name + "{" + strings.Join(labels, ",") + "}"
}

func delta(before, after map[string]float64) map[string]float64 {
	d := map[string]float64{}
	for k, v := range after {
		if v != before[k] {
			d[k] = v - before[k]
		}
	}
	return d
}

var (
	generatedID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)
	loopback    = regexp.MustCompile(`127\.0\.0\.1:\d+`)
	stack       = regexp.MustCompile(`(?s)(\\n|\n)goroutine \d+ \[.*`)
)

// same replaces what differs from one request to the next.
func same(s string) string {
	s = generatedID.ReplaceAllString(s, "generated")
	s = loopback.ReplaceAllString(s, "127.0.0.1:port")
	return stack.ReplaceAllString(s, " (stack)")
}

// same is the answer without what differs from one request to the next.
func (a answer) same() answer {
	a.Header, a.Trailer, a.Body = sameHeader(a.Header), sameHeader(a.Trailer), same(a.Body)
	if a.Header.Get("Retry-After") != "" && strings.HasPrefix(a.Body, "Too many requests") {
		// It grows with what was refused in the seconds before.
		a.Header.Set("Retry-After", "some seconds")
	}
	return a
}

func sameHeader(h http.Header) http.Header {
	if h == nil {
		return nil
	}
	out := http.Header{}
	for k, values := range h {
		if k == "Date" {
			values = []string{"now"}
		}
		for _, v := range values {
			out[k] = append(out[k], same(v))
		}
	}
	return out
}

// auditLine is an event without what differs from one request to the next.
// Where the time went is told of requests of more than half a second, which on
// a busy machine any may be: it is left out but for those that are meant to.
func auditLine(t *testing.T, e *audit.Event, long bool) string {
	t.Helper()
	if e.RequestReceivedTimestamp.IsZero() || e.StageTimestamp.IsZero() || e.StageTimestamp.Before(&e.RequestReceivedTimestamp) {
		t.Errorf("an audit event has the times %v and %v", e.RequestReceivedTimestamp, e.StageTimestamp)
	}
	e = e.DeepCopy()
	e.RequestReceivedTimestamp.Reset()
	e.StageTimestamp.Reset()
	for k := range e.Annotations {
		switch {
		case !strings.HasPrefix(k, "apiserver.latency.k8s.io/"):
		case long:
			e.Annotations[k] = "some time"
		default:
			delete(e.Annotations, k)
		}
	}
	if len(e.Annotations) == 0 {
		e.Annotations = nil
	}
	if e.ResponseStatus != nil {
		e.ResponseStatus.Message = same(e.ResponseStatus.Message)
	}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return same(string(b))
}

// spanLine describes a span by its name, what is above it and what it says.
func spanLine(s tracetest.SpanStub, all map[string]string) string {
	var attributes, events, links []string
	for _, a := range s.Attributes {
		value := a.Value.String()
		if strings.HasSuffix(string(a.Key), ".port") {
			value = "port"
		}
		attributes = append(attributes, string(a.Key)+"="+same(value))
	}
	sort.Strings(attributes)
	for _, e := range s.Events {
		events = append(events, e.Name)
	}
	for _, l := range s.Links {
		links = append(links, l.SpanContext.TraceID().String())
	}
	parent := "nothing"
	if s.Parent.SpanID().IsValid() {
		parent = "the client's"
		if name, ok := all[s.Parent.SpanID().String()]; ok {
			parent = name
		}
	}
	return fmt.Sprintf("%s below %s (%s, %s, %v) %v events %v links %v",
		s.Name, parent, s.SpanKind, s.InstrumentationScope.Name, s.Status, attributes, events, links)
}

func (w *world) spanLines() []string {
	stubs := w.spans.GetSpans()
	names := map[string]string{}
	for _, s := range stubs {
		names[s.SpanContext.SpanID().String()] = s.Name
	}
	var lines []string
	for _, s := range stubs {
		lines = append(lines, spanLine(s, names))
	}
	sort.Strings(lines)
	return lines
}

// logged keeps the lines that a chain logs about whole requests.
type logged struct {
	mu    sync.Mutex
	lines []string
	late  atomic.Int64 // handlers that ended after their request
}

var accessLog logged

func (l *logged) Init(logr.RuntimeInfo)          {}
func (l *logged) Enabled(int) bool               { return true }
func (l *logged) WithValues(...any) logr.LogSink { return l }
func (l *logged) WithName(string) logr.LogSink   { return l }

// Error implements logr.LogSink: of a panic that nobody sees.
func (l *logged) Error(_ error, message string, keysAndValues ...any) {
	i := slices.Index(keysAndValues, any("result"))
	if message != "Post-timeout activity" || i < 0 {
		return
	}
	defer l.late.Add(1)
	if keysAndValues[i+1] == nil {
		return
	}
	what, stack, _ := strings.Cut(fmt.Sprint(keysAndValues[i+1]), "\n")
	line := "panic: " + what
	if strings.Contains(stack, "handlerchain.(*inner).step") {
		line += " with its stack"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

// Info implements logr.LogSink.
func (l *logged) Info(_ int, message string, keysAndValues ...any) {
	if message != "HTTP" {
		return
	}
	var parts []string
	for i := 0; i+1 < len(keysAndValues); i += 2 {
		key, value := fmt.Sprint(keysAndValues[i]), same(fmt.Sprint(keysAndValues[i+1]))
		switch {
		case strings.HasPrefix(key, "fl_"): // only of filters that took long
			continue
		case key == "latency", strings.HasSuffix(key, "_time"):
			value = "some time"
		case key == "statusStack", key == "addedInfo":
			value = "given"
		}
		parts = append(parts, key+"="+value)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, strings.Join(parts, " "))
}

func (l *logged) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = nil
	l.late.Store(0)
}

func (l *logged) sorted() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(slices.Values(l.lines))
}
