package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var root = filepath.Join("..", "..", "..")

func TestFilesAreThoseOfFaultsYAML(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root, "diagnosis", "faults.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := generate(content)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Errorf("only %d files are made", len(files))
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if got, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name))); err != nil || !bytes.Equal(got, files[name]) {
			t.Errorf("%s is not what faults.yaml says: run go generate ./diagnosis", name)
		}
	}
	there, err := filepath.Glob(filepath.Join(root, pages, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range there {
		if _, ok := files[pages+"/"+filepath.Base(name)]; !ok {
			t.Errorf("%s is of no fault: run go generate ./diagnosis", name)
		}
	}
}

func TestRunWritesAndRemoves(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"diagnosis/faults.yaml": "faults:\n- {code: ANX199, name: Gone, title: T, symptom: S, cause: C, remedy: ['ls {{.Pod}}'], severity: info, source: ['K#1']}\n",
		pages + "/ANX198.md":    "old",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := run(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, pages, "ANX198.md")); !os.IsNotExist(err) {
		t.Errorf("the page of a fault that is no more: %v", err)
	}
	got, err := os.ReadFile(filepath.Join(dir, pages, "ANX199.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# ANX199: T\n", "ls POD\n", "https://github.com/kubernetes/kubernetes/issues/1"} {
		if !strings.Contains(string(got), want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

func TestWrongFaultsAreRefused(t *testing.T) {
	const right = "{code: ANX101, name: One, title: T, symptom: S, cause: C, remedy: [ls], severity: error, fatal: true, explains: [ANX102]}"
	const second = "{code: ANX102, name: Two, title: T, symptom: S, cause: C, remedy: [ls], severity: info}"
	for _, c := range []struct{ from, to, want string }{
		{"", "", ""},
		{"code: ANX101", "code: ANX102", "ANX102: no new code"},
		{"code: ANX101", "code: ANX999", "ANX999: no new code"},
		{"code: ANX101", "code: ANX100", "ANX100: no new code"},
		{"name: One", "name: Two", `"Two" is no new word`},
		{"name: One", "name: one", `"one" is no new word`},
		{"symptom: S", "symptom: ''", "must be set"},
		{"severity: error", "severity: bad", `severity "bad"`},
		{"severity: error", "severity: info", "fatal, and no error"},
		{"explains: [ANX102]", "explains: [ANX103]", "explains ANX103"},
		{"explains: [ANX102]", "explains: [ANX101]", "explains ANX101"},
		{"title: T", "titel: T", "titel"},
		{"remedy: [ls]", "remedy: ['{{.Nothing}}']", "Nothing"},
	} {
		one := strings.Replace(right, c.from, c.to, 1)
		if c.from != "" && one == right {
			t.Fatalf("%q is not in the example", c.from)
		}
		_, err := generate([]byte("retired: [ANX100]\nfaults:\n- " + one + "\n- " + second + "\n"))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s -> %s: got %v, want %q", c.from, c.to, err, c.want)
		}
	}
}
