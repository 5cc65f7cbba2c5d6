package shell

import "strings"

// What keys of a terminal send.
const (
	interrupt = 0x03 // Ctrl-C
	endOfText = 0x04 // Ctrl-D
	backspace = 0x08
	erase     = 0x7f
)

// lines makes lines of what is typed. A terminal sends each key and shows nothing of its own, so
// that it is answered with what to show.
type lines struct {
	tty     bool
	typed   []byte
	tooLong bool // what is left of this line is thrown away
}

// typedLine is a line, or the reason why there is none.
type typedLine struct {
	text string
	// tooLong is of a line that had more than maxLine bytes, end of the end of all lines.
	tooLong, end bool
}

// add takes what was typed. It gives the lines that are whole by that, and what to show.
func (l *lines) add(typed []byte) (whole []typedLine, show string) {
	var echo strings.Builder
	for _, b := range typed {
		switch {
		case b == '\n' || b == '\r':
			whole = append(whole, l.take())
			echo.WriteString("\r\n")
		case l.tty && b == interrupt:
			l.typed, l.tooLong = nil, false
			whole = append(whole, typedLine{})
			echo.WriteString("^C\r\n")
		case l.tty && b == endOfText:
			if len(l.typed) == 0 {
				return append(whole, typedLine{end: true}), echo.String() + "\r\n"
			}
		case l.tty && (b == erase || b == backspace):
			if n := len(l.typed); n > 0 {
				l.typed = l.typed[:n-1]
				echo.WriteString("\b \b")
			}
		case l.tty && b < ' ': // no other key means anything here
		case len(l.typed) == maxLine:
			l.tooLong = true
		default:
			l.typed = append(l.typed, b)
			echo.WriteByte(b)
		}
	}
	if !l.tty {
		return whole, ""
	}
	return whole, echo.String()
}

// take is the line that has been typed so far.
func (l *lines) take() typedLine {
	line := typedLine{text: string(l.typed), tooLong: l.tooLong}
	l.typed, l.tooLong = nil, false
	return line
}
