package doctor

import (
	"fmt"

	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/internal/printable"
)

// maxUnseen is how many of the things that could not be seen are listed, unless --verbose.
const maxUnseen = 5

// text writes what was found for people.
func (o *Options) text(p *page, found outcome) error {
	for i, r := range found.Reports {
		if i > 0 {
			p.line("")
		}
		o.report(p, r)
	}
	o.summary(p, found, len(found.Reports) > 0)
	return p.flush()
}

// summary is the end of it: how many are well, and what was not looked at.
func (o *Options) summary(p *page, found outcome, more bool) {
	if more {
		p.line("")
	}
	if found.Offline != "" {
		p.wrap("", "", "The cluster could not be asked, so that only the files were looked at: "+found.Offline)
	}
	n, possible := found.faulty()
	switch looked := len(found.Reports); {
	case looked == 0 && found.Remote == 0 && found.SeemWell == 0:
		p.wrap("", "", "No APIService leads to an extension server: there is nothing to look at.")
	case looked == 0:
		p.wrap("", "", fmt.Sprintf("%s well.", count(found.SeemWell, "APIService seems", "APIServices seem")))
	default:
		maybe := ""
		if possible > 0 {
			maybe = fmt.Sprintf("%d may be, ", possible)
		}
		p.wrap("", "", fmt.Sprintf("%s at fault, %s%d well.", count(n, "APIService is", "APIServices are"), maybe, looked-n-possible))
		if found.SeemWell > 0 {
			p.wrap("", "", fmt.Sprintf("%s well.", count(found.SeemWell, "other seems", "others seem")))
		}
	}
	if found.Stopped != "" {
		p.wrap("", "", "It was "+found.Stopped+".")
		return
	}
	if found.LeftOut > 0 {
		p.wrap("", "", fmt.Sprintf("%s not available, and not looked at: name them, or look at --all.", count(found.LeftOut, "more is", "more are")))
	}
	if found.SeemWell > 0 {
		p.wrap("", "", "To look closely at all of them:")
		p.line("  " + o.program + " doctor --all")
	}
}

// report writes what is known of one APIService.
func (o *Options) report(p *page, r diagnosis.Report) {
	p.line(p.bold(printable.Line(r.APIService, maxName)))
	if r.Local {
		first, other := p.prefixes("  ", markPassed)
		p.wrap(first, other, "The API server itself answers for it.")
		return
	}
	o.way(p, r)
	for _, f := range r.Findings {
		p.line("")
		o.finding(p, f)
	}
	o.unseen(p, r)
}

// way is the way of a request, a line for each stretch of it; with --verbose one for each check.
func (o *Options) way(p *page, r diagnosis.Report) {
	for _, s := range stretches(r) {
		first, other := p.prefixes("  ", s.mark)
		text := s.name
		if s.why != "" {
			text += ": " + s.why
		}
		p.wrap(first, other, text)
		if !o.Verbose {
			continue
		}
		for _, step := range s.steps {
			first, other := p.prefixes("    ", markOf(r, step))
			text := step.Check
			for _, code := range step.Codes {
				text += " " + string(code)
			}
			p.wrap(first, other, text)
		}
	}
}

// stretch is the checks of one stage.
type stretch struct {
	name, why string
	mark      mark
	steps     []diagnosis.Step
}

// stretches are the stages of a report in their order, with the gravest that was found in each.
func stretches(r diagnosis.Report) []stretch {
	var all []stretch
	for _, step := range r.Steps {
		if name := stageName(step.Stage); len(all) == 0 || all[len(all)-1].name != name {
			all = append(all, stretch{name: name})
		}
		last := &all[len(all)-1]
		last.steps = append(last.steps, step)
	}
	for i := range all {
		s := &all[i]
		s.mark, s.why = gravest(r, s.steps)
	}
	return all
}

