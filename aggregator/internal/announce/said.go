package announce

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"

	"github.com/annex-api/annex/aggregator/internal/pace"
)

// State is how an APIService fares: one of the words of aggregation.annex.dev.
type State string

// The states.
const (
	Unknown     State = "Unknown"
	Healthy     State = "Healthy"
	Degraded    State = "Degraded"
	Unavailable State = "Unavailable"
)

// is says a state in a sentence.
func (s State) is() string {
	switch s {
	case Healthy:
		return "is available"
	case Degraded:
		return "is available, and something is wrong"
	case Unavailable:
		return "is unavailable"
	}
	return "is in an unknown state"
}

// So many changes of one APIService are said at once, and as many again in each period; so
// many of all of them.
const (
	changesOfOne = 10
	changesOfAll = 1000
	changePeriod = 5 * time.Minute
)

// said is what was said last of each APIService.
type said struct {
	before func(View) State
	of     map[types.UID]*saidOfOne
	all    pace.Budget
}

type saidOfOne struct {
	state  State
	worse  time.Time // since when it is degraded, which was not said yet; zero if it is not
	budget pace.Budget
}

// degradedAfter is how long something has to be wrong before it is said: a replica may be
// left out for a second.
const degradedAfter = 15 * time.Second

// newSaid returns one that has said nothing. Before is the state that those are taken to
// have been in of which nothing was said.
func newSaid(before func(View) State) *said {
	return &said{before: before, of: map[types.UID]*saidOfOne{}, all: pace.NewBudget(changesOfAll, changePeriod)}
}

// unknownBefore is for who begins.
func unknownBefore(View) State { return Unknown }

// conditionBefore is for who goes on from a time on where another server has reported: what
// that saw last stands in the condition. A later condition is this server's own.
func conditionBefore(began time.Time) func(View) State {
	began = began.Truncate(time.Second) // as conditions are
	return func(v View) State {
		switch c := helper.GetAPIServiceConditionByType(v.Object, apiregistrationv1.Available); {
		case c == nil, !c.LastTransitionTime.Time.Before(began):
			return Unknown
		case c.Status == apiregistrationv1.ConditionTrue:
			return Healthy
		}
		return Unavailable
	}
}

// change is something to say.
type change struct {
	View
	before State
}

// changes takes note of the present states. It returns what is to be said of them, and how
// long until there is more; zero for never. An APIService that changes more often than its
// budget has it is told of later, as it is then.
func (s *said) changes(now time.Time, views []View) (changes []change, wait time.Duration) {
	alive := make(map[types.UID]bool, len(views))
	for _, v := range views {
		uid := v.Object.UID
		alive[uid] = true
		one := s.of[uid]
		if one == nil {
			one = &saidOfOne{state: s.before(v), budget: pace.NewBudget(changesOfOne, changePeriod)}
			s.of[uid] = one
		}
		if v.State != Degraded {
			one.worse = time.Time{}
		}
		switch {
		case v.State == one.state, v.State == Unknown: // nothing is known that would be worth a word
			continue
		case v.State == Healthy && one.state == Unknown: // as it should be
			one.state = Healthy
			continue
		case v.State == Degraded && one.state != Unavailable:
			if one.worse.IsZero() {
				one.worse = now
			}
			if left := degradedAfter - now.Sub(one.worse); left > 0 {
				wait = shorter(wait, left)
				continue
			}
		}
		if later := max(one.budget.Wait(now), s.all.Wait(now)); later > 0 {
			wait = shorter(wait, later)
			continue
		}
		one.budget.Spend(now, 1)
		s.all.Spend(now, 1)
		changes = append(changes, change{v, one.state})
		one.state = v.State
	}
	for uid := range s.of {
		if !alive[uid] {
			delete(s.of, uid)
		}
	}
	return changes, wait
}
