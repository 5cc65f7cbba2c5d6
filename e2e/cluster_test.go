package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/annex-api/annex/internal/testcerts"
)

// cluster is a server that annex up runs.
type cluster struct {
	*process
	dir        string
	kubeconfig string
	admin      *rest.Config
	kube       kubernetes.Interface
	dynamic    dynamic.Interface
}

// launchUp runs annex up on a data directory and waits until it is ready.
func launchUp(dir string, args ...string) (*cluster, error) {
	p, err := launch(command{name: "annex", args: append([]string{"up", "--data-dir=" + dir}, args...)})
	if err != nil {
		return nil, err
	}
	if _, err := p.awaitOutput(p.stdout, "Ctrl-C stops it."); err != nil {
		p.kill()
		return nil, err
	}
	c := &cluster{process: p, dir: dir, kubeconfig: filepath.Join(dir, "admin.kubeconfig")}
	if err := c.connect(); err != nil {
		p.kill()
		return nil, err
	}
	return c, nil
}

// connect makes the admin's clients from the kubeconfig.
func (c *cluster) connect() (err error) {
	if c.admin, err = clientcmd.BuildConfigFromFlags("", c.kubeconfig); err != nil {
		return err
	}
	c.admin.QPS = -1
	if c.kube, err = kubernetes.NewForConfig(c.admin); err != nil {
		return err
	}
	c.dynamic, err = dynamic.NewForConfig(c.admin)
	return err
}

// startUp is launchUp for one test; a free port and the log on standard error unless args say
// otherwise.
func startUp(t *testing.T, dir string, args ...string) *cluster {
	t.Helper()
	c, err := launchUp(dir, append([]string{"--port=0"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.end()
		c.show(t)
		if t.Failed() {
			if log, err := os.ReadFile(filepath.Join(dir, "server.log")); err == nil {
				t.Logf("server.log:\n%s", tail(string(log)))
			}
		}
	})
	return c
}

func (c *cluster) pki(name string) string { return filepath.Join(c.dir, "pki", name) }

// etcd is the URL of the embedded etcd.
func (c *cluster) etcd() string { return "unix://" + filepath.Join(c.dir, "etcd", "etcd.sock") }

// user returns a configuration for a user with a certificate of the cluster's own authority.
func (c *cluster) user(t *testing.T, name string, groups ...string) *rest.Config {
	t.Helper()
	ca, err := loadAuthority(c.pki("ca"))
	if err != nil {
		t.Fatal(err)
	}
	pair := ca.Issue(testcerts.Subject{Name: name, Groups: groups})
	config := rest.AnonymousClientConfig(c.admin)
	config.CertData, config.KeyData, config.QPS = pair.Cert, pair.Key, -1
	return config
}

// kubectl runs kubectl as the admin and fails the test when it fails.
func (c *cluster) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return kubectl(t, c.kubeconfig, "", args...)
}

// kubectl runs kubectl with a file as its input.
func kubectl(t *testing.T, kubeconfig, input string, args ...string) string {
	t.Helper()
	out, err := tryKubectl(t, kubeconfig, input, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tryKubectl(t *testing.T, kubeconfig, input string, args ...string) (string, error) {
	t.Helper()
	if input != "" {
		file := filepath.Join(t.TempDir(), "input.yaml")
		if err := os.WriteFile(file, []byte(input), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--filename="+file)
	}
	code, out, errOut := run(t, command{name: "kubectl", args: args, env: []string{"KUBECONFIG=" + kubeconfig, "KUBE_EDITOR=sed -i s/before/after/"}})
	if code != 0 {
		return out, fmt.Errorf("kubectl %s: exit code %d: %s%s", strings.Join(args, " "), code, out, errOut)
	}
	return out, nil
}

// writeKubeconfig writes a kubeconfig for a configuration.
func writeKubeconfig(path string, config *rest.Config) error {
	k := api.NewConfig()
	k.Clusters["c"] = &api.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	k.AuthInfos["u"] = &api.AuthInfo{Token: config.BearerToken, ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}
	k.Contexts["x"] = &api.Context{Cluster: "c", AuthInfo: "u"}
	k.CurrentContext = "x"
	return clientcmd.WriteToFile(*k, path)
}

// answer is a whole HTTP answer.
type answer struct {
	code   int
	header http.Header
	body   string
}

// do sends one request with the credentials of config. The header is given as name and value.
func do(ctx context.Context, config *rest.Config, method, path, body string, header ...string) (answer, error) {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, method, config.Host+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(text)}, err
}

// get is do that fails the test when there is no answer.
func get(t *testing.T, config *rest.Config, path string, header ...string) answer {
	t.Helper()
	a, err := do(t.Context(), config, http.MethodGet, path, "", header...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// handedOut are the ports that freePort has returned.
var handedOut sync.Map

// freePort returns a port of loopback that was free a moment ago, each once. It is below those that
// the kernel gives to whoever asks for any.
func freePort() (int, error) {
	for tries := 0; ; tries++ {
		port := 10_000 + rand.IntN(22_000)
		if _, taken := handedOut.LoadOrStore(port, true); taken {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
		if tries > 100 {
			return 0, err
		}
	}
}

func port(t *testing.T) string {
	t.Helper()
	p, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(p)
}

// shortTemp is a folder whose path leaves room for a socket's name.
func shortTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "annex-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the test's folder: %v", err)
		}
	})
	return dir
}
