package upstream

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const sample = `package sample

// Outer is a chain.
func (t *Type[T]) Outer(h Handler) Handler {
	h = WithFirst(h, "one", 3, &Options{})
	if t.on {
		h = WithSecond(Made(h), func() { inner() })
	} else if off {
		h = WithThird(h)
	} else {
		skip()
	}
	switch {
	case t.on, off:
		go started()
	}
	for _, x := range all() {
		defer x.Close()
	}
	return h
}

var a, b = "A", B(1)
`

func sampleSource(t *testing.T, content string) (*Source, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sample.go"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	tree := Tree(func(string) (string, error) { return dir, nil })
	return tree.Parse(File{"example.com/m", "sample.go"})
}

func TestCallsAreListedInOrderWithNesting(t *testing.T) {
	s, err := sampleSource(t, sample)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Calls("Type.Outer")
	want := `h = WithFirst(h, "one", 3, &…)
if t.on
	Made(h)
	h = WithSecond(…, func)
		func
			inner()
else
	if off
		h = WithThird(h)
	else
		skip()
switch
	case t.on, off
		started()
all()
for range all()
	x.Close()
`
	if err != nil || got != want {
		t.Errorf("error %v, calls\n%s\nwant\n%s", err, got, want)
	}
}

func TestDigestsLeaveOutCommentsAndSpaces(t *testing.T) {
	digest := func(content, name string) string {
		s, err := sampleSource(t, content)
		if err != nil {
			t.Fatal(err)
		}
		d, err := s.Digest(name)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, name := range []string{"Type.Outer", ""} {
		before := digest(sample, name)
		same := strings.ReplaceAll(sample, "// Outer is a chain.", "// Outer does something.\n// It is long.")
		same = strings.ReplaceAll(same, "\treturn h\n", "\n\n\treturn h // at last\n")
		if digest(same, name) != before {
			t.Errorf("%q: a comment changes the digest", name)
		}
		if digest(strings.ReplaceAll(sample, `"one"`, `"two"`), name) == before {
			t.Errorf("%q: a change does not change the digest", name)
		}
	}
	if digest(sample, "Type.Outer") != digest(strings.ReplaceAll(sample, `"A"`, `"B"`), "Type.Outer") {
		t.Error("a function's digest changes with what is around it")
	}
}

// What is gone is told with the file's name.
func TestWhatIsGoneIsNamed(t *testing.T) {
	s, err := sampleSource(t, sample)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := s.Value("b"); err != nil || s.Text(v) != "B(1)" {
		t.Errorf("the value of b: %v", err)
	}
	for what, err := range map[string]error{
		"a function": second(s.Func("Inner")), "a method": second(s.Func("Outer")), "a variable": second(s.Value("c")),
		"a digest": second(s.Digest("Inner")), "calls": second(s.Calls("Inner")),
		"a file": second(Tree(func(string) (string, error) { return t.TempDir(), nil }).Parse(s.File)),
		"syntax": second(sampleSource(t, "not Go")),
	} {
		if err == nil || !strings.Contains(err.Error(), "example.com/m/sample.go") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := Modules("example.com/none"); err == nil {
		t.Error("a module that is not required has a folder")
	}
}

func second[T any](_ T, err error) error { return err }
