package diagnosis

import (
	"cmp"
	"slices"
	"strings"
)

// maxNearest is how many names are offered.
const maxNearest = 3

// Nearest are those names that somebody who typed another may have meant, likeliest first; none
// if no name is near.
func Nearest(typed string, names []string) []string {
	type candidate struct {
		name     string
		distance int
	}
	if typed == "" || len(typed) > maxField {
		return nil
	}
	typed = strings.ToLower(typed)
	var near []candidate
	for _, name := range names {
		if len(name) > maxField {
			continue
		}
		lower := strings.ToLower(name)
		d := distance(typed, lower)
		// A part of the name, such as the group alone, is near however much is missing.
		if len(typed) >= 3 && strings.Contains(lower, typed) {
			d = min(d, 1)
		}
		if d <= max(2, len(typed)/4) {
			near = append(near, candidate{name, d})
		}
	}
	slices.SortFunc(near, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), strings.Compare(a.name, b.name))
	})
	var out []string
	for _, c := range near[:min(len(near), maxNearest)] {
		out = append(out, c.name)
	}
	return out
}

// distance is how many bytes must be put in, taken out or replaced to make one text of another.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal + bit(a[i] != b[j])
			diagonal = row[j+1]
			row[j+1] = min(row[j+1]+1, row[j]+1, cost)
		}
	}
	return row[len(b)]
}
