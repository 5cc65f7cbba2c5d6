package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/internal/cli/terminal"
)

// run runs the command against an API server that answers paths so, and gives its exit code.
func run(t *testing.T, answers map[string]string, args ...string) (code int, out, failed string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		body, has := answers[r.URL.Path]
		switch {
		case !has:
			w.WriteHeader(http.StatusNotFound)
			body = `{"kind":"Status","status":"Failure","reason":"NotFound","code":404,"message":"not there"}`
		case body == "forbidden":
			w.WriteHeader(http.StatusForbidden)
			body = `{"kind":"Status","status":"Failure","reason":"Forbidden","code":403,"message":"User \"eve\" cannot list","details":{"group":"apiregistration.k8s.io","kind":"apiservices"}}`
		}
		fmt.Fprint(w, body)
	}))
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: %q}}]\ncontexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n", server.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	cmd := New(terminal.IO{Out: &b, Err: &b})
	cmd.SetArgs(append(args, "--kubeconfig", file))
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err := cmd.ExecuteContext(t.Context())
	if err != nil {
		var coded interface{ ExitCode() int }
		if !errors.As(err, &coded) {
			t.Fatalf("%v has no exit code", err)
		}
		return coded.ExitCode(), b.String(), err.Error()
	}
	return 0, b.String(), ""
}

const list = "/apis/apiregistration.k8s.io/v1/apiservices"

func apiServices(available string) string {
	return `{"items":[{"metadata":{"name":"v1.example.com"},"spec":{"group":"example.com","version":"v1","service":{"namespace":"shop","name":"things"}},
		"status":{"conditions":[{"type":"Available","status":"` + available + `","reason":"ServiceNotFound","message":"service/things in \"shop\" is not present"}]}}]}`
}

func TestExitCodes(t *testing.T) {
	gone := map[string]string{list: apiServices("False"), "/api/v1/namespaces/shop": `{"metadata":{"name":"shop"}}`}
	for name, c := range map[string]struct {
		answers     map[string]string
		args        []string
		code        int
		out, failed string
	}{
		"well":         {answers: map[string]string{list: apiServices("True")}, out: "1 APIService seems well."},
		"none":         {answers: map[string]string{list: `{"items":[]}`}, out: "there is nothing to look at"},
		"fault":        {answers: gone, code: 1, out: "\n1 APIService is at fault, 0 well.\n"},
		"near":         {answers: gone, args: []string{"v1.exampel.com"}, code: 1, out: "did you mean v1.example.com"},
		"forbidden":    {answers: map[string]string{list: "forbidden"}, code: 2, failed: `User "eve" cannot list`},
		"remedy":       {answers: map[string]string{list: "forbidden"}, code: 2, failed: "kubectl create clusterrole read-apiservices"},
		"no API":       {answers: map[string]string{list: "not JSON"}, code: 2, failed: "read the APIServices"},
		"bad flags":    {args: []string{"--all", "v1.example.com"}, code: 2, failed: "or look at --all"},
		"bad interval": {args: []string{"--wait", "--interval", "1ms"}, code: 2, failed: "is shorter than"},
		"json":         {answers: gone, args: []string{"-o", "json"}, code: 1, out: `"code": "ANX102"`, failed: "1 APIService is at fault"},
		"yaml":         {answers: gone, args: []string{"-o", "yaml"}, code: 1, out: "code: ANX102"},
		"junit":        {answers: gone, args: []string{"-o", "junit"}, code: 1, out: `<testsuite name="v1.example.com"`},
		"gives up":     {answers: gone, args: []string{"--wait", "--timeout", "2s", "--interval", "100ms"}, code: 1, out: "s  v1.example.com: ANX102 ", failed: "at fault after 2s"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, failed := run(t, c.answers, c.args...)
			if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(failed, c.failed) || name == "fault" && failed != "" {
				t.Errorf("exit %d, want %d; it wrote\n%s\nand failed with %q", code, c.code, out, failed)
			}
		})
	}
}

func TestJSONIsWhole(t *testing.T) {
	_, out, _ := run(t, map[string]string{list: apiServices("False")}, "-o", "json")
	var got outcome
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Remote != 1 || len(got.Reports) != 1 || got.Server == "" {
		t.Errorf("%v: %+v", err, got)
	}
}

