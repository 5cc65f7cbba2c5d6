package console

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// ask sends a request and gives the answer with its body.
func ask(t *testing.T, h http.Handler, method, path string, header ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://console.test"+path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		if r.Header.Set(header[i], header[i+1]); header[i] == "Host" {
			r.Host = header[i+1]
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Result(), string(body)
}

func TestFilesOfThePage(t *testing.T) {
	h := Handler(Options{})
	for path, kind := range map[string]string{
		"/console/":             "text/html",
		"/console/app.js":       "text/javascript",
		"/console/app.css":      "text/css",
		"/console/icon.svg":     "image/svg+xml",
		"/console/licenses.txt": "text/plain",
	} {
		r, body := ask(t, h, http.MethodGet, path)
		if r.StatusCode != http.StatusOK || !strings.HasPrefix(r.Header.Get("Content-Type"), kind) || body == "" {
			t.Errorf("%s: %d, %s, %d bytes", path, r.StatusCode, r.Header.Get("Content-Type"), len(body))
		}
		if r, body := ask(t, h, http.MethodGet, path, "If-None-Match", r.Header.Get("ETag")); r.StatusCode != http.StatusNotModified || body != "" {
			t.Errorf("%s again: %d, %d bytes", path, r.StatusCode, len(body))
		}
		if r, body := ask(t, h, http.MethodHead, path); r.StatusCode != http.StatusOK || body != "" {
			t.Errorf("HEAD %s: %d, %d bytes", path, r.StatusCode, len(body))
		}
	}
	if r, _ := ask(t, h, http.MethodGet, "/console"); r.StatusCode != http.StatusMovedPermanently || r.Header.Get("Location") != "console/" {
		t.Errorf("without a slash: %d to %q", r.StatusCode, r.Header.Get("Location"))
	}
	for _, path := range []string{"/console/sources.sha256", "/console/dist/app.js", "/console/nothing", "/console/api/", "/console/../secret"} {
		if r, _ := ask(t, h, http.MethodGet, path); r.StatusCode == http.StatusOK {
			t.Errorf("%s is served", path)
		}
	}
}

func TestThePageLoadsNothingButItsOwn(t *testing.T) {
	_, body := ask(t, Handler(Options{}), http.MethodGet, "/console/")
	for _, bad := range []string{"http:", "https:", "//", "style=", "<style", "onload"} {
		if strings.Contains(body, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	if strings.Count(body, "<script") != strings.Count(body, `<script type="module" src=`) {
		t.Error("the page holds a script of its own")
	}
}

func TestHeadersOfEveryAnswer(t *testing.T) {
	h := Handler(Options{Hosts: []string{"console.test"}})
	for _, c := range []struct {
		method, path string
		header       []string
	}{
		{"GET", "/console/", nil},
		{"GET", "/console/app.js", nil},
		{"GET", "/console/none", nil},
		{"GET", "/console/api/about", nil},
		{"POST", "/console/", nil},
		{"GET", "/console/", []string{"Host", "evil.test"}},
	} {
		r, _ := ask(t, h, c.method, c.path, c.header...)
		csp := r.Header.Get("Content-Security-Policy")
		for _, must := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
			if !strings.Contains(csp, must) {
				t.Errorf("%s %s: the policy %q lacks %s", c.method, c.path, csp, must)
			}
		}
		if strings.Contains(csp, "unsafe") {
			t.Errorf("%s %s: the policy is %q", c.method, c.path, csp)
		}
		if r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s %s: the headers are %v", c.method, c.path, r.Header)
		}
	}
}

