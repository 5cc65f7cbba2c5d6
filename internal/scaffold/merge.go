package scaffold

import (
	"bytes"
	"slices"
)

// maxCells bounds the table of a comparison: files of 5,000 lines each.
const maxCells = 25_000_000

// merge brings what theirs changed of base into mine, line by line. Where both changed
// the same lines, it is a conflict: both stand in the result between marks as git has
// them, and clean is false. both says that lines which theirs only adds behind others are
// none: they come behind mine.
func merge(base, mine, theirs []byte, both bool) (merged []byte, clean bool) {
	b, m, t := split(base), split(mine), split(theirs)
	inMine, inTheirs := matches(b, m), matches(b, t)
	if inMine == nil || inTheirs == nil {
		return conflict(m, t), false
	}
	var out [][]byte
	clean = true
	var i, j, k int
	for {
		// The next line of base that both have.
		next := i
		for next < len(b) && (inMine[next] < 0 || inTheirs[next] < 0) {
			next++
		}
		j2, k2 := len(m), len(t)
		if next < len(b) {
			j2, k2 = inMine[next], inTheirs[next]
		}
		lines, ok := resolve(b[i:next], m[j:j2], t[k:k2], both)
		clean = clean && ok
		out = append(out, lines...)
		if next == len(b) {
			return bytes.Join(out, nil), clean
		}
		out = append(out, b[next])
		i, j, k = next+1, j2+1, k2+1
	}
}

// resolve is what lines come to that are base in one place, mine and theirs in others.
func resolve(base, mine, theirs [][]byte, both bool) (lines [][]byte, clean bool) {
	same := func(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }
	switch {
	case same(mine, base) || same(mine, theirs):
		return theirs, true
	case same(theirs, base):
		return mine, true
	case both && len(theirs) >= len(base) && same(theirs[:len(base)], base):
		added := theirs[len(base):]
		if len(mine) >= len(added) && same(mine[len(mine)-len(added):], added) {
			return mine, true // it was added before
		}
		return slices.Concat(mine, added), true
	}
	return [][]byte{conflict(mine, theirs)}, false
}

func conflict(mine, theirs [][]byte) []byte {
	var out bytes.Buffer
	side := func(mark string, lines [][]byte) {
		out.WriteString(mark + "\n")
		for _, l := range lines {
			out.Write(l)
			if !bytes.HasSuffix(l, []byte("\n")) {
				out.WriteByte('\n')
			}
		}
	}
	side("<<<<<<< yours", mine)
	side("=======", theirs)
	side(">>>>>>> the scaffold", nil)
	return out.Bytes()
}

// split cuts after each line's end.
func split(text []byte) [][]byte {
	return slices.Collect(bytes.Lines(text))
}

// matches pairs lines of a with equal lines of b, as many as can be in one order; -1 is
// none. It is nil where the two are too long to compare.
func matches(a, b [][]byte) []int {
	if (len(a)+1)*(len(b)+1) > maxCells {
		return nil
	}
	width := len(b) + 1
	longest := make([]int32, (len(a)+1)*width) // of a[i:] and b[j:]
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if bytes.Equal(a[i], b[j]) {
				longest[i*width+j] = longest[(i+1)*width+j+1] + 1
			} else {
				longest[i*width+j] = max(longest[(i+1)*width+j], longest[i*width+j+1])
			}
		}
	}
	pairs := make([]int, len(a))
	for i, j := 0, 0; i < len(a); i++ {
		pairs[i] = -1
		for j < len(b) && !bytes.Equal(a[i], b[j]) && longest[i*width+j+1] >= longest[(i+1)*width+j] {
			j++
		}
		if j < len(b) && bytes.Equal(a[i], b[j]) {
			pairs[i] = j
			j++
		}
	}
	return pairs
}

// changedLines are the lines that differ, each with a plus or a minus before it.
func changedLines(before, after []byte) []string {
	a, b := split(before), split(after)
	pairs := matches(a, b)
	if pairs == nil {
		return nil
	}
	var out []string
	say := func(mark string, line []byte) { out = append(out, mark+" "+string(bytes.TrimRight(line, "\n"))) }
	at := 0
	for i, l := range a {
		if pairs[i] < 0 {
			say("-", l)
			continue
		}
		for ; at < pairs[i]; at++ {
			say("+", b[at])
		}
		at++
	}
	for ; at < len(b); at++ {
		say("+", b[at])
	}
	return out
}
