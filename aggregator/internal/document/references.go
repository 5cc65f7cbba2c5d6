package document

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
)

const (
	// maxWork bounds the values that a reader meets who goes into a schema once
	// and into everything else at each reference. All of kube-apiserver's own
	// document has some 300,000.
	maxWork = 2_000_000
	// maxChain bounds how many references lead one to the next.
	maxChain = 500
	// contextEvery is how many tokens are read between two looks at the context.
	contextEvery = 10_000
)

// walk goes through everything that its roots refer to, once. Schemas may
// refer to each other in circles, since every reader remembers where it was;
// for anything else a circle is an error. Costs of what readers do not remember
// are worked out once for each part and added up at each reference, so the walk
// itself takes no longer than the document is long.
type walk struct {
	document *OpenAPI
	costs    map[*part]int // of parts that are no schemas; -1 while being worked out
	reached  map[*part]bool
	pending  []step
	work     int
	tokens   int
}

// step is a part to go into, with the number of references that led there.
type step struct {
	part  *part
	chain int
}

// reach has p gone into, once.
func (w *walk) reach(p *part, chain int) {
	if !w.reached[p] {
		w.reached[p] = true
		w.pending = append(w.pending, step{p, chain})
	}
}

func (w *walk) run(ctx context.Context) error {
	for len(w.pending) > 0 {
		next := w.pending[0]
		w.pending = w.pending[1:]
		cost, err := w.cost(ctx, next.part, next.chain)
		if err != nil {
			return err
		}
		if w.work += cost; w.work > maxWork {
			return fmt.Errorf("following its references takes more than %d steps", maxWork)
		}
	}
	return nil
}

// cost is how many values are met in p. Schemas that it refers to are reached
// and cost nothing here. The recursion is bounded by maxChain.
func (w *walk) cost(ctx context.Context, p *part, chain int) (int, error) {
	switch known := w.costs[p]; {
	case known > 0:
		return known, nil
	case known < 0:
		return 0, fmt.Errorf("%v refers to itself", p)
	case chain > maxChain:
		return 0, fmt.Errorf("more than %d references lead one to the next, the last to %v", maxChain, p)
	}
	w.costs[p] = -1
	if err := w.scan(ctx, p); err != nil {
		return 0, fmt.Errorf("%v: %w", p, err)
	}
	total := p.values
	for _, ref := range p.refs {
		targets, err := w.document.named(ref)
		if err != nil {
			return 0, fmt.Errorf("%v: %w", p, err)
		}
		for _, target := range targets {
			if target.section == v2Schemas || target.section == v3Schemas {
				w.reach(target, chain+1)
				continue
			}
			w.reached[target] = true
			cost, err := w.cost(ctx, target, chain+1)
			if err != nil {
				return 0, err
			}
			if total += cost; total > maxWork {
				return 0, fmt.Errorf("following the references of %v takes more than %d steps", p, maxWork)
			}
		}
	}
	w.costs[p] = max(total, 1)
	return total, nil
}

// scan finds the values and references of a part. It is done once for each
// part, however many group versions a document is for.
func (w *walk) scan(ctx context.Context, p *part) error {
	if p.scanned {
		return nil
	}
	// objects has, for each object and array that is open, whether it is an
	// object, and then whether a key comes next.
	type level struct{ object, key bool }
	var open []level
	reference := false // the last key was $ref
	decoder := json.NewDecoder(bytes.NewReader(p.raw))
	decoder.UseNumber()
	for {
		if w.tokens++; w.tokens%contextEvery == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			p.scanned = true
			return nil
		}
		if err != nil {
			return err
		}
		at := len(open) - 1
		switch token := token.(type) {
		case json.Delim:
			if token == '}' || token == ']' {
				open = open[:at]
				continue
			}
			p.values++
			if at >= 0 {
				open[at].key = open[at].object
			}
			open, reference = append(open, level{token == '{', token == '{'}), false
			continue
		case string:
			if at >= 0 && open[at].object && open[at].key {
				open[at].key, reference = false, token == "$ref"
				continue
			}
			if reference {
				p.refs = append(p.refs, token)
			}
		}
		p.values++
		reference = false
		if at >= 0 {
			open[at].key = open[at].object
		}
	}
}

// named lists the parts that a reference may name. Readers differ in what they
// take for an escape, and in whether they look before the fragment, or into a
// part; what any of them may go into is listed.
func (d *OpenAPI) named(ref string) ([]*part, error) {
	_, fragment, found := strings.Cut(ref, "#")
	if !found {
		return nil, nil
	}
	var parts []*part
	for _, pointer := range spellings(fragment, url.PathUnescape) {
		pointer = strings.TrimPrefix(pointer, "/")
		if pointer == "" || d.holdsParts(strings.TrimSuffix(pointer, "/")) {
			return nil, fmt.Errorf("the reference %.200q is to more than one part", ref)
		}
		for section, all := range d.parts {
			name, found := strings.CutPrefix(pointer, section+"/")
			if !found {
				continue
			}
			first, _, _ := strings.Cut(name, "/")
			for _, name := range slices.Concat(spellings(name, unescapePointer), spellings(first, unescapePointer)) {
				if p := all[name]; p != nil {
					parts = append(parts, p)
					break
				}
			}
		}
	}
	return parts, nil
}

// holdsParts says whether a pointer names a section, or all components.
func (d *OpenAPI) holdsParts(pointer string) bool {
	_, section := d.parts[pointer]
	return section || pointer == components
}

// spellings are s as it is, and unescaped where that differs.
func spellings(s string, unescape func(string) (string, error)) []string {
	plain, err := unescape(s)
	if err != nil || plain == s {
		return []string{s}
	}
	return []string{s, plain}
}

func unescapePointer(s string) (string, error) {
	return strings.NewReplacer("~1", "/", "~0", "~").Replace(s), nil
}