func TestWhoIsAnswered(t *testing.T) {
	h := Handler(Options{Hosts: []string{"console.test"}})
	for name, c := range map[string]struct {
		method string
		header []string
		code   int
	}{
		"a program":                    {"GET", nil, 200},
		"the address bar":              {"GET", []string{"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 200},
		"the page itself":              {"GET", []string{"Sec-Fetch-Site", "same-origin", "Origin", "http://console.test"}, 200},
		"the page behind a proxy":      {"GET", []string{"Sec-Fetch-Site", "same-origin", "Origin", "http://127.0.0.1:8001"}, 200},
		"a link of another site":       {"GET", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 200},
		"a rebound name":               {"GET", []string{"Host", "evil.test"}, 421},
		"a rebound name with our port": {"GET", []string{"Host", "evil.test:8080", "Origin", "http://evil.test:8080"}, 421},
		"a script of another site":     {"GET", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors"}, 403},
		"a frame of another site":      {"GET", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}, 403},
		"another port of this host":    {"GET", []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors"}, 403},
		"another origin":               {"GET", []string{"Origin", "http://evil.test"}, 403},
		"no origin to speak of":        {"GET", []string{"Origin", "null"}, 403},
		"a write":                      {"POST", nil, 405},
		"another method":               {"DELETE", nil, 405},
	} {
		if r, body := ask(t, h, c.method, "/console/", c.header...); r.StatusCode != c.code {
			t.Errorf("%s: %d %s, want %d", name, r.StatusCode, body, c.code)
		}
	}
	for name, allow := range map[string]func(*http.Request) (bool, error){
		"no":       func(*http.Request) (bool, error) { return false, nil },
		"an error": func(*http.Request) (bool, error) { return true, errors.New("the secret reason") },
	} {
		h := Handler(Options{Allowed: allow})
		for _, path := range []string{"/console/", "/console/app.js", "/console/api/about", "/console/api/doctor?name=a", "/console/none"} {
			if r, body := ask(t, h, http.MethodGet, path); r.StatusCode != http.StatusForbidden || strings.Contains(body, "secret") {
				t.Errorf("%s, %s: %d %s", name, path, r.StatusCode, body)
			}
		}
	}
}

func TestDoctor(t *testing.T) {
	if r, _ := ask(t, Handler(Options{}), http.MethodGet, "/console/api/doctor?name=a"); r.StatusCode != http.StatusNotImplemented {
		t.Errorf("without a doctor: %d", r.StatusCode)
	}
	h := Handler(Options{Cluster: "here", Server: "https://api.test", Diagnose: func(r *http.Request, name string) (Verdict, error) {
		if _, bounded := r.Context().Deadline(); !bounded {
			t.Error("a diagnosis has no end")
		}
		switch name {
		case "fails":
			return Verdict{}, errors.New("no such APIService")
		case "hangs":
			return Verdict{}, context.DeadlineExceeded
		}
		return Verdict{Summary: "<b>bad</b>", Findings: []Finding{{Code: "ANX101", Remedy: []Action{{Does: "looks", Command: "kubectl get pods"}}}}}, nil
	}})
	var told about
	if _, body := ask(t, h, http.MethodGet, "/console/api/about"); json.Unmarshal([]byte(body), &told) != nil || told != (about{"here", "https://api.test", true}) {
		t.Errorf("about is %s", body)
	}
	for query, code := range map[string]int{
		"?name=v1.a": 200, "": 400, "?name=": 400, "?name=" + strings.Repeat("a", 254): 400, "?name=..": 400, "?name=v1%2f..%2fsecrets": 400, "?name=%1b%5b31m": 400, "?name=fails": 502, "?name=hangs": 504,
	} {
		r, body := ask(t, h, http.MethodGet, "/console/api/doctor"+query)
		if r.StatusCode != code || r.Header.Get("Content-Type") != "application/json" || strings.Contains(body, "<") {
			t.Errorf("%q: %d %s, want %d", query, r.StatusCode, body, code)
		}
	}
}

func TestDoctorIsAskedByFewAtATime(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	h := Handler(Options{Diagnose: func(*http.Request, string) (Verdict, error) {
		begun <- struct{}{}
		<-end
		return Verdict{}, nil
	}})
	done := make(chan int)
	for range maxDiagnoses {
		go func() {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/console/api/doctor?name=a", nil))
			done <- w.Code
		}()
		<-begun
	}
	if r, _ := ask(t, h, http.MethodGet, "/console/api/doctor?name=a"); r.StatusCode != http.StatusTooManyRequests || r.Header.Get("Retry-After") == "" {
		t.Errorf("one more: %d", r.StatusCode)
	}
	close(end)
	for range maxDiagnoses {
		if code := <-done; code != http.StatusOK {
			t.Errorf("one of the first: %d", code)
		}
	}
}

func TestOnlyFilesAreFiles(t *testing.T) {
	for path, want := range map[string]bool{
		"/console/": true, "/console/app.js": true, "/console/app.css": true, "/console/index.html": true,
		"/console": false, "/": false, "": false, "/console/api/about": false, "/console/api/": false, "/console/app.js/": false,
		"/console/../api": false, "/console/x/../api/about": false, "//console/app.js": false, "/x/console/app.js": false,
	} {
		if got := IsFile(path); got != want {
			t.Errorf("%q: got %v", path, got)
		}
	}
}
