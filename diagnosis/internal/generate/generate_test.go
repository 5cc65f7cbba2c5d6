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
		"diagnosis/faults.yaml": "faults:\n- {code: ANX199, name: Gone, title: T, symptom: S, cause: C, remedy: [{does: looks, command: 'cat {{.Pod}}'}], severity: info, source: ['K#1']}\n",
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
	for _, want := range []string{"# ANX199: T\n", "cat POD\n", "https://github.com/kubernetes/kubernetes/issues/1"} {
		if !strings.Contains(string(got), want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

func TestWrongFaultsAreRefused(t *testing.T) {
	const right = "{code: ANX101, name: One, title: T, symptom: S, cause: C, remedy: [{does: looks, command: kubectl get pods}], severity: error, fatal: true, explains: [ANX102]}"
	const second = "{code: ANX102, name: Two, title: T, symptom: S, cause: C, remedy: [{remark: sleep}], severity: info}"
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
		{"kubectl get pods", "'kubectl get {{.Nothing}}'", "Nothing"},
		{"does: looks, ", "", "looks, changes or destroys"},
		{"does: looks", "does: reads", "looks, changes or destroys"},
		{"does: looks, command: kubectl get pods", "does: looks, remark: r", "without a command"},
		{"{does: looks, command: kubectl get pods}", "{}", "without a command"},
		{"kubectl get pods", "'{{if .Other}}kubectl get pods{{end}}'", "nothing to do"},
		{"kubectl get pods", "kubectl delete pod POD", `it destroys, and is marked "looks"`},
		{"looks, command: kubectl get pods", "changes, command: kubectl get pods", `it looks, and is marked "changes"`},
		{"looks, command: kubectl get pods", "changes, command: kubectl taint node NODE a:NoExecute", `it destroys, and is marked "changes"`},
		{"looks, command: kubectl get pods", "destroys, command: kubectl delete pod POD", "loses and onlyIf"},
		{"command: kubectl get pods", "command: kubectl get pods, loses: a, onlyIf: b", "loses and onlyIf"},
		{"looks, command: kubectl get pods", "destroys, command: kubectl delete pod POD, loses: the Pod, onlyIf: c", "no look is before it"},
		{"remedy: [", "remedy: [{does: changes, command: kubectl annotate pod POD a=b}, ", "what looks comes first"},
		{"remedy: [", "remedy: [{remark: by hand}, ", "what looks comes first"},
		{"remedy: [", "remedy: [{does: looks, command: date -u}, {does: destroys, command: rm f, loses: a, onlyIf: b}, ", "what destroys last"},
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

// The gravest that a line does counts, wherever in it that is.
func TestEffects(t *testing.T) {
	for line, want := range map[string]string{
		"kubectl get pods": looks,
		"kubectl -n a --context b describe pod delete":                             looks,
		"kubectl -n a logs delete-me --tail=50":                                    looks,
		"kubectl get --raw '/readyz?verbose'":                                      looks,
		"kubectl rollout status deployment/a":                                      looks,
		"kubectl get a -o jsonpath='{.b}' | base64 -d | openssl x509 -noout":       looks,
		"date -u; kubectl get --raw /version -v=8 2>&1 | grep -i 'date: > delete'": looks,
		"curl -ski https://127.0.0.1:8443/":                                        looks,
		"kubectl get a # kubectl delete a":                                         looks,
		"curl -X DELETE https://127.0.0.1:8443/":                                   changes,
		"openssl req -x509 -keyout tls.key":                                        changes,
		"kubectl get a -o yaml > a.yaml":                                           changes,
		"kubectl patch a --type=merge -p '{}'":                                     changes,
		"kubectl -n a rollout restart deployment/b":                                changes,
		"kubectl scale deployment/a --replicas=3":                                  changes,
		"kubectl scale deployment/a --replicas=10":                                 changes,
		"echo '{}' | kubectl -n a apply -f -":                                      changes,
		"kubectl certificate approve a":                                            changes,
		"reboot":                                                                   changes,
		"kubectl delete apiservice a":                                              destroys,
		"kubectl -n a delete pod b":                                                destroys,
		"kubectl taint node a b:NoExecute":                                         destroys,
		"kubectl drain a":                                                          destroys,
		"kubectl scale deployment/a --replicas=0":                                  destroys,
		"kubectl scale deployment/a --replicas 0":                                  destroys,
		"kubectl replace --force -f a":                                             destroys,
		`kubectl patch a --type=json -p '[{"op":"remove","path":"/b"}]'`:           destroys,
		`kubectl patch a -p '{"spec":{"caBundle":null}}'`:                          destroys,
		`kubectl patch a -p '["--kubelet-insecure-tls"]'`:                          destroys,
		"kubectl get a -o yaml > a && kubectl delete a":                            destroys,
		"kubectl get pods -o name | xargs kubectl delete":                          destroys,
		`kubectl get "$(kubectl delete a -o name)"`:                                destroys,
		"rm a": destroys,
	} {
		if got := effect(line); got != want {
			t.Errorf("%s: it %s, want %s", line, got, want)
		}
	}
}

// What destroys stands by itself on a page, below what is lost and when it is right.
func TestPagesKeepWhatDestroysApart(t *testing.T) {
	files, err := generate([]byte(`
faults:
- code: ANX199
  name: Gone
  title: T
  symptom: S
  cause: C
  severity: info
  remedy:
  - {does: looks, remark: how it is, command: 'kubectl get pod {{.Pod}}'}
  - {remark: wait for it}
  - {does: changes, command: 'kubectl annotate pod {{.Pod}} a=b'}
  - {does: destroys, command: 'kubectl delete pod {{.Pod}}', loses: 'Pod {{.Pod}}', onlyIf: it is nobody's}
`))
	if err != nil {
		t.Fatal(err)
	}
	const want = "## What to do\n\nLook first; this changes nothing:\n\n```sh\n# how it is\nkubectl get pod POD\n```\n\n" +
		"Then mend:\n\n```sh\n# wait for it\nkubectl annotate pod POD a=b\n```\n\n" +
		"**This takes away Pod POD.** Do it only if it is nobody's:\n\n```sh\nkubectl delete pod POD\n```\n\n`annex doctor` fills"
	if got := string(files[pages+"/ANX199.md"]); !strings.Contains(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
