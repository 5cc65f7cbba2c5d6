package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/bench/internal/build"
	"github.com/annex-api/annex/diagnosis"
)

// fault is one that is made, named and mended.
type fault struct {
	// name is the site's; code and also are what doctor is to find, code first.
	name string
	code diagnosis.Code
	also []diagnosis.Code
	// how says in the table what is done.
	how string
	// plan changes the site before it is made; inject is done before the APIService is registered,
	// and after before doctor looks.
	plan          func(*site)
	inject, after func(context.Context, *site) error
	// asks is what doctor is asked for, if that is not the site's own name.
	asks string
	// available says that the API server does not notice; unjudged that it may not come to a verdict.
	available, unjudged bool
	// run are parts of those lines of the remedy that are executed; fill is what doctor leaves open
	// in them, because only an operator can know it.
	run  []string
	fill map[string]string
	// mend is what controllers do after the remedy; by says what the operator does by hand instead,
	// or besides.
	mend func(context.Context, *site) error
	by   string
	// gone says that the remedy takes the APIService away.
	gone bool
	// remains are codes that are left when the fault is mended: what is counted since the start.
	remains []diagnosis.Code
	// only is the one server where it can be known; why says why.
	only, why string
	// short says that it is in the short form.
	short bool
	// needs is a program without which it cannot be made, or mended.
	needs string
}

// TestFaults makes each fault on both servers.
func TestFaults(t *testing.T) {
	servers := running(t)
	e := &evidence{}
	t.Run("all", func(t *testing.T) {
		// These take longest, and begin first.
		for _, name := range []string{build.Annex, build.Reference} {
			if testing.Short() {
				break
			}
			t.Run("of its own/"+name, func(t *testing.T) {
				t.Parallel()
				ownFaultsOn(t, name, e)
			})
		}
		for _, f := range faultsOfSites() {
			if testing.Short() && !f.short {
				continue
			}
			for _, name := range []string{build.Annex, build.Reference} {
				if f.only != "" && f.only != name {
					e.note(row{fault: f, server: name, left: f.why})
					continue
				}
				t.Run(f.name+"/"+name, func(t *testing.T) {
					t.Parallel()
					if f.needs != "" && !installed(f.needs) {
						t.Skipf("%s is not on this machine", f.needs)
					}
					r := row{fault: f, server: name}
					defer func() { e.note(r) }()
					servers[name].prove(t, f, &r)
				})
			}
		}
	})
	if *update && !t.Failed() {
		if err := e.write("../../docs/evidence/doctor.md"); err != nil {
			t.Error(err)
		}
	}
}

// faultsOfSites are those of one extension server, beside others on the same API server.
func faultsOfSites() []fault {
	return slices.Concat(registrationFaults(), endpointFaults(), networkFaults(), tlsFaults(), identityFaults(),
		answerFaults(), documentFaults(), clusterFaults())
}

// prove makes a fault, has doctor name it, executes the remedy, and has doctor say that all is well.
func (c *cluster) prove(t *testing.T, f fault, r *row) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	s := c.build(t, f.name, f.plan)
	if f.inject != nil {
		if err := f.inject(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.register(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.settled(ctx, f); err != nil {
		t.Fatal(err)
	}
	if f.after != nil {
		if err := f.after(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.remedied(ctx, f, r); err != nil {
		t.Fatal(err)
	}
	if err := s.well(ctx, f); err != nil {
		t.Fatal(err)
	}
	r.mended = len(f.remains) == 0
}

// remedied has doctor name the fault, and executes its remedy.
func (s *site) remedied(ctx context.Context, f fault, r *row) error {
	report, err := s.named(ctx, f)
	if err != nil {
		return err
	}
	r.named = true
	found := report.Findings[slices.IndexFunc(report.Findings, func(x diagnosis.Finding) bool { return x.Code == f.code })]
	for _, part := range f.run {
		lines := remedies(report, part)
		if len(lines) == 0 {
			return fmt.Errorf("no line of a remedy has %q:\n%s", part, strings.Join(diagnosis.Script(found.Remedy), "\n"))
		}
		line := lines[0]
		for open, value := range f.fill {
			line = strings.ReplaceAll(line, open, value)
		}
		if _, err := s.shell(ctx, s.folder, line); err != nil {
			return fmt.Errorf("the remedy: %w", err)
		}
	}
	if f.mend != nil {
		if err := f.mend(ctx, s); err != nil {
			return fmt.Errorf("after the remedy %q: %w", diagnosis.Script(found.Remedy), err)
		}
	}
	return nil
}

// remedies are the commands of a report's remedies with a text, those of roots first.
func remedies(r diagnosis.Report, part string) []string {
	var lines []string
	for _, f := range r.Findings {
		for _, a := range f.Remedy {
			if strings.Contains(a.Command, part) {
				lines = append(lines, a.Command)
			}
		}
	}
	return lines
}

// settled waits until the API server has judged.
func (s *site) settled(ctx context.Context, f fault) error {
	if f.unjudged {
		return nil
	}
	return until(ctx, "the API server has not judged", func() error {
		c, err := s.condition(ctx)
		switch {
		case err != nil:
			return err
		case c.Status == "" || f.available != (c.Status == apiregistrationv1.ConditionTrue):
			return fmt.Errorf("Available is %q (%s): %s", c.Status, c.Reason, c.Message)
		}
		return nil
	})
}

// named waits until doctor names the fault before all others.
func (s *site) named(ctx context.Context, f fault) (report diagnosis.Report, err error) {
	err = until(ctx, "doctor does not name "+string(f.code), func() error {
		var err error
		if report, err = s.examine(ctx, cmp.Or(f.asks, s.name())); err != nil {
			return err
		}
		if len(report.Findings) == 0 || report.Findings[0].Code != f.code {
			return errors.New(summary(report))
		}
		for _, code := range f.also {
			if !report.Has(code) {
				return fmt.Errorf("%s is missing: %s", code, summary(report))
			}
		}
		return nil
	})
	return report, err
}

// well waits until doctor finds nothing more than what is good to know.
func (s *site) well(ctx context.Context, f fault) error {
	return until(ctx, "all is not well", func() error {
		s.lookAgain(ctx)
		if f.gone {
			a, err := s.condition(ctx)
			if apierrors.IsNotFound(err) || err == nil && a.Reason == "Local" {
				return nil
			}
			return fmt.Errorf("the APIService is there: %v %v", a, err)
		}
		c, err := s.condition(ctx)
		if err != nil {
			return err
		}
		if c.Status != apiregistrationv1.ConditionTrue {
			return fmt.Errorf("Available is %q (%s): %s", c.Status, c.Reason, c.Message)
		}
		report, err := s.examine(ctx, s.name())
		if err != nil {
			return err
		}
		for _, x := range report.Findings {
			if (x.Code == f.code || x.Severity != diagnosis.Info) && !slices.Contains(f.remains, x.Code) {
				return errors.New(summary(report))
			}
		}
		return nil
	})
}

func summary(r diagnosis.Report) string {
	var all []string
	for _, f := range r.Findings {
		because := ""
		if f.Because != "" {
			because = " because of " + string(f.Because)
		}
		all = append(all, fmt.Sprintf("%s %s (%s)%s: %s", f.Code, f.Name, f.Confidence, because, f.Evidence))
	}
	if len(all) == 0 {
		return "nothing is found"
	}
	return strings.Join(all, "\n  ")
}

// until polls until check returns nil.
func until(ctx context.Context, what string, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	var last error
	for {
		err := check()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, last)
		case <-ticker.C:
		}
	}
}
