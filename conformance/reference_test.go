package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const original = "package testing\n\nimport (\n\t\"k8s.io/kubernetes/cmd/kube-apiserver/app\"\n\t\"k8s.io/kubernetes/cmd/kube-apiserver/app/options\"\n)\n\nserver, err := app.CreateServerChain(completed)\n"

func TestEditPutsOurChainInPlace(t *testing.T) {
	got, err := edit(original)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"annex \"github.com/annex-api/annex/kubeapiserver\"\n", "server, err := annex.CreateServerChain(completed)\n", "kube-apiserver/app\"\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestEditRefusesAnotherReference(t *testing.T) {
	for name, source := range map[string]string{
		"no call":   strings.Replace(original, "CreateServerChain", "NewServer", 1),
		"no import": strings.Replace(original, "app\"\n", "program\"\n", 1),
		"two calls": original + "app.CreateServerChain(completed)\n",
	} {
		if _, err := edit(source); err == nil || !strings.Contains(err.Error(), "not once") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestCopyFollowsTheEditAndTouchesNothingElse(t *testing.T) {
	source, target := t.TempDir(), filepath.Join(t.TempDir(), "copies", "v1")
	put(t, filepath.Join(source, testServer), original)
	put(t, filepath.Join(source, "pkg", "a.go"), "package pkg\n")
	if err := copyReference(source, target); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(target, testServer), "package old\n")
	put(t, filepath.Join(target, "pkg", "a.go"), "package kept\n")
	if err := copyReference(source, target); err != nil {
		t.Fatal(err)
	}
	if got := content(t, filepath.Join(target, testServer)); !strings.Contains(got, "annex.CreateServerChain") {
		t.Errorf("the edit was not renewed: %s", got)
	}
	if got := content(t, filepath.Join(target, "pkg", "a.go")); got != "package kept\n" {
		t.Errorf("the kept copy was written again: %s", got)
	}
	if got := content(t, filepath.Join(source, testServer)); got != original {
		t.Errorf("the source was edited: %s", got)
	}
}

func TestCopyOfAnotherReferenceLeavesNothing(t *testing.T) {
	source, parent := t.TempDir(), t.TempDir()
	put(t, filepath.Join(source, testServer), "package testing\n")
	if err := copyReference(source, filepath.Join(parent, "v1")); err == nil {
		t.Fatal("no error")
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
