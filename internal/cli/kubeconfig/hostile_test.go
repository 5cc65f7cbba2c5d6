package kubeconfig

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// plugin is a user whose credentials a shell command gives. It is run for servers with TLS alone.
func plugin(script string) string {
	return fmt.Sprintf(`{exec: {apiVersion: client.authentication.k8s.io/v1, command: sh, args: ["-c", %q, %q], interactiveMode: IfAvailable}}`, script, secret)
}

func TestCommandsForCredentials(t *testing.T) {
	dir := home(t)
	var tokens []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tokens = append(tokens, r.Header.Get("Authorization"))
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"kind":"NamespaceList","apiVersion":"v1","items":[]}`))
	}))
	t.Cleanup(server.Close)
	connect := func(script string) *Connection {
		t.Helper()
		file := write(t, dir, "config", kubeconfigOf(server.URL, plugin(script)))
		c, err := (&Flags{Kubeconfig: file, InsecureSkipTLSVerify: true}).Connect("test")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	runs := filepath.Join(dir, "runs")
	good := connect(`echo x >> ` + runs + `; echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"of-the-command"}}'`)
	if err := good.Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := ask(good, t); err != nil {
		t.Fatal(err)
	}
	if len(tokens) != 1 || tokens[0] != "Bearer of-the-command" {
		t.Errorf("the server is shown %q", tokens)
	}
	if b, err := os.ReadFile(runs); err != nil || string(b) != "x\n" {
		t.Errorf("the command ran %q times (%v)", b, err)
	}
	const remedy = "run it by hand"
	check(t, connect("read answer; exit 3").Login(t.Context()), `the command "sh"`, "exit code 3", remedy)
	check(t, connect(`printf '\033[31m'`).Login(t.Context()), `the command "sh"`, remedy)
	// It ends with the test, so that nothing is left behind.
	hanging := "while [ -e " + runs + " ]; do sleep 0.1; done"
	check(t, connect(hanging+"; # 1").login(t.Context(), 50*time.Millisecond), `the command "sh"`, "not ended within 50ms", remedy)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	check(t, connect(hanging+"; # 2").Login(ctx), "cannot log in", "no answer in time")
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := connect(hanging + "; # 3").Login(stopped); !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "stopped before") {
		t.Errorf("stopped: %v", err)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	dir := home(t)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("another server is shown %q", r.Header.Get("Authorization"))
	}))
	t.Cleanup(elsewhere.Close)
	server := httptest.NewTLSServer(http.RedirectHandler(elsewhere.URL, http.StatusFound))
	t.Cleanup(server.Close)
	file := write(t, dir, "config", kubeconfigOf(server.URL, "{token: "+secret+"}"))
	c, err := (&Flags{Kubeconfig: file, InsecureSkipTLSVerify: true}).Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	err = c.Explain("list", ask(c, t))
	check(t, err, "leads to another address, which is not followed", "check the address")
	if strings.Contains(err.Error(), "/api/v1/") {
		t.Errorf("it tells a path that nobody asked for: %v", err)
	}
}

func TestFilesWithoutEndAreNotRead(t *testing.T) {
	dir := home(t)
	large := write(t, dir, "large", "")
	if err := os.Truncate(large, maxFile+1); err != nil {
		t.Fatal(err)
	}
	good := write(t, dir, "good", kubeconfigOf("https://127.0.0.1:1", "{token: x}"))
	for name, f := range map[string]Flags{
		"kubeconfig":            {Kubeconfig: "/dev/zero"},
		"large kubeconfig":      {Kubeconfig: large},
		"--token-file":          {Kubeconfig: good, TokenFile: "/dev/zero"},
		"--client-key":          {Kubeconfig: good, ClientKey: "/dev/zero"},
		"authority":             {Kubeconfig: good, CertificateAuthority: "/dev/zero"},
		"tokenFile of the user": {Kubeconfig: write(t, dir, "token", kubeconfigOf("https://127.0.0.1:1", "{tokenFile: /dev/zero}"))},
		"key of the user":       {Kubeconfig: write(t, dir, "key", kubeconfigOf("https://127.0.0.1:1", "{client-certificate: /dev/zero, client-key: /dev/zero}"))},
	} {
		_, err := f.Connect("test")
		if err == nil {
			t.Errorf("%s is read", name)
			continue
		}
		check(t, err, "no file of a configuration", "name another")
	}
	if _, err := (&Flags{Kubeconfig: os.DevNull, Server: "http://127.0.0.1:1"}).Connect("test"); err != nil {
		t.Errorf("an empty kubeconfig: %v", err)
	}
}

func TestWhatAServerSaysBesideItsAnswer(t *testing.T) {
	home(t)
	code := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Warning", "299 - \"\u009b31mred\"")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"InternalError","message":"\u001b[31mred","code":500}`))
	}))
	t.Cleanup(server.Close)
	c, err := (&Flags{Server: server.URL}).Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	if c.Config.WarningHandler == nil {
		t.Error("warnings go to the error stream as they are")
	}
	code = http.StatusInternalServerError
	client, err := kubernetes.NewForConfig(c.Config)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
	check(t, c.Explain("list", err), "answers: \ufffd[31mred", "/readyz?verbose")
}

// A proxy's refusal is not the API server's.
func TestAProxyThatRefusesIsNamed(t *testing.T) {
	dir := home(t)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "not through here", http.StatusMethodNotAllowed)
	}))
	t.Cleanup(proxy.Close)
	address := strings.TrimPrefix(proxy.URL, "http://")
	file := write(t, dir, "config", kubeconfigOf("https://api.test", "{token: x}"))
	c, err := (&Flags{Kubeconfig: file, ProxyURL: "http://jane:" + secret + "@" + address}).Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	check(t, c.Explain("list", ask(c, t)), "https://api.test through the proxy "+address, "Method Not Allowed")
}
