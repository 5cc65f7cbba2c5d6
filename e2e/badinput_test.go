package e2e

import (
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/annex-api/annex/internal/testcerts"
)

// oneSentence asserts what every refused command line prints: exit code 1, nothing on standard
// output, and one line on standard error, which names each of the things.
func oneSentence(t *testing.T, code int, stdout, stderr string, names ...string) {
	t.Helper()
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if stdout != "" {
		t.Errorf("standard output: %q, want none", stdout)
	}
	lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
	// annex up tells of its steps, and annex serve logs what kube-apiserver logs about its flags.
	lines = slices.DeleteFunc(lines, regexp.MustCompile(`^([A-Za-z ]+: (done|failed) in [0-9.]+s$|[IW][0-9]{4} )`).MatchString)
	if len(lines) != 1 || len(lines[0]) > 600 {
		t.Errorf("standard error has %d lines, want one sentence:\n%s", len(lines), tail(stderr))
	}
	expect(t, "standard error", stderr, names...)
}

// refused runs annex and asserts one sentence.
func refused(t *testing.T, args []string, names ...string) {
	t.Helper()
	code, out, errOut := run(t, command{name: "annex", args: args})
	oneSentence(t, code, out, errOut, names...)
}

// serveFlags are what annex serve needs, with certificates and keys in dir.
func serveFlags(t *testing.T, dir string) (*testcerts.Authority, []string) {
	t.Helper()
	ca := testcerts.New("test-ca")
	serving, servingKey := writePair(t, ca, dir, testcerts.Subject{Name: "apiserver", Hosts: []string{"localhost", "127.0.0.1", "kubernetes.default.svc"}})
	proxy, proxyKey := writePair(t, ca, dir, testcerts.Subject{Name: "front-proxy-client"})
	account, accountKey := writePair(t, ca, dir, testcerts.Subject{Name: "sa"})
	caFile := filepath.Join(dir, "ca.crt")
	if err := os.WriteFile(caFile, ca.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	return ca, []string{
		"--bind-address=127.0.0.1", "--authorization-mode=Node,RBAC", "--client-ca-file=" + caFile,
		"--tls-cert-file=" + serving, "--tls-private-key-file=" + servingKey,
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + account, "--service-account-signing-key-file=" + accountKey,
		"--service-cluster-ip-range=10.96.0.0/12",
		"--requestheader-client-ca-file=" + caFile, "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group", "--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + proxy, "--proxy-client-key-file=" + proxyKey,
	}
}

func TestBadFlags(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	takenPort := strconv.Itoa(taken.Addr().(*net.TCPAddr).Port)
	dir := shortTemp(t)
	ca, flags := serveFlags(t, dir)
	data := filepath.Join(dir, "data")
	garbage := filepath.Join(dir, "garbage.crt")
	if err := os.WriteFile(garbage, []byte("-----BEGIN CERTIFICATE-----\nbm90IG9uZQ==\n-----END CERTIFICATE-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	future, futureKey := writePair(t, ca, dir, testcerts.Subject{Name: "future", NotBefore: time.Now().Add(time.Hour)})
	_, otherKey := writePair(t, ca, dir, testcerts.Subject{Name: "other"})
	serve := func(more ...string) []string {
		return append(append([]string{"serve", "--data-dir=" + data, "--secure-port=" + port(t)}, flags...), more...)
	}
	for name, c := range map[string]struct{ args, names []string }{
		"unknown verb":            {[]string{"upp"}, []string{`"upp"`, "up"}},
		"unknown flag of up":      {[]string{"up", "--data-dri=/x"}, []string{"--data-dri", "--data-dir"}},
		"unknown flag of serve":   {serve("--etcd-server=x"), []string{"--etcd-server", "--etcd-servers"}},
		"unknown flag behind --":  {[]string{"up", "--data-dir=" + data, "--port=0", "--", "--no-such-flag"}, []string{"--no-such-flag"}},
		"argument":                {[]string{"up", "now"}, []string{`"now"`}},
		"port out of range":       {[]string{"up", "--port=70000", "--data-dir=" + data}, []string{"70000", "65535"}},
		"no number":               {[]string{"up", "--port=many"}, []string{"--port", "many"}},
		"taken port of up":        {[]string{"up", "--data-dir=" + data, "--port=" + takenPort}, []string{takenPort, fmt.Sprintf("process %d", os.Getpid())}},
		"taken port of serve":     {serve("--secure-port=" + takenPort), []string{takenPort, fmt.Sprintf("process %d", os.Getpid())}},
		"foreign address":         {[]string{"up", "--data-dir=" + data, "--bind-address=192.0.2.1", "--port=0"}, []string{"192.0.2.1"}},
		"certificate":             {serve("--tls-cert-file=" + garbage), []string{garbage, "--tls-cert-file"}},
		"certificate absent":      {serve("--tls-cert-file=" + dir + "/none"), []string{dir + "/none", "--tls-cert-file"}},
		"key of another":          {serve("--tls-private-key-file=" + otherKey), []string{otherKey, "--tls-private-key-file"}},
		"proxy certificate":       {serve("--proxy-client-cert-file=" + garbage), []string{garbage, "--proxy-client-cert-file"}},
		"client CA":               {serve("--client-ca-file=" + garbage), []string{garbage, "--client-ca-file"}},
		"front proxy CA":          {serve("--requestheader-client-ca-file=" + garbage), []string{garbage, "--requestheader-client-ca-file"}},
		"service account key":     {serve("--service-account-key-file=" + garbage), []string{garbage, "--service-account-key-file"}},
		"clock before":            {serve("--tls-cert-file="+future, "--tls-private-key-file="+futureKey), []string{future, "clock"}},
		"flag of a wrong kind":    {serve("--max-requests-inflight=lots"), []string{"--max-requests-inflight", "lots"}},
		"unknown feature gate":    {serve("--feature-gates=NoSuchGate=true"), []string{"NoSuchGate"}},
		"unreachable etcd":        {serve("--etcd-servers=http://127.0.0.1:1"), []string{"http://127.0.0.1:1", "--etcd-servers"}},
		"unreachable etcd of up":  {[]string{"up", "--data-dir=" + data + "-up", "--port=0", "--quiet", "--", "--etcd-servers=https://127.0.0.1:1"}, []string{"https://127.0.0.1:1"}},
		"no service account flag": {[]string{"serve", "--data-dir=" + data, "--bind-address=127.0.0.1", "--secure-port=" + port(t), "--cert-dir=" + dir}, []string{"service-account"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused(t, c.args, c.names...)
			if _, err := os.Stat(data); err == nil {
				t.Errorf("it made %s", data)
			}
		})
	}
}

func TestBadDataDirectory(t *testing.T) {
	t.Parallel()
	dir := shortTemp(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	foreign := filepath.Join(dir, "foreign")
	closed := filepath.Join(dir, "closed")
	for _, err := range []error{
		os.WriteFile(file, []byte("x"), 0o600),
		os.Mkdir(foreign, 0o700), os.WriteFile(filepath.Join(foreign, "thesis.txt"), []byte("dear"), 0o600),
		os.Mkdir(closed, 0o555),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	before := files(t, dir)
	for name, c := range map[string]struct {
		path  string
		names []string
	}{
		"a file":       {file, []string{file}},
		"below a file": {filepath.Join(file, "data"), []string{filepath.Join(file, "data")}},
		"foreign":      {foreign, []string{foreign, "thesis.txt"}},
		"not writable": {filepath.Join(closed, "data"), []string{filepath.Join(closed, "data")}},
	} {
		for verb, args := range map[string][]string{"up": {"up", "--port=0"}, "serve": nil} {
			t.Run(name+" "+verb, func(t *testing.T) {
				cmd := command{name: "annex", args: append(args, "--data-dir="+c.path)}
				if verb == "serve" {
					flags := t.TempDir()
					_, serve := serveFlags(t, flags)
					cmd.args = append([]string{"serve", "--secure-port=" + port(t)}, append(serve, cmd.args...)...)
				}
				if name == "not writable" && os.Geteuid() == 0 {
					if verb == "serve" {
						return // another user cannot read the keys
					}
					cmd.user = &syscall.Credential{Uid: 65534, Gid: 65534}
				}
				code, out, errOut := run(t, cmd)
				oneSentence(t, code, out, errOut, c.names...)
			})
		}
	}
	if after := files(t, dir); !maps.Equal(before, after) {
		t.Errorf("files before %v, after %v", before, after)
	}
}

// TestBrokenData breaks the data of a server that has ended, in every way that a disk does.
func TestBrokenData(t *testing.T) {
	t.Parallel()
	root := shortTemp(t)
	origin := filepath.Join(root, "origin")
	c := startUp(t, origin)
	c.kubectl(t, "create", "configmap", "x")
	c.signal(syscall.SIGINT)
	if code := c.exitCode(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	const db = "etcd/member/snap/db"
	wal := func(dir string) string {
		found, err := filepath.Glob(filepath.Join(dir, "etcd/member/wal/*.wal"))
		if err != nil || len(found) == 0 {
			t.Fatalf("no write-ahead log: %v", err)
		}
		return found[0]
	}
	overwrite := func(path string, from, to int64) error {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		if _, err := f.WriteAt([]byte(strings.Repeat("\xa5", int(to-from))), from); err != nil {
			f.Close()
			return err
		}
		return f.Close()
	}
	for name, b := range map[string]struct {
		damage func(dir string) error
		names  []string
	}{
		"database cut off":       {func(dir string) error { return os.Truncate(filepath.Join(dir, db), 20<<10) }, []string{"snap/db"}},
		"database overwritten":   {func(dir string) error { return overwrite(filepath.Join(dir, db), 0, 64<<10) }, []string{"snap/db"}},
		"database removed":       {func(dir string) error { return os.Remove(filepath.Join(dir, db)) }, []string{"snap/db"}},
		"log overwritten":        {func(dir string) error { return overwrite(wal(dir), 0, 4<<10) }, []string{"/etcd"}},
		"log broken in between":  {func(dir string) error { return overwrite(wal(dir), 8<<10, 9<<10) }, []string{"/etcd"}},
		"log emptied":            {func(dir string) error { return os.Truncate(wal(dir), 0) }, []string{"/etcd"}},
		"log removed":            {func(dir string) error { return os.RemoveAll(filepath.Join(dir, "etcd/member/wal")) }, []string{"wal"}},
		"foreign file":           {func(dir string) error { return os.WriteFile(filepath.Join(dir, "etcd/thesis.txt"), nil, 0o600) }, []string{"thesis.txt"}},
		"server certificate":     {func(dir string) error { return overwrite(filepath.Join(dir, "pki/apiserver.crt"), 0, 40) }, []string{"pki/apiserver.crt"}},
		"authority's key":        {func(dir string) error { return overwrite(filepath.Join(dir, "pki/ca.key"), 0, 40) }, []string{"pki/ca.key"}},
		"clock before the start": {futureCertificate, []string{"pki/apiserver.crt", "clock"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(root, strings.ReplaceAll(name, " ", "-"))
			copyRegular(t, origin, dir)
			if err := b.damage(dir); err != nil {
				t.Fatal(err)
			}
			kept := files(t, dir)
			code, out, errOut := run(t, command{name: "annex", args: []string{"up", "--data-dir=" + dir, "--port=0"}})
			oneSentence(t, code, out, errOut, append(b.names, dir)...)
			after := files(t, dir)
			for path, content := range kept {
				// Its log and the kubeconfig, which names the port, may change; the data may not.
				if inData := strings.Contains(path, "/member/") || strings.Contains(path, "/pki/"); inData && after[path] != content {
					t.Errorf("%s has changed", path)
				}
			}
		})
	}
}

// futureCertificate replaces the server's certificate by one that is not valid yet.
func futureCertificate(dir string) error {
	ca, err := loadAuthority(filepath.Join(dir, "pki", "ca"))
	if err != nil {
		return err
	}
	_, _, err = ca.Issue(testcerts.Subject{Name: "apiserver", Hosts: []string{"localhost", "127.0.0.1"}, NotBefore: time.Now().Add(time.Hour)}).Write(filepath.Join(dir, "pki"), "apiserver")
	return err
}

// copyRegular copies folders and regular files with their modes.
func copyRegular(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o700)
		case d.Type().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(target, b, 0o600)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestMalformedAPIService is refused when it is written, with the field's path.
func TestMalformedAPIService(t *testing.T) {
	t.Parallel()
	e := shared(t)
	manifest := func(name, spec string) string {
		return "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {name: " + name + "}\nspec: " + spec + "\n"
	}
	for name, c := range map[string]struct{ name, spec, field string }{
		"name":         {"v1.other", "{group: bad.example.com, version: v1, groupPriorityMinimum: 1, versionPriority: 1, service: {namespace: a, name: b}}", "metadata.name"},
		"group":        {"v1.Bad_", "{group: Bad_, version: v1, groupPriorityMinimum: 1, versionPriority: 1, service: {namespace: a, name: b}}", "spec.group"},
		"priority":     {"v1.bad.example.com", "{group: bad.example.com, version: v1, groupPriorityMinimum: 20001, versionPriority: 1, service: {namespace: a, name: b}}", "spec.groupPriorityMinimum"},
		"no namespace": {"v1.bad.example.com", "{group: bad.example.com, version: v1, groupPriorityMinimum: 1, versionPriority: 1, service: {name: b}}", "spec.service.namespace"},
		"port":         {"v1.bad.example.com", "{group: bad.example.com, version: v1, groupPriorityMinimum: 1, versionPriority: 1, service: {namespace: a, name: b, port: 70000}}", "spec.service.port"},
		"insecure":     {"v1.bad.example.com", "{group: bad.example.com, version: v1, groupPriorityMinimum: 1, versionPriority: 1, insecureSkipTLSVerify: true, caBundle: eA==, service: {namespace: a, name: b}}", "spec.insecureSkipTLSVerify"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tryKubectl(t, e.kubeconfig, manifest(c.name, c.spec), "create")
			if err == nil || !strings.Contains(err.Error(), c.field) {
				t.Errorf("got %v, want it refused at %s", err, c.field)
			}
		})
	}
}
