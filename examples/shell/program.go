package shell

import (
	"fmt"
	"go/token"
	"go/types"
	"strconv"
	"strings"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// maxLine bounds a line, in bytes.
const maxLine = 1024

const help = `a sum, such as 2*(3+4); echo TEXT; whoami; hostname; size; exit [CODE]`

// program is the shell at the other end of a session.
type program struct {
	name, user, prompt string
	// size is the terminal's, as far as it was told.
	size size
}

// size is that of a terminal, in characters.
type size = remotecommand.TerminalSize

// answer is what comes of a line.
type answer struct {
	out, errOut string
	// exit ends the session with a code.
	exit bool
	code int
}

// answer does what a line says.
func (p *program) answer(line string) answer {
	word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	rest = strings.TrimSpace(rest)
	switch word {
	case "":
		return answer{}
	case "help":
		return answer{out: help}
	case "echo":
		return answer{out: rest}
	case "whoami":
		return answer{out: p.user}
	case "hostname":
		return answer{out: p.name}
	case "size":
		return answer{out: fmt.Sprintf("%dx%d", p.size.Width, p.size.Height)}
	case "exit":
		if rest == "" {
			return answer{exit: true}
		}
		code, err := strconv.ParseUint(rest, 10, 8)
		if err != nil {
			return answer{errOut: "exit: a code is a number from 0 to 255"}
		}
		return answer{exit: true, code: int(code)}
	}
	return sum(line)
}

// sum is the value of a constant expression of Go. The compiler's own bounds hold: no value has
// more than 512 bits.
func sum(line string) answer {
	value, err := types.Eval(token.NewFileSet(), nil, token.NoPos, line)
	if err != nil || value.Value == nil {
		return answer{errOut: strings.TrimSpace(line) + ": neither a sum nor a word that is known here; help lists them"}
	}
	return answer{out: value.Value.String()}
}
