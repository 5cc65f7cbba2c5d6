package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	aggregatorclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"

	"github.com/annex-api/annex/bench/internal/build"
	"github.com/annex-api/annex/bench/internal/host"
	"github.com/annex-api/annex/bench/internal/namespace"
	"github.com/annex-api/annex/bench/internal/pki"
	"github.com/annex-api/annex/diagnosis"
	command "github.com/annex-api/annex/internal/cli/doctor"
	"github.com/annex-api/annex/internal/cli/terminal"
)

const (
	// patience bounds every wait for something that is expected to happen.
	patience = time.Minute
	// node is where Pods run, unless they are elsewhere for a reason.
	node = "node-1"
	// looks is how many times doctor looks at once.
	looks = 3
)

// cluster is one API server, with a kubelet for its node.
type cluster struct {
	*host.Host
	name       string // build.Annex or build.Reference
	number     int
	dir        string
	kubeconfig string
	kubectl    string
	admin      *rest.Config
	operator   *rest.Config
	arguments  []string // of doctor, beside names
	kube       kubernetes.Interface
	aggregator aggregatorclient.Interface
	kubelet    *kubelet
	sites      atomic.Int64
	asked      chan question
	stop       context.CancelFunc
	done       sync.WaitGroup
}

var (
	startOnce sync.Once
	clusters  = map[string]*cluster{}
	errStart  error
	root      string
	binaries  map[string]string
)

// running are both API servers, started when the first test asks.
func running(t *testing.T) map[string]*cluster {
	t.Helper()
	startOnce.Do(func() { errStart = startAll(context.Background()) })
	if errStart != nil {
		t.Fatalf("start the servers: %v", errStart)
	}
	return clusters
}

func startAll(ctx context.Context) (err error) {
	if root, err = os.MkdirTemp("", "annex-doctor-"); err != nil {
		return err
	}
	if binaries, err = programs(ctx, root); err != nil {
		return err
	}
	// Those below go through a proxy that is not there, if the server uses one.
	for name, value := range map[string]string{"HTTPS_PROXY": "http://" + deadProxy, "NO_PROXY": "127.0.0.0/8,10.77.0.0/17,192.0.2.0/24,.svc"} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, os.Unsetenv("HTTPS_PROXY"), os.Unsetenv("NO_PROXY")) }()
	files, err := pki.Write(root)
	if err != nil {
		return err
	}
	var group sync.WaitGroup
	errs := make([]error, 2)
	for i, name := range []string{build.Annex, build.Reference} {
		c := newCluster(name, name, i)
		clusters[name] = c
		group.Go(func() {
			errs[i] = c.serve(ctx, files, "", "--enable-aggregator-routing=true")
			if errs[i] == nil {
				errs[i] = c.populate(ctx)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// newCluster is one whose API server is not started yet, with a folder of that name.
func newCluster(name, folder string, number int) *cluster {
	return &cluster{name: name, number: number, kubectl: binaries["kubectl"], dir: filepath.Join(root, folder), asked: make(chan question)}
}

func stopAll() {
	for _, c := range clusters {
		c.end()
	}
	if root != "" {
		_ = os.RemoveAll(root) // below the folder for temporary files
	}
}

// end stops what was started.
func (c *cluster) end() {
	if c.stop != nil {
		c.stop()
		c.done.Wait()
	}
	if c.kubelet != nil {
		c.kubelet.Close()
	}
	if c.Host != nil {
		if c.Host.Server != nil {
			_ = c.Host.Server.Kill() // nobody needs its data
		}
		_ = c.Host.Stop()
	}
}

// serve starts the API server; on an etcd of its own, unless there is the socket of one.
func (c *cluster) serve(ctx context.Context, files pki.Files, etcd string, flags ...string) (err error) {
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return err
	}
	run := []string{binaries["kube-apiserver"]}
	if c.name == build.Annex {
		run = []string{binaries["annex"], "serve"}
	}
	c.Host, err = host.Start(ctx, host.Config{
		Name: c.name, Command: run, Etcd: binaries["etcd"], Storage: etcd, Dir: c.dir, Files: files,
		Flags: append(commonFlags(), flags...),
	})
	if err != nil {
		return err
	}
	read := func(path string) []byte {
		content, readErr := os.ReadFile(path)
		err = errors.Join(err, readErr)
		return content
	}
	c.admin = &rest.Config{Host: c.URL, QPS: -1, TLSClientConfig: rest.TLSClientConfig{CAData: read(files.CA), CertData: read(files.Admin), KeyData: read(files.AdminKey)}}
	if err != nil {
		return err
	}
	if c.kube, err = kubernetes.NewForConfig(c.admin); err != nil {
		return err
	}
	c.aggregator, err = aggregatorclient.NewForConfig(c.admin)
	return err
}

func commonFlags() []string {
	return []string{"--advertise-address=" + namespace.Address, "--kubelet-preferred-address-types=InternalIP", "--allow-privileged=true"}
}

// populate makes a node and the user who runs doctor, who begins to look.
func (c *cluster) populate(ctx context.Context) (err error) {
	if err := c.makeOperator(ctx); err != nil {
		return err
	}
	if c.kubelet, err = startKubelet(fmt.Sprintf("10.77.0.%d", 10+c.number)); err != nil {
		return err
	}
	if err := c.makeNode(ctx, node, true); err != nil {
		return err
	}
	c.look()
	return nil
}

// look begins to answer who asks what doctor says.
func (c *cluster) look() {
	looking, stop := context.WithCancel(context.Background())
	c.stop = stop
	for range looks {
		c.done.Go(func() { c.answer(looking) })
	}
}

// makeOperator makes the user who runs doctor and its remedies. It is a cluster-admin, and no member of
// system:masters, whom extension servers let pass unasked.
func (c *cluster) makeOperator(ctx context.Context) error {
	const name = "operator"
	accounts := c.kube.CoreV1().ServiceAccounts(metav1.NamespaceSystem)
	if _, err := accounts.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err := c.kube.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: metav1.NamespaceSystem, Name: name}},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
	}, metav1.CreateOptions{}); err != nil {
		return err
	}
	token, err := accounts.CreateToken(ctx, name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	return c.operate(token.Status.Token)
}

