package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/internal/printable"
)

// wait looks until all is well, says each change in a line, and at the end writes the last look.
func (o *Options) wait(ctx context.Context, look func(context.Context) (outcome, error)) error {
	limited, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	w := o.IO.Err // where the report is a document, how it goes is progress
	if o.Output == "text" {
		w = o.IO.Out
	}
	states := states{}
	begin := time.Now()
	var (
		last   outcome
		looked bool
		failed error
	)
	for limited.Err() == nil {
		found, err := look(limited)
		if limited.Err() != nil {
			if !looked {
				failed = err
			}
			break // what the end of the time cut short shows nothing
		}
		// A server that is not there yet is what people wait for, too.
		if failed = err; err == nil {
			last, looked = found, true
		}
		states.tell(w, time.Since(begin), found, err)
		if err == nil && found.verdict() == nil {
			break
		}
		timer := time.NewTimer(o.Interval)
		select {
		case <-timer.C:
		case <-limited.Done():
			timer.Stop()
		}
	}
	switch {
	case ctx.Err() != nil && (!looked || last.verdict() != nil):
		return unasked{errors.New("stopped before all was well")}
	case failed != nil:
		return unasked{fmt.Errorf("after %v: %w", o.Timeout, failed)}
	}
	if err := o.write(last); err != nil {
		return unasked{fmt.Errorf("write the report: %w", err)}
	}
	if err := last.verdict(); err != nil {
		return faults{fmt.Sprintf("%v after %v", err, o.Timeout)}
	}
	return nil
}

// states are how APIServices were when they were looked at last, by name; that without a name is
// whether the cluster could be asked.
type states map[string]string

const well = "well"

// tell writes a line for each change.
func (s states) tell(w io.Writer, after time.Duration, found outcome, err error) {
	now := states{}
	if err != nil {
		now[""] = "could not ask: " + printable.Line(err.Error(), maxText)
		for name, state := range s {
			if name != "" {
				now[name] = state // nothing else is known
			}
		}
	}
	for _, r := range found.Reports {
		now[r.APIService] = state(r)
	}
	var names []string
	for name := range s {
		names = append(names, name)
	}
	for name := range now {
		if _, before := s[name]; !before {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		was, is := s[name], now[name]
		if is == "" && name != "" {
			is = well // it is not looked at any more
		}
		if was == is {
			continue
		}
		if name != "" {
			name += ": "
		}
		if is == "" {
			is = "the API server answers"
		}
		fmt.Fprintf(w, "%6.1fs  %s%s\n", after.Seconds(), name, is)
	}
	clear(s)
	for name, state := range now {
		s[name] = state
	}
}

// state is a report in a few words.
func state(r diagnosis.Report) string {
	if !r.AtFault() {
		return well
	}
	f := r.Findings[0]
	return fmt.Sprintf("%s %s", f.Code, f.Title)
}
