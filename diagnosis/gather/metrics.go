package gather

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/diagnosis"
)

const (
	// maxMetrics bounds what is read of an API server's metrics, in bytes, and maxSample the line
	// of one.
	maxMetrics, maxSample = 64 << 20, 64 << 10
	// maxSeries is how many values of each metric are kept.
	maxSeries = 10_000
)

// metrics is what the API server that answers counts of APIServices.
type metrics struct {
	// unavailable is 1 for what it holds for unavailable, by name.
	unavailable map[string]float64
	// outages count by name and reason.
	outages map[string]map[string]int64
	started time.Time
}

// readMetrics reads the few lines that are wanted of the many that there are.
func (c *cluster) readMetrics(ctx context.Context) diagnosis.Known[metrics] {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r := request{path: "/metrics", accept: "text/plain"}
	response, _, err := c.open(ctx, r)
	if err != nil {
		return diagnosis.Unseen[metrics](err)
	}
	defer response.Body.Close()
	if response.StatusCode != 200 {
		body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
		if err == nil {
			err = refusal(r.path, reply{code: response.StatusCode, body: body})
		}
		return diagnosis.Unseen[metrics](err)
	}
	m, err := parseMetrics(io.LimitReader(response.Body, maxMetrics))
	if err != nil {
		return diagnosis.Unseen[metrics](c.failed(ctx, r, err))
	}
	return diagnosis.Saw(m)
}

// sample is a line of the text format: a name, labels, and a value.
var sample = regexp.MustCompile(`^([a-z_]+)(?:\{([^}]*)\})? ([0-9.eE+-]+)`)

// label is one of a sample; values that are escaped are none of an APIService.
var label = regexp.MustCompile(`([a-z_]+)="([^"\\]*)"`)

func parseMetrics(r io.Reader) (metrics, error) {
	m := metrics{unavailable: map[string]float64{}, outages: map[string]map[string]int64{}}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxSample)
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, "aggregator_unavailable_apiservice") && !strings.HasPrefix(line, "process_start_time_seconds") {
			continue
		}
		match := sample.FindStringSubmatch(line)
		if match == nil {
			continue
		}
		value, err := strconv.ParseFloat(match[3], 64)
		if err != nil {
			continue
		}
		labels := map[string]string{}
		for _, l := range label.FindAllStringSubmatch(match[2], -1) {
			labels[l[1]] = l[2]
		}
		name := labels["name"]
		switch {
		case match[1] == "process_start_time_seconds":
			m.started = time.Unix(0, 0).Add(since(value))
		case match[1] == "aggregator_unavailable_apiservice" && len(m.unavailable) < maxSeries:
			m.unavailable[name] = value
		case match[1] == "aggregator_unavailable_apiservice_total" && len(m.outages) < maxSeries:
			if m.outages[name] == nil {
				m.outages[name] = map[string]int64{}
			}
			m.outages[name][labels["reason"]] += int64(value)
		}
	}
	if err := lines.Err(); err != nil {
		return metrics{}, fmt.Errorf("read metrics: %w", err)
	}
	return m, nil
}

// counted are the API servers whose metrics were read, the one that was asked first. The error says
// why there are none.
func (g *gathering) counted() ([]server, error) {
	if err := g.metrics.Why(); err != nil {
		return nil, err
	}
	counted := []server{{g.facts.Cluster.Server, g.metrics}}
	for _, s := range g.servers {
		if s.metrics.Seen {
			counted = append(counted, s)
		}
	}
	return counted, nil
}

// views are what API servers hold of an APIService: Annex tells of all, the metric of those that
// were asked.
func (g *gathering) views(name string, remote *v1alpha1.RemoteAPIService) diagnosis.Known[[]v1alpha1.View] {
	if remote != nil {
		return diagnosis.Saw(remote.Status.Views)
	}
	counted, err := g.counted()
	if err != nil {
		return diagnosis.Unseen[[]v1alpha1.View](err)
	}
	var views []v1alpha1.View
	for _, s := range counted {
		value, has := s.metrics.Value.unavailable[name]
		if !has {
			continue
		}
		view := v1alpha1.View{Server: s.address, Available: metav1.ConditionTrue}
		if value != 0 {
			view.Available = metav1.ConditionFalse
		}
		views = append(views, view)
	}
	if len(views) == 0 {
		return diagnosis.Unseen[[]v1alpha1.View](unsupported("the API server has no metric of it"))
	}
	return diagnosis.Saw(views)
}

// outages are how often an API server saw it become unavailable: the one that saw most.
func (g *gathering) outages(name string) diagnosis.Known[diagnosis.Outages] {
	counted, err := g.counted()
	if err != nil {
		return diagnosis.Unseen[diagnosis.Outages](err)
	}
	var worst diagnosis.Outages
	most := int64(-1)
	for _, s := range counted {
		o, total := diagnosis.Outages{ByReason: s.metrics.Value.outages[name]}, int64(0)
		for _, n := range o.ByReason {
			total += n
		}
		if started := s.metrics.Value.started; !started.IsZero() {
			// By the clock of the API server, which said when.
			o.Over = max(0, g.facts.Now.Add(g.facts.Cluster.ClockSkew.Value).Sub(started))
		}
		if total > most {
			worst, most = o, total
		}
	}
	return diagnosis.Saw(worst)
}
