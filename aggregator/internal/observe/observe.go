// Package observe says how remote APIServices fare, in the shape of
// aggregation.annex.dev/v1alpha1. It is pure: values and the time go in.
//
// What extension servers and EndpointSlices say ends up in what operators read. So every
// text of theirs is bounded here, and printable.
package observe

import (
	"fmt"
	"maps"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/backend/stats"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/internal/printable"
)

// Bounds of texts, in bytes.
const (
	maxMessage   = 1000
	maxLastError = 500
	maxName      = 300
)

// Subject is all that is known of one remote APIService.
type Subject struct {
	*catalog.APIService
	// Endpoints are those of its extension server.
	Endpoints    []balance.Traffic
	Load         Load
	Downloads    Downloads
	Certificates Certificates
	// Dissent is what other API servers see, where that is known and differs.
	Dissent []View
}

// Load is what an extension server has to do.
type Load struct{ Max, InFlight, Queued int }

// Download is how the downloads of a document went; see fetch.Download.
type Download struct {
	Fetched     time.Time
	Problem     string
	Unmergeable bool
	Bytes       int
}

// Downloads are those of an APIService's documents.
type Downloads struct{ Discovery, OpenAPIV2, OpenAPIV3 Download }

// View is what another API server holds of an APIService.
type View struct {
	Server string
	Status catalog.Status
	Reason string
}

// RemoteAPIService is what a server with that name sees of a subject, which Assess has
// judged, and which stands so as its Standing says.
func RemoteAPIService(now time.Time, server string, s *Subject, a Assessment, standing Standing) v1alpha1.RemoteAPIService {
	o := v1alpha1.RemoteAPIService{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "RemoteAPIService"},
		ObjectMeta: metav1.ObjectMeta{Name: s.Name},
		Status: v1alpha1.RemoteAPIServiceStatus{
			Group: s.Group, Version: s.Version, Service: printable.Line(s.Service.String(), maxName),
			State: a.State, Reason: a.Reason, Message: a.Message, Since: timeOf(standing.State.Since), Faults: a.Faults,
			Server: server, Views: views(server, s, standing),
			Limits: v1alpha1.Limits{MaxInFlight: int64(s.Load.Max), InFlight: int64(s.Load.InFlight), Queued: int64(s.Load.Queued)},
			Discovery: v1alpha1.Discovery{
				Document: document(s.Downloads.Discovery, s.Document.Discovery != nil, s.Document.Stale, s.Document.Problem),
				Warning:  printable.Line(s.Document.Warning, maxMessage),
			},
			OpenAPIV2:    openAPI(s.Downloads.OpenAPIV2),
			OpenAPIV3:    openAPI(s.Downloads.OpenAPIV3),
			WatchList:    watchList(s.WatchList),
			Certificates: s.Certificates.at(now),
		},
	}
	if s.Object != nil {
		o.UID, o.CreationTimestamp, o.Labels = s.Object.UID, s.Object.CreationTimestamp, maps.Clone(s.Object.Labels)
	}
	if d := s.Document.Discovery; d != nil {
		o.Status.Discovery.Resources = int64(len(d.Resources))
	}
	setEndpoints(&o.Status, s)
	return o
}

// views begins with this server's own.
func views(server string, s *Subject, standing Standing) []v1alpha1.View {
	own := v1alpha1.View{
		Server: server, Available: status(s.Verdict.Status), Reason: printable.Line(s.Verdict.Reason, maxName), Since: timeOf(standing.Verdict.Since),
	}
	all := []v1alpha1.View{own}
	for _, d := range s.Dissent {
		all = append(all, v1alpha1.View{Server: printable.Line(d.Server, maxName), Available: status(d.Status), Reason: printable.Line(d.Reason, maxName)})
	}
	return all
}

func status(s catalog.Status) metav1.ConditionStatus {
	if s == "" {
		return metav1.ConditionUnknown
	}
	return metav1.ConditionStatus(s)
}

// setEndpoints fills in what is known of the endpoints, by one and together.
func setEndpoints(o *v1alpha1.RemoteAPIServiceStatus, s *Subject) {
	at := map[string]catalog.Endpoint{}
	for _, e := range s.Target.Endpoints {
		at[e.Address] = e
	}
	healthy, all := 0, 0
	sum := &stats.Recent{}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if !e.Fallback {
			all++
			if e.State == balance.Healthy {
				healthy++
			}
		}
		sum.Add(e.Recent)
		o.Endpoints = append(o.Endpoints, endpoint(e, at[e.Address]))
	}
	if !s.Target.Resolver { // else nobody knows how many there are
		o.EndpointSummary = fmt.Sprintf("%d/%d", healthy, all)
	}
	o.Latency, o.ErrorRate = latency(sum), errorRate(sum)
}

var endpointStates = map[balance.State]v1alpha1.EndpointState{
	balance.Healthy:     v1alpha1.EndpointHealthy,
	balance.Ejected:     v1alpha1.EndpointEjected,
	balance.Draining:    v1alpha1.EndpointDraining,
	balance.Unreachable: v1alpha1.EndpointUnreachable,
}

func endpoint(e *balance.Traffic, at catalog.Endpoint) v1alpha1.Endpoint {
	o := v1alpha1.Endpoint{
		Address: printable.Line(e.Address, maxName), Kind: "endpoint",
		Zone: printable.Line(at.Zone, maxName), Node: printable.Line(at.Node, maxName), Pod: printable.Line(at.Pod, maxName),
		State: endpointStates[e.State], Since: timeOf(e.Since), InFlight: int64(e.InFlight),
	}
	if e.Fallback {
		o.Kind = "clusterIP"
	}
	if e.Recent != nil {
		o.Requests, o.Latency, o.ErrorRate = int64(e.Recent.Requests), latency(e.Recent), errorRate(e.Recent)
	}
	if e.LastError.Message != "" {
		o.LastError = &v1alpha1.LastError{Message: printable.Line(e.LastError.Message, maxLastError), Time: timeOf(e.LastError.Time)}
	}
	return o
}

func latency(r *stats.Recent) *v1alpha1.Latency {
	p99 := r.Quantile(0.99)
	if p99 == 0 {
		return nil
	}
	return &v1alpha1.Latency{P50: twoFigures(r.Quantile(0.5)), P99: twoFigures(p99)}
}

// errorRate has two figures that count.
func errorRate(r *stats.Recent) string {
	if r.Requests == 0 {
		return ""
	}
	rate := 100 * float64(r.Failed) / float64(r.Requests)
	digits := 2
	if rate >= 99.5 {
		digits = 3
	}
	return strconv.FormatFloat(rate, 'g', digits, 64) + "%"
}

// openAPI says of a document whose download is all that tells.
func openAPI(d Download) v1alpha1.Document {
	return document(d, d.Bytes > 0, d.Problem != "", d.Problem)
}

func document(d Download, known, stale bool, problem string) v1alpha1.Document {
	o := v1alpha1.Document{
		Freshness: v1alpha1.NeverFetched, Fetched: timeOf(d.Fetched), Bytes: int64(d.Bytes), Problem: printable.Line(problem, maxMessage),
	}
	switch {
	case known && stale:
		o.Freshness = v1alpha1.Stale
	case known:
		o.Freshness = v1alpha1.Current
	}
	return o
}

func watchList(s catalog.WatchListSupport) string {
	if s == catalog.WatchListUnknown {
		return "Unknown"
	}
	return string(s)
}

func timeOf(t time.Time) metav1.Time {
	if t.IsZero() {
		return metav1.Time{}
	}
	return metav1.NewTime(t.Truncate(time.Second))
}
