package document

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestEveryTokenCounts(t *testing.T) {
	for in, tokens := range map[string]int{
		`{}`: 1, `[]`: 1, `""`: 1, `0`: 1, `null`: 1, ` true `: 1,
		`{"a":1}`: 3, `[1,-2.5e+3,"x",null,true]`: 6, `{"a\"b":["\\"]}`: 4, "[\n1\t,\r2 ]": 3, `{"a":{"b":{}}}`: 5,
	} {
		if err := WellFormed([]byte(in), tokens); err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if err := WellFormed([]byte(in), tokens-1); err == nil {
			t.Errorf("%s: has more than %d tokens, and was let through", in, tokens-1)
		}
	}
	for _, in := range []string{``, `{`, `[1,]`, `{"a"}`, `"a`, `"\`, `nul`, `{} {}`, "{\"a\":\x00}"} {
		if err := WellFormed([]byte(in), 100); err == nil {
			t.Errorf("%q was let through", in)
		}
	}
	deep := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	if err := WellFormed(deep(maxNesting), maxNesting); err != nil {
		t.Error(err)
	}
	if err := WellFormed(deep(maxNesting+1), 2*maxNesting); err == nil {
		t.Error("too deep, and let through")
	}
}

// FuzzWellFormed compares the count with the decoder of the standard library.
func FuzzWellFormed(f *testing.F) {
	f.Add([]byte(`{"a":[1,"x",{"b":null}],"c":-0.5}`))
	f.Add([]byte(`"\u0022\\"`))
	f.Fuzz(func(t *testing.T, in []byte) {
		if !json.Valid(in) {
			if WellFormed(in, len(in)) == nil {
				t.Fatalf("%q is not JSON, and was let through", in)
			}
			return
		}
		tokens, err := count(in)
		if err != nil || strings.Count(string(in), "[")+strings.Count(string(in), "{") > maxNesting {
			return
		}
		if err := WellFormed(in, tokens); err != nil {
			t.Errorf("%q has %d tokens: %v", in, tokens, err)
		}
		if WellFormed(in, tokens-1) == nil {
			t.Errorf("%q has %d tokens, fewer were counted", in, tokens)
		}
	})
}

// count counts tokens but closing ones.
func count(in []byte) (n int, err error) {
	d := json.NewDecoder(strings.NewReader(string(in)))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("after %d tokens: %w", n, err)
		}
		if token != json.Delim('}') && token != json.Delim(']') {
			n++
		}
	}
}
