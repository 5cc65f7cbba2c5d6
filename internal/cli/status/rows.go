package status

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/internal/printable"
)

// maxCell bounds what one cell shows, in bytes.
const maxCell = 300

// column is one of a table.
type column struct {
	heading string
	text    func(r *v1alpha1.RemoteAPIService, now time.Time) string
	// wide shows it with -o wide only.
	wide bool
	// ages changes with nothing but the time.
	ages bool
	// least is to how many columns of the terminal it may be cut; zero means that it may not.
	least int
	// dropped is its place in the order in which columns are left out where there is no room; zero
	// means never.
	dropped int
}

// The columns, in the order in which kubectl shows them.
var (
	nameColumn      = column{heading: "NAME", text: func(r *v1alpha1.RemoteAPIService, _ time.Time) string { return r.Name }, least: 22}
	serviceColumn   = column{heading: "SERVICE", text: func(r *v1alpha1.RemoteAPIService, _ time.Time) string { return r.Status.Service }, least: 16, dropped: 7}
	stateColumn     = column{heading: "STATE", text: func(r *v1alpha1.RemoteAPIService, _ time.Time) string { return stateOf(r) }}
	reasonColumn    = column{heading: "REASON", text: func(r *v1alpha1.RemoteAPIService, _ time.Time) string { return r.Status.Reason }, least: 12, dropped: 10}
	endpointsColumn = column{heading: "ENDPOINTS", text: func(r *v1alpha1.RemoteAPIService, _ time.Time) string { return r.Status.EndpointSummary }, dropped: 8}
	sinceColumn     = column{heading: "SINCE", text: func(r *v1alpha1.RemoteAPIService, now time.Time) string { return age(r.Status.Since, now) }, ages: true, dropped: 9}
	ageColumn       = column{heading: "AGE", text: func(r *v1alpha1.RemoteAPIService, now time.Time) string { return age(r.CreationTimestamp, now) }, ages: true, dropped: 6}
	messageColumn   = column{heading: "MESSAGE", text: func(r *v1alpha1.RemoteAPIService, _ time.Time) string { return r.Status.Message }, wide: true, least: 20, dropped: 5}

	annexColumns = []column{
		nameColumn, serviceColumn, stateColumn, reasonColumn, endpointsColumn,
		{heading: "P99", wide: true, dropped: 4, text: func(r *v1alpha1.RemoteAPIService, _ time.Time) string {
			if r.Status.Latency == nil {
				return ""
			}
			return r.Status.Latency.P99
		}},
		{heading: "ERRORS", wide: true, dropped: 4, text: func(r *v1alpha1.RemoteAPIService, _ time.Time) string { return r.Status.ErrorRate }},
		{heading: "IN FLIGHT", wide: true, dropped: 3, text: func(r *v1alpha1.RemoteAPIService, _ time.Time) string {
			return strconv.FormatInt(r.Status.Limits.InFlight, 10)
		}},
		{heading: "DISCOVERY", wide: true, dropped: 2, text: func(r *v1alpha1.RemoteAPIService, _ time.Time) string {
			return string(r.Status.Discovery.Freshness)
		}},
		{heading: "WATCH LIST", wide: true, dropped: 1, text: func(r *v1alpha1.RemoteAPIService, _ time.Time) string { return r.Status.WatchList }},
		sinceColumn, messageColumn,
	}
	plainColumns = []column{nameColumn, serviceColumn, stateColumn, reasonColumn, endpointsColumn, sinceColumn, ageColumn, messageColumn}
)

// gone is the state of an APIService that a watch saw deleted.
const gone v1alpha1.State = "Deleted"

func stateOf(r *v1alpha1.RemoteAPIService) string {
	return cmp.Or(string(r.Status.State), string(v1alpha1.Unknown))
}

// age is how long ago something was, as kubectl writes it.
func age(t metav1.Time, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return duration.HumanDuration(max(now.Sub(t.Time), 0))
}

// none stands where there is nothing to show, so that each row has as many fields as there are headings.
const none = "-"

// cellsOf are the texts of a row.
func cellsOf(r *v1alpha1.RemoteAPIService, columns []column, now time.Time) []string {
	cells := make([]string, len(columns))
	for i, c := range columns {
		cells[i] = cmp.Or(printable.Line(c.text(r, now), maxCell), none)
	}
	return cells
}

// gravity orders states, the gravest first.
func gravity(s v1alpha1.State) int {
	switch s {
	case v1alpha1.Unavailable:
		return 0
	case v1alpha1.Degraded:
		return 2
	case v1alpha1.Healthy:
		return 3
	case gone:
		return 4
	}
	return 1
}

// inOrder sorts a copy: by name, or with the gravest before.
func inOrder(all []v1alpha1.RemoteAPIService, gravestFirst bool) []v1alpha1.RemoteAPIService {
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b v1alpha1.RemoteAPIService) int {
		if gravestFirst {
			if by := cmp.Compare(gravity(a.Status.State), gravity(b.Status.State)); by != 0 {
				return by
			}
		}
		return cmp.Compare(a.Name, b.Name)
	})
	return sorted
}

// wanted is whether the flags ask for an APIService.
func (o *Options) wanted(r *v1alpha1.RemoteAPIService) bool {
	if len(o.Names) > 0 && !slices.Contains(o.Names, r.Name) {
		return false
	}
	if len(o.States) == 0 {
		return true
	}
	state := strings.ToLower(stateOf(r))
	return slices.Contains(o.States, state) ||
		slices.Contains(o.States, unhealthy) && state != strings.ToLower(string(v1alpha1.Healthy))
}

// counted says how many there are of each state.
func counted(all []v1alpha1.RemoteAPIService) string {
	count := map[string]int{}
	for i := range all {
		count[stateOf(&all[i])]++
	}
	var parts []string
	for _, s := range []v1alpha1.State{v1alpha1.Unavailable, v1alpha1.Unknown, v1alpha1.Degraded, v1alpha1.Healthy} {
		if n := count[string(s)]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, strings.ToLower(string(s))))
		}
	}
	noun := "APIServices"
	if len(all) == 1 {
		noun = "APIService"
	}
	return fmt.Sprintf("%d %s: %s.", len(all), noun, strings.Join(parts, ", "))
}
