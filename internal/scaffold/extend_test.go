package scaffold

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// written is a project on disk.
func written(t *testing.T, p Project) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "project")
	if err := WriteProject(folder, render(t, p, nil)); err != nil {
		t.Fatal(err)
	}
	return folder
}

func read(t *testing.T, folder, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// edit replaces text of a file, as somebody does by hand.
func edit(t *testing.T, folder, name, before, after string) {
	t.Helper()
	text := read(t, folder, name)
	if !strings.Contains(text, before) {
		t.Fatalf("%s has no %q", name, before)
	}
	if err := os.WriteFile(filepath.Join(folder, name), []byte(strings.Replace(text, before, after, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

func extend(t *testing.T, folder string, add Addition, own ...File) map[string]Step {
	t.Helper()
	steps, err := Extend(os.DirFS(folder), add, own...)
	if err != nil {
		t.Fatal(err)
	}
	if err := Apply(folder, steps); err != nil {
		t.Fatal(err)
	}
	all := map[string]Step{}
	for _, s := range steps {
		all[s.Path] = s
	}
	return all
}

// TestExtendedProjectIsTheOneMadeSoAtOnce has all additions give what Render gives of
// all answers.
func TestExtendedProjectIsTheOneMadeSoAtOnce(t *testing.T) {
	folder := written(t, sample())
	for _, add := range []Addition{
		AddKinds(NewKind("Policy", "", "", false, false)), AddController("Policy"), AddAction("Widget", "restart-now"),
		AddAction("Widget", "stop"), AddVersion("Widget", "v1beta1"), AddVersion("Policy", "v1"), AddVersion("Widget", "v1"),
	} {
		extend(t, folder, add)
	}
	p, err := Read(os.DirFS(folder))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range render(t, p, nil) {
		if got := read(t, folder, f.Path); got != string(f.Data) && !f.Generated {
			t.Errorf("%s is\n%s\nand not\n%s", f.Path, got, f.Data)
		}
	}
	text := read(t, folder, "widget.go")
	for _, want := range []string{"WidgetV1beta1,\n", "WidgetV1,\n", "RestartNowWidget,\n", "StopWidget,\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("widget.go has no %q:\n%s", want, text)
		}
	}
}

// TestWhatWasWrittenByHandStays changes files in many places before each addition.
func TestWhatWasWrittenByHandStays(t *testing.T) {
	folder := written(t, sample())
	edit(t, folder, "main.go", "		Widgets,\n", "		Widgets, // ours\n		Others,\n")
	edit(t, folder, "widget.go", "	Validate:     validateWidget,\n", "	Validate:     validateWidget,\n	Indexed:      \"spec.message\",\n")
	edit(t, folder, "Makefile", "test: ##", "# by hand\ntest: ##")
	edit(t, folder, "api/v1alpha1/widget_types.go", "	Message string `json:\"message,omitempty\"`\n",
		"	Message string `json:\"message,omitempty\"`\n	// Parts are of our own type.\n	Parts []Part `json:\"parts,omitempty\"`\n}\n\n// Part is one.\ntype Part struct {\n	Name string `json:\"name\"`\n")
	for _, add := range []Addition{AddKinds(NewKind("Gadget", "", "", true, true)), AddAction("Widget", "restart"), AddVersion("Widget", "v1")} {
		for name, s := range extend(t, folder, add) {
			if s.Outcome == ByHand {
				t.Errorf("%s is left to the user: %q", name, s.Lines)
			}
		}
	}
	main := read(t, folder, "main.go")
	for _, want := range []string{"Widgets, // ours\n", "Others,\n", "		Gadgets,\n", "GadgetController,\n"} {
		if !strings.Contains(main, want) {
			t.Errorf("main.go has no %q:\n%s", want, main)
		}
	}
	widget := read(t, folder, "widget.go")
	for _, want := range []string{"Indexed:      \"spec.message\",\n", "RestartWidget,\n", "WidgetV1,\n"} {
		if !strings.Contains(widget, want) {
			t.Errorf("widget.go has no %q:\n%s", want, widget)
		}
	}
	if !strings.Contains(read(t, folder, "Makefile"), "# by hand\n") {
		t.Error("the Makefile lost a line")
	}
	// The other version's type is made of the hub's as it is.
	spoke := read(t, folder, "api/v1/widget_types.go")
	if !strings.Contains(spoke, "Parts []v1alpha1.Part `json") || !strings.Contains(spoke, "// Parts are of our own type.") {
		t.Errorf("the spoke has not the fields of the hub:\n%s", spoke)
	}
}

// TestWhereThereIsNoRoomTheLinesAreShown rewrites what an addition would change.
func TestWhereThereIsNoRoomTheLinesAreShown(t *testing.T) {
	folder := written(t, sample())
	text := read(t, folder, "main.go")
	from := strings.Index(text, "		Widgets,\n")
	edit(t, folder, "main.go", text[from:from+strings.Index(text[from:], "	}\n")], "		everything(),\n")
	before := read(t, folder, "main.go")
	steps := extend(t, folder, AddKinds(NewKind("Gadget", "", "", true, false)))
	s := steps["main.go"]
	if s.Outcome != ByHand || !slices.Contains(s.Lines, "+ 		Gadgets,") {
		t.Errorf("main.go: %s %q", s.Outcome, s.Lines)
	}
	if read(t, folder, "main.go") != before {
		t.Error("main.go was changed all the same")
	}
	if steps["gadget.go"].Outcome != Create {
		t.Error("the new files were not written")
	}
}

// TestAdditionsThatAreRefused change nothing.
func TestAdditionsThatAreRefused(t *testing.T) {
	folder := written(t, sample("Widget", "Policy"))
	if err := os.WriteFile(filepath.Join(folder, "gadget.go"), []byte("package main\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		add  Addition
		want string
	}{
		"a file is there":    {AddKinds(NewKind("Gadget", "", "", true, true)), "gadget.go is there already"},
		"the kind is there":  {AddKinds(NewKind("Widget", "", "", true, true)), "there is a kind Widget already"},
		"a bad kind":         {AddKinds(NewKind("big gadget", "", "", true, true)), `"BigGadget" would be right`},
		"which kind":         {AddAction("", "restart"), `--kind is one of ["Widget" "Policy"]`},
		"no such kind":       {AddVersion("Wigdet", "v1"), `there is no kind "Wigdet"; there are ["Widget" "Policy"]`},
		"a bad version":      {AddVersion("Widget", "2"), `the version "2" is none`},
		"the version exists": {AddVersion("Widget", "v1alpha1"), "has version v1alpha1 already"},
		"the controller":     {AddController("Policy"), "has a controller already"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Extend(os.DirFS(folder), test.add); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, and does not say %q", err, test.want)
			}
		})
	}
	if _, err := Extend(fstest.MapFS{}, AddController("")); err == nil || !strings.Contains(err.Error(), "no project that annex new made") {
		t.Errorf("an empty folder: %v", err)
	}
}

// TestAnAdditionThatFailedHalfWayIsDoneAgain: all but the record was written.
func TestAnAdditionThatFailedHalfWayIsDoneAgain(t *testing.T) {
	folder := written(t, sample())
	edit(t, folder, "main.go", "		Widgets,\n", "		Widgets,\n		Others,\n")
	add := AddKinds(NewKind("Gadget", "", "", true, true))
	steps, err := Extend(os.DirFS(folder), add)
	if err != nil {
		t.Fatal(err)
	}
	steps = slices.DeleteFunc(steps, func(s Step) bool { return s.Path == RecordFile })
	if err := Apply(folder, steps); err != nil {
		t.Fatal(err)
	}
	extend(t, folder, add)
	if n := strings.Count(read(t, folder, "main.go"), "		Gadgets,\n"); n != 1 {
		t.Errorf("the kind is %d times in main.go", n)
	}
	if p, err := Read(os.DirFS(folder)); err != nil || len(p.Kinds) != 2 {
		t.Errorf("the record has %+v, %v", p.Kinds, err)
	}
}

// TestAnExistingFolderIsNotOverwritten, nor is anything left of a project that could not
// be written.
func TestAnExistingFolderIsNotOverwritten(t *testing.T) {
	files := render(t, sample(), nil)
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "notes.txt"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := WriteProject(folder, files); err == nil || !strings.Contains(err.Error(), "notes.txt in it") {
		t.Errorf("the error is %v", err)
	}
	if entries, _ := os.ReadDir(folder); len(entries) != 1 {
		t.Errorf("there is more in it now: %v", entries)
	}
	// A file where a folder is needed.
	broken := append(slices.Clone(files), File{Path: "main.go/x", Data: []byte("x")})
	fresh := filepath.Join(t.TempDir(), "fresh")
	if err := WriteProject(fresh, broken); err == nil {
		t.Error("it was written")
	}
	if _, err := os.Stat(fresh); !os.IsNotExist(err) {
		t.Errorf("something is left: %v", err)
	}
	there := t.TempDir()
	if err := WriteProject(there, broken); err == nil {
		t.Error("it was written")
	}
	if entries, err := os.ReadDir(there); err != nil || len(entries) > 0 {
		t.Errorf("something is left in a folder that was empty: %v, %v", entries, err)
	}
	if err := WriteProject(filepath.Join(folder, "notes.txt"), files); err == nil || !strings.Contains(err.Error(), "cannot be used") {
		t.Errorf("a file as the folder: %v", err)
	}
}

// TestUpdateMergesThreeScaffolds goes from the first to the third of three sets of
// templates, in a project with changes by hand.
func TestUpdateMergesThreeScaffolds(t *testing.T) {
	set := func(files map[string]string) fstest.MapFS {
		all := fstest.MapFS{"annex.yaml.tmpl": {Data: []byte("{{.Record}}")}}
		manifest := []string{"project annex.yaml annex.yaml.tmpl"}
		for _, name := range slices.Sorted(maps.Keys(files)) {
			all[name+".tmpl"] = &fstest.MapFile{Data: []byte(files[name])}
			manifest = append(manifest, "project "+name+" "+name+".tmpl")
		}
		all[manifestFile] = &fstest.MapFile{Data: []byte(strings.Join(manifest, "\n"))}
		return all
	}
	sets := map[int]fs.FS{
		1: set(map[string]string{"a.txt": "one\ntwo\nthree\nfour {{.Name}}\nfive\n", "same.txt": "same\n", "both.txt": "x\n", "old.txt": "old\n", "kept.txt": "kept\n", "gone.txt": "1\n"}),
		2: set(map[string]string{"a.txt": "one\ntwo\nthree\nFOUR {{.Name}}\nfive\n", "same.txt": "same\n", "both.txt": "x\n", "old.txt": "old\n", "kept.txt": "kept\n", "gone.txt": "1\n"}),
		3: set(map[string]string{"a.txt": "one\ntwo\nthree\nFOUR {{.Name}}\nFIVE\n", "same.txt": "same\n", "both.txt": "theirs\n", "new.txt": "new\n", "gone.txt": "3\n"}),
	}
	templates := func(n int) (fs.FS, error) { return sets[n], nil }
	p := sample()
	files, err := Render(p, sets[1], nil)
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "project")
	if err := WriteProject(folder, files); err != nil {
		t.Fatal(err)
	}
	edit(t, folder, "a.txt", "one\n", "one\nby hand\n")
	edit(t, folder, "same.txt", "same", "other")
	edit(t, folder, "both.txt", "x", "mine")
	edit(t, folder, "kept.txt", "kept", "kept by me")
	if err := os.Remove(filepath.Join(folder, "gone.txt")); err != nil {
		t.Fatal(err)
	}
	step := func(to int) map[string]Outcome {
		_, steps, err := update(os.DirFS(folder), p.Annex, to, templates)
		if err != nil {
			t.Fatal(err)
		}
		if err := Apply(folder, steps); err != nil {
			t.Fatal(err)
		}
		out := map[string]Outcome{}
		for _, s := range steps {
			out[s.Path] = s.Outcome
		}
		return out
	}
	if got, want := step(2), (map[string]Outcome{"a.txt": Change, "annex.yaml": Change}); !maps.Equal(got, want) {
		t.Errorf("to 2: %v, want %v", got, want)
	}
	want := map[string]Outcome{"a.txt": Change, "annex.yaml": Change, "both.txt": Conflict, "new.txt": Create, "old.txt": Remove}
	if got := step(3); !maps.Equal(got, want) {
		t.Errorf("to 3: %v, want %v", got, want)
	}
	for name, want := range map[string]string{
		"a.txt": "one\nby hand\ntwo\nthree\nFOUR widgets\nFIVE\n", "same.txt": "other\n", "kept.txt": "kept by me\n", "new.txt": "new\n",
		"both.txt": "<<<<<<< yours\nmine\n=======\ntheirs\n>>>>>>> the scaffold\n",
	} {
		if got := read(t, folder, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := step(3); len(got) != 0 {
		t.Errorf("once more: %v", got)
	}
	if _, _, err := update(os.DirFS(folder), p.Annex, 2, templates); err == nil || !strings.Contains(err.Error(), "use a newer annex") {
		t.Errorf("back to 2: %v", err)
	}
}
