package scaffold

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/annex-api/annex/internal/scaffold/crd"
)

// TestProject makes a project, extends it in every way, builds it, runs its tests, and
// reads what it requires.
func TestProject(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds and tests a project in processes of their own, which takes a minute")
	}
	annex, err := FindAnnex("")
	if err != nil {
		t.Fatal(err)
	}
	p := sample()
	p.Annex = annex
	folder := written(t, p)
	command := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = folder
		var out, said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &said
		if err := cmd.Run(); err != nil {
			t.Fatalf("go %s: %v\n%s%s", strings.Join(args, " "), err, out.Bytes(), said.Bytes())
		}
		return out.String()
	}
	command("mod", "tidy")
	command("-C", "tools", "mod", "tidy")
	generated := func() string {
		return read(t, folder, "api/v1alpha1/zz_generated.deepcopy.go") + read(t, folder, "crd/widgets.example.com_widgets.yaml")
	}
	before := generated()
	command("generate", "./...")
	if after := generated(); before != after {
		t.Errorf("go generate changes what was rendered:\n%s", strings.Join(changedLines([]byte(before), []byte(after)), "\n"))
	}
	for _, add := range []Addition{
		AddKinds(NewKind("Policy", "", "v1", false, false)), AddController("Policy"), AddAction("Widget", "restart"),
		AddVersion("Widget", "v1beta1"), AddVersion("Policy", "v2alpha1"),
	} {
		for name, s := range extend(t, folder, add) {
			if s.Outcome == ByHand {
				t.Errorf("%s is left to the user: %q", name, s.Lines)
			}
		}
	}
	// And the kind of a CustomResourceDefinition, with three versions.
	definition := strings.ReplaceAll(read(t, "crd/testdata", "cluster.yaml"), "db.example.com", "widgets.example.com")
	clusters, err := crd.Read("cluster.yaml", []byte(definition))
	if err != nil {
		t.Fatal(err)
	}
	group, kinds, own, err := FromCRDs(clusters, true)
	if err != nil {
		t.Fatal(err)
	}
	extend(t, folder, AddKindsOf(group, kinds...), own...)
	command("generate", "./...")
	command("mod", "tidy")
	command("vet", "./...")
	t.Log(command("test", "-run", "BecomesReady|Restart|LoseNothing|TestConformance/(widgets.v1alpha1|clusters.v1)$", "./..."))

	for _, name := range []string{"go.mod", "tools/go.mod"} {
		if strings.Contains(read(t, folder, name), "k8s.io/kubernetes") {
			t.Errorf("%s names k8s.io/kubernetes", name)
		}
	}
	checkModules(t, annex, command("list", "-m", "-f", "{{.Path}} {{.Version}} {{with .Replace}}{{.Path}}{{end}}", "all"))
	for name := range strings.Lines(command("list", "-deps", "-test", "./...")) {
		if name = strings.TrimSpace(name); name == "k8s.io/kubernetes" || strings.HasPrefix(name, "k8s.io/kubernetes/") {
			t.Errorf("the project links %s", name)
		}
	}
}

// checkModules looks at what a project is built of: Kubernetes' own modules, of one release,
// and nothing in another's place but the checkout that annex was built from.
func checkModules(t *testing.T, annex Annex, modules string) {
	t.Helper()
	kubernetes := map[string]bool{"api": false, "apiextensions-apiserver": false, "apimachinery": false, "apiserver": false, "client-go": false, "component-base": false}
	for line := range strings.Lines(modules) {
		fields := strings.Fields(line)
		if len(fields) == 3 && (fields[0] != Module || fields[2] != annex.Checkout) {
			t.Errorf("%s is replaced by %s", fields[0], fields[2])
		}
		name, ours := strings.CutPrefix(fields[0], "k8s.io/")
		if _, wanted := kubernetes[name]; !ours || !wanted {
			continue
		}
		kubernetes[name] = true
		if !strings.HasPrefix(fields[1], "v0.37.") {
			t.Errorf("%s is of %s, want v0.37", fields[0], fields[1])
		}
	}
	for name, there := range kubernetes {
		if !there {
			t.Errorf("the project has no k8s.io/%s", name)
		}
	}
}

// TestImage packs a program, which is not the server: that is the same for the image,
// and would have to be compiled once more, without cgo.
func TestImage(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.com/widgets\n\ngo 1.26.0\n", "main.go": "package main\n\nfunc main() {}\n",
		"image/main.go": find(t, render(t, sample(), nil), "image/main.go"),
	} {
		if err := writeNew(filepath.Join(folder, name), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	var archives [2][]byte
	for i := range archives {
		cmd := exec.CommandContext(t.Context(), "go", "run", "./image", "-name", "localhost:5000/widgets:test", "-o", "image.tar")
		cmd.Dir = folder
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		archives[i] = []byte(read(t, folder, "image.tar"))
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("the same sources give another image")
	}
	checkImage(t, archives[0])
	// A port is no tag.
	cmd := exec.CommandContext(t.Context(), "go", "run", "./image", "-name", "localhost:5000/widgets", "-o", "image.tar")
	cmd.Dir = folder
	if said, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(said), "has no tag, such as localhost:5000/widgets:v1") {
		t.Errorf("a name without a tag: %v: %s", err, said)
	}
}

// untar gives the files of an archive.
func untar(t *testing.T, archive io.Reader) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(archive); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// checkImage follows an OCI layout from its index to the program.
func checkImage(t *testing.T, archive []byte) {
	t.Helper()
	files := untar(t, bytes.NewReader(archive))
	type descriptor struct {
		Digest string
		Size   int
	}
	blob := func(d descriptor) []byte {
		data, ok := files["blobs/"+strings.Replace(d.Digest, ":", "/", 1)]
		if !ok || len(data) != d.Size {
			t.Fatalf("%+v is not there, or has %d bytes", d, len(data))
		}
		return data
	}
	decode := func(data []byte, into any) {
		if err := json.Unmarshal(data, into); err != nil {
			t.Fatal(err)
		}
	}
	var index struct {
		Manifests []struct {
			descriptor
			Annotations map[string]string
		}
	}
	decode(files["index.json"], &index)
	if tag := index.Manifests[0].Annotations["org.opencontainers.image.ref.name"]; tag != "test" {
		t.Errorf("the tag is %q", tag)
	}
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	decode(blob(index.Manifests[0].descriptor), &manifest)
	var config struct {
		Config struct {
			Entrypoint []string
			User       string
		}
	}
	decode(blob(manifest.Config), &config)
	if config.Config.User != "65532:65532" || config.Config.Entrypoint[0] != "/bin/widgets" {
		t.Errorf("the image runs %+v", config.Config)
	}
	layer, err := gzip.NewReader(bytes.NewReader(blob(manifest.Layers[0])))
	if err != nil {
		t.Fatal(err)
	}
	if program := untar(t, layer)["bin/widgets"]; !bytes.HasPrefix(program, []byte("\x7fELF")) {
		t.Errorf("its layer has no program of Linux, but %d bytes", len(program))
	}
}
