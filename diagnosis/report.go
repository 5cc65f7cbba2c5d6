package diagnosis

import (
	"cmp"
	"slices"
)

// Confidence says how sure a finding is.
type Confidence string

// How sure a finding is.
const (
	// Certain: the fault was seen.
	Certain Confidence = "Certain"
	// Likely: what was seen fits nothing else that is known.
	Likely Confidence = "Likely"
	// Possible: it would explain what was seen, as other things would.
	Possible Confidence = "Possible"
)

// Finding is a fault that was found. All text in it is bounded and printable.
type Finding struct {
	Code       Code       `json:"code"`
	Name       string     `json:"name"`
	Title      string     `json:"title"`
	Severity   Severity   `json:"severity"`
	Confidence Confidence `json:"confidence"`
	// Evidence is what was seen, in a sentence.
	Evidence string `json:"evidence"`
	// Remedy is what to do, with names filled in: first what looks, last what destroys.
	Remedy []Action `json:"remedy"`
	// See is the address of the fault's page.
	See string `json:"see"`
	// Because is the finding that explains this one; empty for a root.
	Because Code `json:"because,omitempty"`
}

// Blind is what a check could not see.
type Blind struct {
	// Check is what was to be checked.
	Check string `json:"check"`
	// What was not seen.
	What string `json:"what"`
	// Why it was not.
	Why string `json:"why"`
}

// Result is how a check went.
type Result string

// How a check went.
const (
	// Passed: nothing is wrong, as far as it was seen.
	Passed Result = "Passed"
	// Found: it found a fault.
	Found Result = "Found"
	// NotSeen: what it needs could not be seen.
	NotSeen Result = "NotSeen"
	// NotReached: a fatal fault lies before it on the request's way.
	NotReached Result = "NotReached"
)

// Step is a check that was, or was not, made.
type Step struct {
	// Stage is where on the request's way it lies.
	Stage Stage `json:"stage"`
	// Check is what was checked, as a sentence that holds where it passed.
	Check string `json:"check"`
	// Result is how it went.
	Result Result `json:"result"`
	// Codes are what it found.
	Codes []Code `json:"codes,omitempty"`
}

// Report is what is known of one APIService.
type Report struct {
	// APIService is its name.
	APIService string `json:"apiService"`
	// Local says that the API server itself answers for it: there is nothing to check.
	Local bool `json:"local,omitempty"`
	// Findings are what is wrong: the root of it first, worst first, then what follows from it.
	Findings []Finding `json:"findings"`
	// Unseen is what could not be checked.
	Unseen []Blind `json:"unseen,omitempty"`
	// Steps are all checks, in their order.
	Steps []Step `json:"steps"`
}

// Worst is the gravest severity found; empty if there are no findings.
func (r Report) Worst() Severity {
	worst := Severity("")
	for _, f := range r.Findings {
		if worst == "" || rank(f.Severity) < rank(worst) {
			worst = f.Severity
		}
	}
	return worst
}

// AtFault says that an error or a warning was found, and more than possible: what would explain what was
// seen, as other things would, is told, and fails nobody's job.
func (r Report) AtFault() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity != Info && f.Confidence != Possible })
}

// Has says whether a fault was found.
func (r Report) Has(code Code) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Code == code })
}

func rank(s Severity) int { return slices.Index([]Severity{Error, Warning, Info}, s) }

// arrange says which finding follows from which, and sorts them: roots first, what is sure before
// what is possible, the gravest before others, and what is only good to know last.
func arrange(findings []Finding) []Finding {
	t := faults()
	for _, root := range findings {
		if root.Confidence == Possible {
			continue
		}
		for i := range findings {
			if findings[i].Because == "" && slices.Contains(t.byCode[root.Code].Explains, findings[i].Code) {
				findings[i].Because = root.Code
			}
		}
	}
	// What would explain a failure is left out where something surer does, unless it would explain that.
	findings = slices.DeleteFunc(slices.Clone(findings), func(guess Finding) bool {
		return guess.Severity == Error && guess.Confidence == Possible && explained(findings, guess.Code)
	})
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(bit(a.Because != ""), bit(b.Because != "")),
			cmp.Compare(bit(a.Severity == Info), bit(b.Severity == Info)),
			cmp.Compare(bit(a.Confidence == Possible), bit(b.Confidence == Possible)),
			cmp.Compare(rank(a.Severity), rank(b.Severity)),
		)
	})
	return findings
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
