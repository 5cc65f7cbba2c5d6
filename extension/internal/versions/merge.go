package versions

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/annex-api/annex/extension/internal/kind"
)

// merge gives now with the difference between base and old put back wherever now is
// still as base. lists knows how items are told apart; it may be nil.
func merge(now, base, old any, lists *kind.Lists) any {
	if equality.Semantic.DeepEqual(now, base) {
		return old
	}
	switch now := now.(type) {
	case map[string]any:
		return mergeMaps(now, base, old, lists)
	case []any:
		return mergeLists(now, base, old, lists)
	}
	return now
}

func mergeMaps(now map[string]any, base, old any, lists *kind.Lists) any {
	b, _ := base.(map[string]any)
	o, ok := old.(map[string]any)
	if !ok {
		return now
	}
	for key, value := range o {
		n, inNow := now[key]
		seen, inBase := b[key]
		switch {
		case inNow:
			now[key] = merge(n, seen, value, lists.Below(key))
		case !inBase: // no client of this version could see it, so none removed it
			now[key] = value
		}
	}
	for key, value := range b {
		if _, inOld := o[key]; !inOld && equality.Semantic.DeepEqual(now[key], value) {
			delete(now, key) // the conversion made it up
		}
	}
	return now
}

func mergeLists(now []any, base, old any, lists *kind.Lists) any {
	b, ok := base.([]any)
	o, isList := old.([]any)
	if !ok || !isList {
		return now
	}
	if keys := keysOf(lists, now, b, o); keys != nil {
		return mergeByKeys(now, b, o, keys, lists.OfItems())
	}
	if len(b) != len(o) { // which item was seen as which cannot be told
		return now
	}
	used := make([]bool, len(b))
	for i := range now {
		for j := range b {
			if !used[j] && equality.Semantic.DeepEqual(now[i], b[j]) {
				now[i], used[j] = o[j], true
				break
			}
		}
	}
	return now
}

// usual are what items are told apart by where no schema says it.
var usual = []string{"name", "type", "key", "id"}

// keysOf gives the fields by which the items of all three lists are told apart: those of
// the schema, or a usual one; nil where there are none.
func keysOf(lists *kind.Lists, all ...[]any) []string {
	if lists != nil && len(lists.Keys) > 0 {
		if tellApart(lists.Keys, all) {
			return lists.Keys
		}
		return nil
	}
	for _, key := range usual {
		if keys := []string{key}; tellApart(keys, all) {
			return keys
		}
	}
	return nil
}

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
	o, ok := item.(map[string]any)
	if !ok {
		return "", false
	}
	some := false
	values := make([]string, len(keys))
	for i, key := range keys {
		switch v := o[key].(type) {
		case nil: // a default that is left out
		case string, bool, int64, float64:
			values[i], some = fmt.Sprintf("%T %v", v, v), true
		default:
			return "", false
		}
	}
	return fmt.Sprintf("%q", values), some
}

// mergeByKeys keeps the order of now. Items that no client of the version could see come
// last.
func mergeByKeys(now, base, old []any, keys []string, lists *kind.Lists) any {
	byKeys := func(items []any) map[string]any {
		out := map[string]any{}
		for _, item := range items {
			id, _ := identity(item, keys)
			out[id] = item
		}
		return out
	}
	inNow, inBase, inOld := byKeys(now), byKeys(base), byKeys(old)
	result := make([]any, 0, len(now))
	for _, item := range now {
		id, _ := identity(item, keys)
		seen, wasSeen := inBase[id]
		was, wasThere := inOld[id]
		switch {
		case wasThere:
			result = append(result, merge(item, seen, was, lists))
		case wasSeen && equality.Semantic.DeepEqual(item, seen): // the conversion made it up
		default:
			result = append(result, item)
		}
	}
	for _, item := range old {
		id, _ := identity(item, keys)
		_, wasSeen := inBase[id]
		if _, there := inNow[id]; !there && !wasSeen {
			result = append(result, item)
		}
	}
	return result
}
