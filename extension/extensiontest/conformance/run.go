package conformance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// Run checks the target and removes what it made, also when ctx ends early. Reporter may be nil.
func Run(ctx context.Context, target Target, reporter Reporter) Summary {
	begin := time.Now()
	if reporter == nil {
		reporter = silent{}
	}
	summary := run(ctx, target, reporter)
	summary.Took = time.Since(begin)
	reporter.Finished(summary)
	return summary
}

// silent reports nothing.
type silent struct{}

func (silent) Planned(Plan)     {}
func (silent) Checked(Result)   {}
func (silent) Finished(Summary) {}

// PlanOf says what Run would create. It reads, and changes nothing.
func PlanOf(ctx context.Context, target Target) (Plan, error) {
	r, err := prepare(ctx, target)
	if err != nil {
		return Plan{}, err
	}
	defer r.close()
	return r.plan(), nil
}

// runner is a run that is ready to go.
type runner struct {
	target  Target
	subject *subject
	admin   *client
	second  *client
	direct  *client
}

func prepare(ctx context.Context, target Target) (*runner, error) {
	if err := target.validate(); err != nil {
		return nil, err
	}
	if target.Name == "" {
		target.Name = "annex-conformance-" + letters(5)
	}
	r := &runner{target: target}
	var err error
	if r.admin, err = newClient(target.Config); err != nil {
		return nil, err
	}
	if target.Second != nil {
		if r.second, err = newClient(target.Second); err != nil {
			return nil, fmt.Errorf("the second user: %w", err)
		}
	}
	if target.Direct != nil {
		if r.direct, err = newClient(target.Direct); err != nil {
			return nil, fmt.Errorf("the extension server: %w", err)
		}
	}
	if r.subject, err = readSubject(ctx, r.admin, target); err != nil {
		r.close()
		return nil, err
	}
	r.subject.prefix = target.Name
	if r.subject.namespaced {
		r.subject.namespace, r.subject.other = target.Name, target.Name+"-other"
	}
	served, err := servesNamespaces(ctx, r.admin)
	if err != nil {
		r.close()
		return nil, err
	}
	r.subject.noNamespaces = !served
	return r, nil
}

func (r *runner) close() {
	for _, c := range []*client{r.admin, r.second, r.direct} {
		if c != nil {
			c.close()
		}
	}
}

func letters(n int) string {
	text := make([]byte, n)
	for i := range text {
		text[i] = byte('a' + rand.IntN(26))
	}
	return string(text)
}

func run(ctx context.Context, target Target, reporter Reporter) (summary Summary) {
	r, err := prepare(ctx, target)
	if err != nil {
		return Summary{Err: err}
	}
	defer r.close()
	reporter.Planned(r.plan())
	made, err := r.makeNamespaces(ctx)
	defer func() { summary.Left = append(summary.Left, r.removeNamespaces(ctx, made)...) }()
	if err != nil {
		return Summary{Err: err}
	}
	if err := r.trySample(ctx, &summary); err != nil {
		summary.Err = err
		return summary
	}
	for _, check := range Checks() {
		if !r.target.chosen(check) {
			continue
		}
		if ctx.Err() != nil {
			summary.Err = fmt.Errorf("stopped after %d checks: %w", len(summary.Results), context.Cause(ctx))
			return summary
		}
		result, left := r.check(ctx, check)
		summary.Results = append(summary.Results, result)
		summary.Left = append(summary.Left, left...)
		reporter.Checked(result)
	}
	if ctx.Err() != nil {
		summary.Err = fmt.Errorf("stopped after %d checks: %w", len(summary.Results), context.Cause(ctx))
	}
	return summary
}

// check makes one check, or says why not.
func (r *runner) check(ctx context.Context, check Check) (Result, []string) {
	for _, need := range check.Needs {
		if reason := r.subject.unmet(need, r.target); reason != "" {
			return Result{Check: check, Outcome: NotApplicable, Reason: reason, Unmet: need}, nil
		}
	}
	if check.Slow && !r.target.Slow {
		return Result{Check: check, Outcome: NotApplicable, Reason: "it takes more than 10 s; ask for slow checks"}, nil
	}
	return r.newT(check).run(ctx)
}

func (r *runner) newT(check Check) *T {
	return &T{check: check, target: r.target, subject: r.subject, admin: r.admin, second: r.second, direct: r.direct}
}

// errSample says what to do about a sample that the server does not take.
var errSample = errors.New("the server does not take the sample object; give one that it takes")

// trySample creates the sample once, so that a bad one is told once and not by every check.
func (r *runner) trySample(ctx context.Context, summary *Summary) error {
	if r.subject.unmet(Writable, r.target) != "" {
		return nil
	}
	var refusal error
	t := r.newT(Check{ID: "sample", Run: func(ctx context.Context, t *T) {
		a, err := try(ctx, t.admin, t.posting(t.object()))
		// Anything else is for the checks to say.
		if err == nil && (a.Code == http.StatusBadRequest || a.Code == http.StatusUnprocessableEntity) {
			refusal = fmt.Errorf("%w%s", errSample, saying(a.raw))
		}
	}})
	_, left := t.run(ctx)
	summary.Left = append(summary.Left, left...)
	return refusal
}