// stageName is what a stage is about.
func stageName(s diagnosis.Stage) string {
	switch s {
	case diagnosis.Registration:
		return "registration and Service"
	case diagnosis.Endpoints:
		return "endpoints and Pods"
	case diagnosis.Identity:
		return "identity and trust"
	case diagnosis.Documents:
		return "watches and documents"
	case diagnosis.Cluster:
		return "cluster, and who suffers"
	}
	return string(s)
}

// gravest says how a stage went.
func gravest(r diagnosis.Report, steps []diagnosis.Step) (mark, string) {
	seen, unseen := 0, 0
	var worst *diagnosis.Finding
	for _, step := range steps {
		switch step.Result {
		case diagnosis.Passed, diagnosis.Found:
			seen++
		case diagnosis.NotSeen:
			unseen++
		}
		for _, f := range r.Findings {
			if !contains(step.Codes, f.Code) {
				continue
			}
			if worst == nil || gravity(f) < gravity(*worst) {
				worst = &f
			}
		}
	}
	switch {
	case worst != nil:
		return markFound(*worst), string(worst.Code) + " " + worst.Title
	case seen == 0 && unseen > 0:
		return markUnseen, "could not be seen"
	case seen == 0:
		return markSkipped, "not reached"
	case unseen > 0:
		return markPassed, fmt.Sprintf("as far as it could be seen (%d of %d checks)", seen, seen+unseen)
	}
	return markPassed, ""
}

func contains(codes []diagnosis.Code, code diagnosis.Code) bool {
	for _, c := range codes {
		if c == code {
			return true
		}
	}
	return false
}

// gravity orders findings: what is surely an error, surely a warning, possible, good to know.
func gravity(f diagnosis.Finding) int {
	switch {
	case f.Severity == diagnosis.Info:
		return 3
	case f.Confidence == diagnosis.Possible:
		return 2
	case f.Severity == diagnosis.Warning:
		return 1
	}
	return 0
}

func markFound(f diagnosis.Finding) mark {
	return []mark{markFailed, markWarned, markUnseen, markNoted}[gravity(f)]
}

func markOf(r diagnosis.Report, step diagnosis.Step) mark {
	switch step.Result {
	case diagnosis.Passed:
		return markPassed
	case diagnosis.NotSeen:
		return markUnseen
	case diagnosis.NotReached:
		return markSkipped
	}
	m, _ := gravest(r, []diagnosis.Step{step})
	return m
}

// finding writes a fault, what was seen of it, and what to do.
func (o *Options) finding(p *page, f diagnosis.Finding) {
	first, other := p.prefixes("  ", markFound(f))
	sure := map[diagnosis.Confidence]string{
		diagnosis.Certain: "certain", diagnosis.Likely: "likely", diagnosis.Possible: "possible, among others",
	}[f.Confidence]
	if f.Because != "" {
		sure += ", follows from " + string(f.Because)
	}
	p.wrap(first, other, fmt.Sprintf("%s %s (%s)", f.Code, f.Title, sure))
	p.wrap(other, other, f.Evidence)
	if f.Because != "" && !o.Verbose {
		return // the root's remedy is this one's
	}
	p.remedy(other, f.Remedy)
	p.line(other + p.dim(o.program+" doctor --explain "+string(f.Code)))
}

// unseen writes what could not be seen, and why.
func (o *Options) unseen(p *page, r diagnosis.Report) {
	if len(r.Unseen) == 0 {
		return
	}
	p.line("")
	first, other := p.prefixes("  ", markUnseen)
	p.wrap(first, other, fmt.Sprintf("%s not be seen:", count(len(r.Unseen), "thing could", "things could")))
	for i, b := range r.Unseen {
		if i == maxUnseen && !o.Verbose {
			p.wrap(other+"  ", other+"  ", fmt.Sprintf("and %d more, which --verbose lists", len(r.Unseen)-i))
			break
		}
		p.wrap(other+"  ", other+"    ", b.What+": "+b.Why)
	}
}
