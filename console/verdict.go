package console

import (
	"fmt"

	"github.com/annex-api/annex/diagnosis"
)

// Verdict is what doctor says of one APIService.
type Verdict struct {
	// Summary is one sentence.
	Summary string `json:"summary"`
	// Findings are the faults, gravest first.
	Findings []Finding `json:"findings,omitempty"`
	// Unseen is what could not be asked, one sentence each.
	Unseen []string `json:"unseen,omitempty"`
}

// Finding is one fault, as package diagnosis says it.
type Finding struct {
	// Code is the fault's stable name, Title what it is in a line, Severity how bad it is.
	Code     string `json:"code"`
	Title    string `json:"title"`
	Severity string `json:"severity"`
	// Confidence says how sure doctor is.
	Confidence string `json:"confidence,omitempty"`
	// Evidence is what was seen, in a sentence.
	Evidence string `json:"evidence"`
	// Remedy is what to do: first what looks, last what destroys.
	Remedy []Action `json:"remedy,omitempty"`
	// Because is the code of the finding that explains this one.
	Because string `json:"because,omitempty"`
	// See is the address of the fault's page; the page shows it as a link where it is https.
	See string `json:"see,omitempty"`
}

// Action is one thing to do, as package diagnosis says it.
type Action struct {
	// Does is what the command does: looks, changes or destroys; empty where there is none.
	Does string `json:"does,omitempty"`
	// Remark is what to know of it; without a command, what to do by hand.
	Remark string `json:"remark,omitempty"`
	// Command is a line for a shell.
	Command string `json:"command,omitempty"`
	// Warning is what is lost by a command that destroys, and when that is right.
	Warning string `json:"warning,omitempty"`
}

// VerdictOf says a report as the page reads it.
func VerdictOf(report diagnosis.Report) Verdict {
	v := Verdict{Summary: "Nothing is found to be wrong."}
	switch n := len(report.Findings); {
	case report.Local:
		v.Summary = "The API server itself answers for it: there is nothing to check."
	case n > 0 && !report.AtFault():
		v.Summary = "Nothing is found to be at fault; what may be, or is good to know, follows."
	case n == 1:
		v.Summary = "One fault was found."
	case n > 1:
		v.Summary = fmt.Sprintf("%d faults were found, the root of them first.", n)
	}
	for _, f := range report.Findings {
		v.Findings = append(v.Findings, Finding{
			Code: string(f.Code), Title: f.Title, Severity: string(f.Severity), Confidence: string(f.Confidence),
			Evidence: f.Evidence, Remedy: actions(f.Remedy), Because: string(f.Because), See: f.See,
		})
	}
	for _, b := range report.Unseen {
		v.Unseen = append(v.Unseen, fmt.Sprintf("%s: %s was not seen: %s", b.Check, b.What, b.Why))
	}
	return v
}

func actions(remedy []diagnosis.Action) []Action {
	var all []Action
	for _, a := range remedy {
		all = append(all, Action{Does: string(a.Does), Remark: a.Remark, Command: a.Command, Warning: a.Warning()})
	}
	return all
}
