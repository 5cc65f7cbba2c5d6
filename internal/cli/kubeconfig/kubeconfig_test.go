package kubeconfig

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
)

const secret = "s3cr3t-of-the-user"

// kubeconfigOf has two contexts; the user's credentials are as given.
func kubeconfigOf(server, user string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: here
  cluster: {server: %q}
contexts:
- name: production
  context: {cluster: here, user: jane}
- name: staging
  context: {cluster: elsewhere, user: jane}
- name: nobody
  context: {cluster: here, user: joe}
current-context: production
users:
- name: jane
  user: %s
`, server, user)
}

// home is an environment without kubeconfig.
func home(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("KUBECONFIG", "")
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	t.Setenv("HTTPS_PROXY", "")
	t.Setenv("HTTP_PROXY", "")
	return dir
}

func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// check looks at what every error must be.
func check(t *testing.T, err error, want ...string) {
	t.Helper()
	var failed *Error
	if !errors.As(err, &failed) || failed.ExitCode() != 2 {
		t.Errorf("%v is no error with exit code 2", err)
		return
	}
	for _, part := range want {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	if strings.Contains(err.Error(), secret) {
		t.Errorf("%q tells the secret", err)
	}
	if len(err.Error()) > maxError || strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("%q is not one printable line", err)
	}
}

func TestWithoutKubeconfig(t *testing.T) {
	dir := home(t)
	_, err := (&Flags{}).Connect("test")
	check(t, err, "no kubeconfig: ", ".kube/config", `"annex up" starts a server`, "export KUBECONFIG=PATH")

	_, err = (&Flags{Kubeconfig: filepath.Join(dir, "none")}).Connect("test")
	check(t, err, filepath.Join(dir, "none")+" (of --kubeconfig) is not there")

	_, err = (&Flags{Context: "production"}).Connect("test")
	check(t, err, `there is no context "production": no kubeconfig`)

	t.Setenv("KUBECONFIG", "/one:/two")
	_, err = (&Flags{}).Connect("test")
	check(t, err, "/one, /two (of $KUBECONFIG) is not there")

	made := write(t, dir, ".local/share/annex/admin.kubeconfig", "")
	_, err = (&Flags{}).Connect("test")
	check(t, err, `"annex up" has written one: export KUBECONFIG=`+made)
}

func TestServerWithoutKubeconfig(t *testing.T) {
	home(t)
	c, err := (&Flags{Server: "http://jane:" + secret + "@127.0.0.1:1"}).Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	if c.Source != "the command line" || strings.Contains(c.Server, secret) || c.Config.Timeout != DefaultRequestTimeout {
		t.Errorf("got %+v, and a time-out of %v", c, c.Config.Timeout)
	}
	if c.Streaming().Timeout != 0 {
		t.Error("watches have a time-out")
	}
	if !strings.HasSuffix(c.Config.UserAgent, " test") {
		t.Errorf("the user agent is %q", c.Config.UserAgent)
	}
}

func TestWrongNames(t *testing.T) {
	dir := home(t)
	file := write(t, dir, "config", kubeconfigOf("https://127.0.0.1:1", "{token: "+secret+"}"))
	odd := write(t, dir, "odd", strings.Replace(kubeconfigOf("https://127.0.0.1:1", "{}"), "current-context: production", "", 1))
	for name, c := range map[string]struct {
		flags Flags
		want  []string
	}{
		"context, nearly":   {Flags{Context: "prodution"}, []string{`has no context "prodution"; did you mean production? There are: nobody, production, staging`}},
		"context":           {Flags{Context: "x\x1b[2J"}, []string{`has no context "x�[2J"; choose one with --context; there are: nobody`}},
		"no context":        {Flags{Kubeconfig: odd}, []string{"has no current context; choose one with --context; there are: nobody"}},
		"cluster":           {Flags{Cluster: "there"}, []string{`has no cluster "there", which --cluster names; there are: here`}},
		"context's cluster": {Flags{Context: "staging"}, []string{`has no cluster "elsewhere", which context "staging" names`}},
		"user":              {Flags{User: "jo"}, []string{`has no user "jo", which --user names; there are: jane`}},
		"context's user":    {Flags{Context: "nobody"}, []string{`has no user "joe", which context "nobody" names`}},
		"time-out":          {Flags{RequestTimeout: "soon"}, []string{`--request-timeout "soon" is not a time such as 10s`}},
		"past":              {Flags{RequestTimeout: "-1s"}, []string{`--request-timeout "-1s"`}},
		"extra":             {Flags{As: "x", AsUserExtra: []string{"y"}}, []string{`--as-user-extra "y" is not KEY=VALUE`}},
		"group":             {Flags{AsGroups: []string{"y"}}, []string{"name it with --as"}},
		"token file":        {Flags{TokenFile: dir + "/none"}, []string{dir + "/none"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.flags.Kubeconfig == "" {
				c.flags.Kubeconfig = file
			}
			_, err := c.flags.Connect("test")
			check(t, err, c.want...)
		})
	}
}

func TestFlagsGoBeforeTheKubeconfig(t *testing.T) {
	dir := home(t)
	token := write(t, dir, "token", secret+"\n")
	f := &Flags{
		Kubeconfig: write(t, dir, "config", kubeconfigOf("https://127.0.0.1:1", "{token: other}")),
		Server:     "https://127.0.0.1:2", TLSServerName: "name", As: "joe", AsUID: "1", AsGroups: []string{"a", "b"},
		AsUserExtra: []string{"k=v", "k=w=x"}, RequestTimeout: "3s", InsecureSkipTLSVerify: true,
	}
	c, err := f.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	got := c.Config
	if got.Host != f.Server || got.ServerName != "name" || !got.Insecure || got.Timeout != 3*time.Second || got.BearerToken != "other" ||
		got.Impersonate.UserName != "joe" || got.Impersonate.UID != "1" || !slices.Equal(got.Impersonate.Groups, f.AsGroups) ||
		!slices.Equal(got.Impersonate.Extra["k"], []string{"v", "w=x"}) {
		t.Errorf("got %v", got)
	}
	f = &Flags{Server: "https://127.0.0.1:2", TokenFile: token, RequestTimeout: "0"}
	if c, err = f.Connect("test"); err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(c.Config.BearerToken) != secret || c.Config.Timeout != 0 {
		t.Errorf("the token is %q, and the time-out %v", c.Config.BearerToken, c.Config.Timeout)
	}
}

// What is damaged is told without what stands in it.
func TestDamagedKubeconfigs(t *testing.T) {
	dir := home(t)
	encoded := base64.StdEncoding.EncodeToString([]byte(secret))
	for name, content := range map[string]string{
		"a token alone":       secret,
		"no YAML":             "users: [" + secret,
		"a wrong type":        kubeconfigOf("https://127.0.0.1:1", "{token: {"+secret+": "+secret+"}}"),
		"no base64":           kubeconfigOf("https://127.0.0.1:1", "{client-key-data: "+secret+"}"),
		"a key of nothing":    kubeconfigOf("https://127.0.0.1:1", "{client-key-data: "+encoded+"}"),
		"a proxy with secret": strings.Replace(kubeconfigOf("https://127.0.0.1:1", "{}"), "{server:", "{proxy-url: 'http://jane:"+secret+"@host:port', server:", 1),
		"a proxy of nothing":  strings.Replace(kubeconfigOf("https://127.0.0.1:1", "{}"), "{server:", "{proxy-url: 'gopher://jane:"+secret+"@host', server:", 1),
		"a server of nothing": kubeconfigOf("https://jane:"+secret+"@host:port", "{}"),
		"a certificate":       kubeconfigOf("https://127.0.0.1:1", "{client-certificate-data: "+encoded+", client-key-data: "+encoded+"}"),
	} {
		t.Run(name, func(t *testing.T) {
			c, err := (&Flags{Kubeconfig: write(t, dir, "config", content)}).Connect("test")
			if err == nil {
				err = c.Explain("ask", ask(c, t))
			}
			check(t, err)
		})
	}
	unreadable := write(t, dir, "unreadable", "")
	if err := os.Chmod(unreadable, 0); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 { // whom no mode keeps out
		_, err := (&Flags{Kubeconfig: unreadable}).Connect("test")
		check(t, err, unreadable+" may not be read by you")
	}
}

// ask lists namespaces.
func ask(c *Connection, t *testing.T) error {
	client, err := kubernetes.NewForConfig(c.Config)
	if err != nil {
		return err
	}
	_, err = client.CoreV1().Namespaces().List(Quiet(t.Context()), metav1.ListOptions{})
	return err
}

func TestRequestsThatFail(t *testing.T) {
	home(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	status := func(code int, status metav1.Status) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			status.Kind, status.APIVersion, status.Status, status.Code = "Status", "v1", "Failure", int32(code)
			status.Details.Group = "x.y"
			_ = json.NewEncoder(w).Encode(status) // a client that is gone needs no answer
		}
	}
	plain := func(h http.HandlerFunc) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL
	}
	secure := httptest.NewUnstartedServer(status(http.StatusUnauthorized, metav1.Status{Reason: metav1.StatusReasonUnauthorized, Details: &metav1.StatusDetails{}}))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	ca := write(t, t.TempDir(), "ca", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})))
	past, pastKey := certificate(t, time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour))
	future, futureKey := certificate(t, time.Now().Add(24*time.Hour), time.Now().Add(48*time.Hour))
	expired := tlsServer(t, past, pastKey)
	early := tlsServer(t, future, futureKey)
	hostile := "\x1b[2J" + strings.Repeat("x", 4<<20)
	for name, c := range map[string]struct {
		flags Flags
		want  []string
	}{
		"refused": {Flags{Server: "https://" + closed.Addr().String()}, []string{"nobody listens there (connection refused)", `"annex up" starts a server`}},
		"silent":  {Flags{Server: "https://" + silent.Addr().String(), RequestTimeout: "200ms"}, []string{"gave no answer in time", "--request-timeout"}},
		"no name": {Flags{Server: "https://nowhere.invalid"}, []string{`the name "nowhere.invalid" has no address here`}},
		"proxy": {
			Flags{Server: "https://nowhere.invalid", ProxyURL: "http://jane:" + secret + "@" + closed.Addr().String()},
			[]string{"cannot be reached through the proxy ", "(of --proxy-url", "connection refused"},
		},
		"no TLS": {Flags{Server: strings.Replace(plain(http.NotFound), "http:", "https:", 1)}, []string{"does not speak TLS"}},
		"forbidden": {
			Flags{Server: plain(status(403, metav1.Status{Reason: metav1.StatusReasonForbidden, Message: `User "jane" cannot list`, Details: &metav1.StatusDetails{Kind: "apiservices"}}))},
			[]string{"forbids it to you", `User "jane" cannot list`, "--verb=get,list,watch --resource=apiservices.x.y", "--user=USER"},
		},
		"forbidden, oddly": {
			Flags{Server: plain(status(403, metav1.Status{Reason: metav1.StatusReasonForbidden, Message: hostile, Details: &metav1.StatusDetails{Kind: "$(reboot)"}}))},
			[]string{"kubectl auth can-i --list"},
		},
		"not found":   {Flags{Server: plain(http.NotFound)}, []string{"check that this is the address of a Kubernetes API server"}},
		"unavailable": {Flags{Server: plain(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not yet", http.StatusServiceUnavailable) })}, []string{"is up, and has no answer now", "/readyz?verbose"}},
		"a page":      {Flags{Server: plain(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>" + hostile)) })}, []string{"check the address"}},
		"unknown CA":  {Flags{Server: secure.URL}, []string{"is not from the CA that is trusted", "--certificate-authority"}},
		"other name":  {Flags{Server: secure.URL, CertificateAuthority: ca, TLSServerName: "other"}, []string{"is for other names", "--tls-server-name"}},
		"unauthorized": {
			Flags{Server: secure.URL, CertificateAuthority: ca},
			[]string{"refuses the credentials (the command line)", "kubectl auth whoami"},
		},
		"client certificate expired": {
			Flags{Server: secure.URL, CertificateAuthority: ca, ClientCertificate: past, ClientKey: pastKey},
			[]string{"the client certificate expired on 20", "kubeadm certs renew"},
		},
		"client certificate from tomorrow": {
			Flags{Server: secure.URL, CertificateAuthority: ca, ClientCertificate: future, ClientKey: futureKey},
			[]string{"is valid from 20", "set the clock that is wrong"},
		},
		"server's certificate expired":       {Flags{Server: expired, CertificateAuthority: past}, []string{"expired on 20", "or set the clock"}},
		"server's certificate from tomorrow": {Flags{Server: early, CertificateAuthority: future}, []string{"is valid from 20", "set the clock that is wrong"}},
	} {
		t.Run(name, func(t *testing.T) {
			connection, err := c.flags.Connect("test")
			if err != nil {
				t.Fatal(err)
			}
			if err = ask(connection, t); err == nil {
				t.Fatal("the request succeeded")
			}
			check(t, connection.Explain("list APIServices", err), append(c.want, "cannot list APIServices: ")...)
		})
	}
}

func TestWhatWasAttemptedIsToldOnce(t *testing.T) {
	refused := apierrors.NewForbidden(schema.GroupResource{Group: "x.y", Resource: "apiservices"}, "", errors.New(`User "jane" cannot list`))
	err := (&Connection{Server: "https://here"}).Explain("list APIServices", fmt.Errorf("list APIServices: ask for /apis/x.y: forbidden: %w", refused))
	if text := err.Error(); strings.Count(text, "list APIServices") != 1 || strings.Contains(text, "ask for") || !strings.Contains(text, `User "jane" cannot list`) {
		t.Errorf("got %s", text)
	}
}

// certificate writes a certificate for 127.0.0.1, which is a CA too, and its key.
func certificate(t *testing.T, notBefore, notAfter time.Time) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: notBefore, NotAfter: notAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return write(t, dir, "cert", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		write(t, dir, "key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
}

func tlsServer(t *testing.T, cert, key string) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

func TestLongAnswersEnd(t *testing.T) {
	home(t)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for block := bytes.Repeat([]byte(" "), 1<<20); ; {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}))
	defer s.Close()
	c, err := (&Flags{Server: s.URL, RequestTimeout: "1m"}).Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	check(t, c.Explain("ask", ask(c, t)), "the answer is longer than 128 MiB")
}

func TestCompletionOfNames(t *testing.T) {
	dir := home(t)
	f := &Flags{}
	cmd := &cobra.Command{Use: "annex"}
	status := &cobra.Command{Use: "status", Run: func(*cobra.Command, []string) {}}
	f.Bind(status)
	cmd.AddCommand(status)
	file := write(t, dir, "config", kubeconfigOf("https://127.0.0.1:1", "{}"))
	for flag, want := range map[string]string{"--context": "nobody\nproduction\nstaging\n:4\n", "--cluster": "here\n:4\n", "--user": "jane\n:4\n"} {
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&bytes.Buffer{})
		cmd.SetArgs([]string{cobra.ShellCompNoDescRequestCmd, "status", "--kubeconfig", file, flag, ""})
		if err := cmd.Execute(); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("%s: got %q, want %q", flag, &out, want)
		}
	}
}
