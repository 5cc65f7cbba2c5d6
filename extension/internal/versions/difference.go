package versions

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/annex-api/annex/extension/internal/kind"
)

// difference is what an object of the hub has at a place where a version shows something
// else, or nothing.
type difference struct {
	Path []step `json:"path"`
	// Visible is how many steps of the path a client of the version can see.
	Visible int `json:"visible,omitempty"`
	// Has is what is there, Seen what is shown; each is absent where it is nothing.
	Has  any `json:"has,omitempty"`
	Seen any `json:"seen,omitempty"`
}

// step leads to a field of an object, or to an item of a list whose items are told apart by
// Keys: to the one with ID, which is At some place of the list.
type step struct {
	Field string   `json:"field,omitempty"`
	Keys  []string `json:"keys,omitempty"`
	ID    string   `json:"id,omitempty"`
	At    int      `json:"at,omitempty"`
}

// name tells a place from others. The same item has the same wherever it is in its list.
func (d difference) name() string {
	parts := make([]string, len(d.Path))
	for i, s := range d.Path {
		if s.ID != "" {
			parts[i] = "=" + s.ID
		} else {
			parts[i] = strconv.Quote(s.Field)
		}
	}
	return strings.Join(parts, ".")
}

// inOrder compares by place. Items are in the order of their lists.
func inOrder(a, b difference) int {
	return slices.CompareFunc(a.Path, b.Path, func(x, y step) int {
		return cmp.Or(cmp.Compare(x.Field, y.Field), cmp.Compare(x.At, y.At), cmp.Compare(x.ID, y.ID))
	})
}

// differences gives those between what is shown and what there is, each as deep as
// objects and lists with keys go, and maxSteps at most. What is null is absent.
func differences(seen, has any, lists *kind.Lists) []difference {
	return collect(nil, seen, has, lists, place{})
}

// place is where collect is.
type place struct {
	path    []step
	visible int
}

func (p place) below(s step, seen any) place {
	below := place{append(slices.Clone(p.path), s), p.visible}
	if seen != nil {
		below.visible++
	}
	return below
}

func collect(found []difference, seen, has any, lists *kind.Lists, p place) []difference {
	whole := len(p.path) == maxSteps
	switch has := has.(type) {
	case map[string]any:
		shown, ok := seen.(map[string]any)
		if whole || seen != nil && !ok || seen == nil && len(has) == 0 {
			break
		}
		names := maps.Clone(shown)
		if names == nil {
			names = map[string]any{}
		}
		maps.Copy(names, has)
		for _, name := range slices.Sorted(maps.Keys(names)) {
			found = collect(found, shown[name], has[name], lists.Below(name), p.below(step{Field: name}, shown[name]))
		}
		return found
	case []any:
		shown, ok := seen.([]any)
		if whole || seen != nil && !ok || seen == nil && len(has) == 0 {
			break
		}
		if keys := keysOf(lists, shown, has); keys != nil {
			return collectItems(found, shown, has, keys, lists.OfItems(), p)
		}
	}
	if !equality.Semantic.DeepEqual(seen, has) {
		found = append(found, difference{Path: p.path, Visible: p.visible, Has: has, Seen: seen})
	}
	return found
}

func collectItems(found []difference, seen, has []any, keys []string, lists *kind.Lists, p place) []difference {
	shown := map[string]any{}
	for _, item := range seen {
		id, _ := identity(item, keys)
		shown[id] = item
	}
	there := map[string]bool{}
	for i, item := range has {
		id, _ := identity(item, keys)
		there[id] = true
		found = collect(found, shown[id], item, lists, p.below(step{Keys: keys, ID: id, At: i}, shown[id]))
	}
	for i, item := range seen {
		if id, _ := identity(item, keys); !there[id] { // the conversion made it up
			found = collect(found, item, nil, lists, p.below(step{Keys: keys, ID: id, At: len(has) + i}, item))
		}
	}
	return found
}