// operate has the operator use this API server.
func (c *cluster) operate(token string) error {
	c.operator = rest.AnonymousClientConfig(c.admin)
	c.operator.BearerToken = token
	c.kubeconfig = filepath.Join(c.dir, "kubeconfig")
	return writeKubeconfig(c.kubeconfig, c.operator)
}

// makeNode makes a node whose kubelet is that of the cluster.
func (c *cluster) makeNode(ctx context.Context, name string, ready bool) error {
	n, err := c.kube.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	state := corev1.ConditionTrue
	if !ready {
		state = corev1.ConditionUnknown
	}
	n.Status = corev1.NodeStatus{
		Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: c.kubelet.ip}},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: kubeletPort}},
		Conditions:      []corev1.NodeCondition{{Type: corev1.NodeReady, Status: state, LastTransitionTime: metav1.Now()}},
	}
	_, err = c.kube.CoreV1().Nodes().UpdateStatus(ctx, n, metav1.UpdateOptions{})
	return err
}

func writeKubeconfig(path string, config *rest.Config) error {
	k := api.NewConfig()
	k.Clusters["c"] = &api.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	k.AuthInfos["u"] = &api.AuthInfo{Token: config.BearerToken, ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}
	k.Contexts["x"] = &api.Context{Cluster: "c", AuthInfo: "u"}
	k.CurrentContext = "x"
	return clientcmd.WriteToFile(*k, path)
}

// question is an APIService to look at.
type question struct {
	name   string
	answer chan<- outcome
}

type outcome struct {
	report diagnosis.Report
	err    error
}

// examine is what doctor says of an APIService. Those that wait together are looked at together.
func (c *cluster) examine(ctx context.Context, name string) (diagnosis.Report, error) {
	answer := make(chan outcome, 1)
	select {
	case c.asked <- question{name, answer}:
	case <-ctx.Done():
		return diagnosis.Report{}, ctx.Err()
	}
	o := <-answer
	return o.report, o.err
}

// answer looks at what is asked for, and at all that is asked for within a moment.
func (c *cluster) answer(ctx context.Context) {
	for {
		var all []question
		select {
		case q := <-c.asked:
			all = append(all, q)
		case <-ctx.Done():
			return
		}
		moment := time.NewTimer(300 * time.Millisecond)
		for more := true; more; {
			select {
			case q := <-c.asked:
				all = append(all, q)
			case <-moment.C:
				more = false
			}
		}
		names := []string{}
		for _, q := range all {
			names = append(names, q.name)
		}
		reports, err := doctor(ctx, c.kubeconfig, append(names, c.arguments...)...)
		for _, q := range all {
			q.answer <- outcome{reports[q.name], err}
		}
	}
}

// doctor runs the command.
func doctor(ctx context.Context, kubeconfig string, args ...string) (map[string]diagnosis.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var out, failed bytes.Buffer
	cmd := command.New(terminal.IO{Out: &out, Err: &failed})
	cmd.SetArgs(append(args, "--output=json", "--kubeconfig="+kubeconfig))
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err := cmd.ExecuteContext(ctx)
	var coded interface{ ExitCode() int }
	if err != nil && !(errors.As(err, &coded) && coded.ExitCode() == 1) {
		return nil, fmt.Errorf("doctor: %w", err)
	}
	var found struct {
		Reports []diagnosis.Report `json:"reports"`
	}
	if err := json.Unmarshal(out.Bytes(), &found); err != nil {
		return nil, fmt.Errorf("doctor wrote no JSON: %w: %s %s", err, out.String(), failed.String())
	}
	reports := map[string]diagnosis.Report{}
	for _, r := range found.Reports {
		reports[r.APIService] = r
	}
	return reports, nil
}

// shell runs a line of a remedy as the operator, in a folder.
func (c *cluster) shell(ctx context.Context, dir, line string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", line)
	cmd.Dir, cmd.WaitDelay = dir, 5*time.Second
	cmd.Env = []string{"PATH=" + filepath.Dir(c.kubectl) + ":" + systemPath + ":" + os.Getenv("PATH"), "HOME=" + c.dir, "KUBECONFIG=" + c.kubeconfig}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", line, err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
