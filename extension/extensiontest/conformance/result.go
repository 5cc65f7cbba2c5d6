package conformance

import (
	"encoding/json"
	"time"
)

// Outcome is what became of a check.
type Outcome int

const (
	// NotApplicable checks could not be made; Result.Reason says why.
	NotApplicable Outcome = iota
	// Passed checks saw their promise kept.
	Passed
	// Failed checks saw it broken.
	Failed
)

// String is the word of the reports.
func (o Outcome) String() string {
	switch o {
	case Passed:
		return "passed"
	case Failed:
		return "failed"
	}
	return "not applicable"
}

// MarshalJSON writes the word.
func (o Outcome) MarshalJSON() ([]byte, error) { return json.Marshal(o.String()) }

// Failure is one way in which a promise was broken.
type Failure struct {
	// Message says what came and what was expected.
	Message string `json:"message"`
	// Exchange is where it was seen; nil where it was not one exchange.
	Exchange *Exchange `json:"exchange,omitempty"`
}

// Result is what became of one check.
type Result struct {
	Check    Check
	Outcome  Outcome
	Reason   string // why it is not applicable
	Unmet    Need   // the need for which it is not; empty where the check itself found out
	Failures []Failure
	Took     time.Duration
}

// MarshalJSON leaves out what is no data.
func (r Result) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		ID       string    `json:"id"`
		Outcome  Outcome   `json:"outcome"`
		Reason   string    `json:"reason,omitempty"`
		Promise  string    `json:"promise"`
		Source   string    `json:"source"`
		Faults   []int     `json:"faults,omitempty"`
		Failures []Failure `json:"failures,omitempty"`
		Seconds  float64   `json:"seconds"`
	}{r.Check.ID, r.Outcome, r.Reason, r.Check.Promise, r.Check.Source, r.Check.Faults, r.Failures, r.Took.Seconds()})
}

// Summary is what became of a run.
type Summary struct {
	// Err is why the run could not begin, or not end; nil where every check had its outcome.
	Err     error
	Results []Result
	// Left are things that the kit made and could not remove.
	Left []string
	Took time.Duration
}

// Count is how many checks had an outcome.
func (s Summary) Count(o Outcome) int {
	n := 0
	for _, r := range s.Results {
		if r.Outcome == o {
			n++
		}
	}
	return n
}

// Failed are the results of the checks that failed.
func (s Summary) Failed() []Result {
	var failed []Result
	for _, r := range s.Results {
		if r.Outcome == Failed {
			failed = append(failed, r)
		}
	}
	return failed
}

// Reporter is told how a run goes. Its methods are called one after another.
type Reporter interface {
	// Planned comes first, before anything is created.
	Planned(Plan)
	// Checked comes once for each check.
	Checked(Result)
	// Finished comes last, after all has been removed.
	Finished(Summary)
}

// Plan is what a run creates and changes. All of it is removed, or set back, at its end.
type Plan struct {
	// Target is what is checked, in words.
	Target string `json:"target"`
	// Creates are the things that are created, Changes those of others that are changed.
	Creates []string `json:"creates"`
	Changes []string `json:"changes,omitempty"`
	// Checks are the IDs of the checks that run.
	Checks []string `json:"checks"`
}