// restore puts a difference back into a document, wherever that is still as it was shown.
// Several are put back in order.
func restore(now any, d difference) any { return d.restore(now, 0) }

func (d difference) restore(now any, depth int) any {
	if depth == len(d.Path) {
		return d.restoreHere(now)
	}
	s := d.Path[depth]
	if now == nil && depth > 0 && depth <= d.Visible && (s.ID == "" || depth < d.Visible) {
		return nil // who could see it has removed it; a list without items has not lost those that nobody saw
	}
	if s.ID != "" {
		return d.restoreItem(now, s, depth)
	}
	fields, ok := now.(map[string]any)
	if now != nil && !ok {
		return now
	}
	if fields == nil {
		fields = map[string]any{}
	}
	value := d.restore(fields[s.Field], depth+1)
	if value != nil {
		fields[s.Field] = value
	} else {
		delete(fields, s.Field)
	}
	if now == nil && len(fields) == 0 {
		return nil
	}
	return fields
}

func (d difference) restoreItem(now any, s step, depth int) any {
	items, ok := now.([]any)
	if now != nil && !ok {
		return now
	}
	at := slices.IndexFunc(items, func(item any) bool { id, ok := identity(item, s.Keys); return ok && id == s.ID })
	if at < 0 {
		if value := d.restore(nil, depth+1); value != nil {
			return slices.Insert(items, min(s.At, len(items)), value) // those before it are there by now
		}
		return now
	}
	if items[at] = d.restore(items[at], depth+1); items[at] == nil {
		return slices.Delete(items, at, at+1)
	}
	return items
}

func (d difference) restoreHere(now any) any {
	if equality.Semantic.DeepEqual(now, d.Seen) {
		return d.Has
	}
	items, ok := now.([]any)
	seen, wasSeen := d.Seen.([]any)
	has, isThere := d.Has.([]any)
	if !ok || !wasSeen || !isThere || len(seen) != len(has) { // which item was seen as which cannot be told
		return now
	}
	used := make([]bool, len(seen))
	for i := range items {
		for j := range seen {
			if !used[j] && equality.Semantic.DeepEqual(items[i], seen[j]) {
				items[i], used[j] = has[j], true
				break
			}
		}
	}
	return items
}

// usual are what items are told apart by where no schema says it.
var usual = []string{"name", "type", "key", "id"}

// keysOf gives the fields by which the items of both lists are told apart: those of the
// schema, or a usual one, or themselves where they are a set; nil where there are none.
func keysOf(lists *kind.Lists, seen, has []any) []string {
	all := [][]any{seen, has}
	if lists != nil && len(lists.Keys) > 0 {
		if tellApart(lists.Keys, all) {
			return lists.Keys
		}
		return nil
	}
	if lists != nil && lists.Set && tellApart([]string{itself}, all) {
		return []string{itself}
	}
	for _, key := range usual {
		if keys := []string{key}; tellApart(keys, all) {
			return keys
		}
	}
	return nil
}

// itself is the key of items that are no objects.
const itself = ""

func tellApart(keys []string, all [][]any) bool {
	for _, items := range all {
		seen := map[string]bool{}
		for _, item := range items {
			id, ok := identity(item, keys)
			if !ok || seen[id] {
				return false
			}
			seen[id] = true
		}
	}
	return true
}

// identity is what an item has in some fields; false where it is no object or has none of
// them.
func identity(item any, keys []string) (string, bool) {
	some := false
	values := make([]string, len(keys))
	fields, isObject := item.(map[string]any)
	for i, key := range keys {
		value := item
		if key != itself {
			if !isObject {
				return "", false
			}
			value = fields[key]
		}
		switch value.(type) {
		case nil: // a default that is left out
		case string, bool, int64, float64:
			values[i], some = fmt.Sprintf("%T %v", value, value), true
		default:
			return "", false
		}
	}
	return fmt.Sprintf("%q", values), some
}
