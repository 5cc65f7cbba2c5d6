// Package similar finds the names that somebody may have meant.
package similar

import (
	"slices"
	"strings"
)

// most is how many names are worth offering.
const most = 3

// Names returns up to three of have that are a few typing errors away from name, or that contain it,
// the nearest first.
func Names(name string, have []string) []string {
	type candidate struct {
		name string
		far  int
	}
	if len(name) > maxLength {
		return nil
	}
	var found []candidate
	for _, h := range have {
		if len(h) > maxLength {
			continue
		}
		d := distance(name, h)
		if d > 2 && d > len(name)/5 && !(len(name) > 3 && strings.Contains(h, name)) {
			continue
		}
		found = append(found, candidate{h, d})
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return a.far - b.far })
	var names []string
	for _, c := range found[:min(most, len(found))] {
		names = append(names, c.name)
	}
	return names
}

// maxLength is that of names that are compared: comparing takes time by the product of both lengths.
const maxLength = 253

// distance is the number of letters to insert, remove or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