func TestWaitTellsEachChangeOnce(t *testing.T) {
	well := outcome{Remote: 1, SeemWell: 1}
	looks := []struct {
		outcome
		error
	}{
		{error: errors.New("connection refused \x1b[2J")},
		{error: errors.New("connection refused \x1b[2J")},
		{outcome: outcome{Reports: []diagnosis.Report{broken()}}},
		{outcome: outcome{Reports: []diagnosis.Report{broken()}}},
		{outcome: well},
	}
	var b bytes.Buffer
	o := &Options{IO: terminal.IO{Out: &b, Err: &b}, Output: "text", Interval: time.Millisecond, Timeout: time.Minute, program: "annex"}
	next := 0
	err := o.wait(t.Context(), func(context.Context) (outcome, error) {
		next++
		return looks[next-1].outcome, looks[next-1].error
	})
	if err != nil || next != len(looks) {
		t.Fatalf("%v after %d looks", err, next)
	}
	var said []string
	for line := range strings.Lines(b.String()) {
		if _, text, isChange := strings.Cut(line, "s  "); isChange && strings.HasPrefix(line, " ") && !strings.Contains(line, "doctor") {
			said = append(said, strings.TrimSpace(text))
		}
	}
	want := []string{
		"could not ask: connection refused �[2J",
		"the API server answers", "v1beta1.metrics.k8s.io: ANX201 No Pod of the extension server is ready",
		"v1beta1.metrics.k8s.io: well",
	}
	if strings.Join(said, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", &b)
	}
	if !strings.Contains(b.String(), "1 APIService seems well.") {
		t.Errorf("the last look is not written:\n%s", &b)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	o := &Options{IO: terminal.IO{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}, Output: "text", Interval: time.Hour, Timeout: time.Hour}
	err := o.wait(ctx, func(context.Context) (outcome, error) {
		cancel()
		return outcome{Reports: []diagnosis.Report{broken()}}, nil
	})
	var stopped unasked
	if !errors.As(err, &stopped) {
		t.Errorf("got %v", err)
	}
}

// firstWrite is called when something is written first.
func firstWrite(call func()) io.Writer {
	var once sync.Once
	return writer(func(p []byte) (int, error) {
		once.Do(call)
		return len(p), nil
	})
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func TestWhatWasFoundBeforeItWasStoppedIsWritten(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	many := `{"items":[`
	for _, name := range []string{"v1.a.example.com", "v1.b.example.com"} {
		many += `{"metadata":{"name":"` + name + `"},"spec":{"group":"` + name[3:] + `","version":"v1","service":{"namespace":"shop","name":"` + name[3:4] + `"}},"status":{}},`
	}
	many = strings.TrimSuffix(many, ",") + "]}"
	looked := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == list:
			fmt.Fprint(w, many)
		case strings.HasSuffix(r.URL.Path, "/services/b"):
			select {
			case <-looked: // the other one is done
				stop()
			case <-r.Context().Done():
			}
			<-r.Context().Done()
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	var out bytes.Buffer
	o := &Options{IO: terminal.IO{Out: &out, Err: &out}, All: true, Output: "text", program: "annex"}
	o.Client.Server = server.URL
	now := time.Now()
	o.progress = &progress{terminal: true, w: firstWrite(func() { close(looked) }), now: func() time.Time {
		now = now.Add(progressAfter)
		return now
	}}
	err := o.run(ctx)
	var stopped unasked
	if !errors.As(err, &stopped) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if s := out.String(); !strings.Contains(s, "v1.a.example.com") || strings.Contains(s, "v1.b.example.com\n") || !strings.Contains(s, "It was stopped when 1 of 2 were looked at.") {
		t.Errorf("got\n%s", s)
	}
}

func TestAFileWithoutEndIsLeftWhereItIsStopped(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	in, end := io.Pipe()
	t.Cleanup(func() { _ = end.Close() })
	cmd := New(terminal.IO{Out: io.Discard, Err: io.Discard})
	cmd.SetIn(reader(func(p []byte) (int, error) {
		stop()
		return in.Read(p)
	}))
	cmd.SetArgs([]string{"-f", "-"})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(ctx) }()
	select {
	case err := <-ended:
		var coded unasked
		if !errors.As(err, &coded) || !strings.Contains(err.Error(), "stopped") {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("it does not end")
	}
}

type reader func([]byte) (int, error)

func (r reader) Read(p []byte) (int, error) { return r(p) }
