package doctor

import (
	"cmp"

	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/internal/cli/terminal"
	"github.com/annex-api/annex/internal/printable"
)

// maxCommand bounds a line of a remedy.
const maxCommand = 8000

// remedy writes what to do: what looks, then what changes, then each that destroys by itself, below
// what is lost and when that is right.
func (p *page) remedy(indent string, actions []diagnosis.Action) {
	last := diagnosis.Effect("")
	for _, a := range actions {
		// What is done by hand changes something.
		does := cmp.Or(a.Does, diagnosis.Changes)
		switch {
		case does == diagnosis.Destroys:
			p.wrap(indent+p.painted(terminal.Red, "!")+" ", indent+"  ", a.Warning())
		case does == last:
		case does == diagnosis.Looks && actions[len(actions)-1].Does == diagnosis.Looks:
			p.wrap(indent, indent, "look; this changes nothing:")
		case does == diagnosis.Looks:
			p.wrap(indent, indent, "look first; this changes nothing:")
		case last == diagnosis.Looks:
			p.wrap(indent, indent, "then mend:")
		default:
			p.wrap(indent, indent, "mend:")
		}
		last = does
		if a.Remark != "" {
			p.wrap(indent+"  # ", indent+"  # ", a.Remark)
		}
		if a.Command != "" {
			// Commands stay whole, to be copied.
			p.line(indent + "  " + printable.Line(a.Command, maxCommand))
		}
	}
}
