package docs

import (
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// shipped are the trees in which the constants of bounds are looked for.
var shipped = []string{"aggregator", "kubeapiserver", "extension", "console", "internal/cli/console", "internal/cli/kubeconfig"}

// boundsPage has the bounds of the layer and of the console, sdkBoundsPage those of servers that the SDK makes.
const (
	boundsPage    = "docs/design/bounds.md"
	sdkBoundsPage = "docs/design/bounds-sdk.md"
)

func TestBoundsAreThoseOfTheCode(t *testing.T) {
	known, err := newConstants(repository, shipped...)
	if err != nil {
		t.Fatal(err)
	}
	for page, least := range map[string]int{boundsPage: 150, sdkBoundsPage: 15} {
		wrong, checked, err := wrongBounds(repository, page, known)
		if err != nil {
			t.Fatal(err)
		}
		for _, sentence := range wrong {
			t.Errorf("%s: %s", page, sentence)
		}
		if checked < least {
			t.Errorf("%s: only %d numbers were compared", page, checked)
		}
	}
}

// A number that differs is found, whichever side has changed.
func TestABoundThatHasChangedIsFound(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{`maxDiscovery +(int64 )?= 4 << 20`, "maxDiscovery = 5 << 20", "fetch.maxDiscovery is 5 MiB in the code, and not 4 MiB"},
		{`\| 4 MiB, `, "| 3 MiB, ", "fetch.maxDiscovery is 4 MiB in the code, and not 3 MiB"},
		{"`fetch.maxDiscovery`", "`fetch.gone`", "fetch.gone: there is no constant gone"},
		{"`fetch.maxDiscovery`, ", "", "3 numbers and 2 constants"},
	} {
		tree := copyOf(t, append([]string{boundsPage}, shipped...)...)
		change(t, tree, regexp.MustCompile(c.from), c.to)
		known, err := newConstants(tree, shipped...)
		if err != nil {
			t.Fatal(err)
		}
		wrong, _, err := wrongBounds(tree, boundsPage, known)
		if err != nil {
			t.Fatal(err)
		}
		if len(wrong) != 1 || !strings.Contains(wrong[0], c.want) {
			t.Errorf("%s is %q now: got %q, want %q", c.from, c.to, wrong, c.want)
		}
	}
}

// change replaces what is found in one file of the tree.
func change(t *testing.T, tree fstest.MapFS, from *regexp.Regexp, to string) {
	t.Helper()
	changed := 0
	for _, file := range tree {
		if at := from.FindIndex(file.Data); at != nil {
			file.Data = slices.Concat(file.Data[:at[0]], []byte(to), file.Data[at[1]:])
			changed++
		}
	}
	if changed != 1 {
		t.Fatalf("%d files hold %s", changed, from)
	}
}

// copyOf holds the documents and the Go files of parts of the repository.
func copyOf(t *testing.T, parts ...string) fstest.MapFS {
	t.Helper()
	tree := fstest.MapFS{}
	for _, part := range parts {
		err := fs.WalkDir(repository, part, func(name string, d fs.DirEntry, err error) error {
			if err == nil && d.Name() == "node_modules" {
				return fs.SkipDir
			}
			if err != nil || d.IsDir() || !isSource(name) && !strings.HasSuffix(name, ".md") && !strings.HasSuffix(name, ".ts") && !strings.HasSuffix(name, ".tsx") {
				return err
			}
			content, err := fs.ReadFile(repository, name)
			tree[name] = &fstest.MapFile{Data: content}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

func TestRowsOfBounds(t *testing.T) {
	tree := fstest.MapFS{
		"code/first/a.go": {Data: []byte(`package first
import ("time"; "example.com/m/code/second")
const (
	size = 64 << 10
	wait, long = 250 * time.Millisecond, time.Duration(90) * time.Minute
	twice = 2 * second.Step
	share = 1.0 / 5
	odd = 7 / 2
	word = "5"
)
type timing struct{ Every, Most time.Duration }
func Default() timing { return timing{Every: time.Minute, Most: 5 * time.Minute} }
func Other() timing { t := Default(); return t }
`)},
		"code/second/b.go":      {Data: []byte("package second\nimport \"time\"\nconst Step = 3 * time.Second\n")},
		"code/second/b_test.go": {Data: []byte("package second\nconst inTests = 1\n")},
		"code/twin/c.go":        {Data: []byte("package twin\n")},
		"code/other/twin/c.go":  {Data: []byte("package twin\n")},
		"code/d.go":             {Data: []byte("package code\nconst whole = 8\n")},
		"code/other/code/d.go":  {Data: []byte("package code\nconst part = 9\n")},

		"console/web/src/a.ts": {Data: []byte("/** most is a bound. */\nexport const most = 2 << 20;\nconst few = 1_000;\nconst odd = f(1);\n")},
	}
	for row, want := range map[string]string{
		"| 64 KiB | `first.size` |":                                     "",
		"| 65,536 bytes | `first.size` |":                               "",
		"| 0.25 s to 1.5 h | `first.wait`, `first.long` |":              "",
		"| every 250 ms, 90 min at most | `first.wait`, `first.long` |": "",
		"| 6 s | `first.twice` |":                                       "",
		"| 20 % of them | `first.share` |":                              "",
		"| 3 | `first.odd` |":                                           "",
		"| 1 min | `first.Default.Every` |":                             "",
		"| 64 MiB | `first.size` |":                                     "is 0.0625 MiB",
		"| 65 KiB | `first.size` |":                                     "is 64 KiB in the code, and not 65 KiB",
		"| 7 s | `first.twice` |":                                       "is 6 s",
		"| 21 % | `first.share` |":                                      "is 20 %",
		"| 3 s | `first.odd` |":                                         "and not 3 s",
		"| 2 min | `first.Default.Every` |":                             "is 1 min",
		"| 1 min | `first.Default.Never` |":                             "no field Never",
		"| 1 min | `first.Other.Every` |":                               "no function Other",
		"| 1 | `second.inTests` |":                                      "no constant inTests",
		"| 5 | `first.word` |":                                          "is not understood",
		"| 1 | `twin.one` |":                                            "2 packages are called twin",
		"| 1 | `other/twin.one` |":                                      "there is no constant one",
		"| 8 | `code.whole` |":                                          "",
		"| 9 | `code.part` |":                                           "no constant part",
		"| 2 MiB and 1,000 | `src/a.ts.most`, `src/a.ts.few` |":         "",
		"| 3 MiB | `src/a.ts.most` |":                                   "is 2 MiB",
		"| 1 | `src/a.ts.none` |":                                       "no constant none in console/web/src/a.ts",
		"| 1 | `none.one` |":                                            "0 packages are called none",
		"| 1 | `one` |":                                                 "not of the form",
		"| one | `first.size` |":                                        "0 numbers and 1 constants",
		"| 1 | |":                                                       "1 numbers and 0 constants",
		"| no number | |":                                               "0 numbers and 0 constants",
	} {
		tree["page.md"] = &fstest.MapFile{Data: []byte("# T\n\n| bound | constants |\n| --- | --- |\n" + row + "\n\n| other | table |\n| --- | --- |\n| 9 | 9 |\n")}
		known, err := newConstants(tree, "code")
		if err != nil {
			t.Fatal(err)
		}
		wrong, _, err := wrongBounds(tree, "page.md", known)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(wrong, "; "); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", row, got, want)
		}
	}
}
