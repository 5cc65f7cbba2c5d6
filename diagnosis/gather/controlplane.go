package gather

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/annex-api/annex/diagnosis"
)

const (
	// maxNodes is how many nodes are kept.
	maxNodes = 5000
	// maxLogLine is how much of a line of a log is kept, in bytes.
	maxLogLine = 500
	// maxServerLog is how much of the log of one API server is read, and serverLogLines how many
	// lines; maxServers is of how many API servers.
	maxServerLog, serverLogLines, maxServers = 1 << 20, "2000", 3
	// maxNotReady is how many nodes are named.
	maxNotReady = 20
	// maxCertificates bounds a bundle.
	maxCertificates = 100
)

// controlPlane sees nodes, the Pods of API servers, and their logs.
func (g *gathering) controlPlane(ctx context.Context) {
	f := &g.facts.Cluster
	together(
		func() {
			f.Nodes = diagnosis.Look(list(ctx, g.cluster, "/api/v1/nodes", nil, maxNodes, func(n corev1.Node) (diagnosis.Node, bool) { return node(n), true }))
		},
		func() {
			pods, err := list(ctx, g.cluster, "/api/v1/namespaces/kube-system/pods",
				selecting("labelSelector", "component=kube-apiserver"), maxNodes, all[corev1.Pod])
			if err == nil && len(pods) == 0 {
				err = unsupported("kube-apiserver does not run as a Pod of kube-system")
			}
			if err != nil {
				f.APIServerPods, g.log = diagnosis.Unseen[[]diagnosis.APIServerPod](err), diagnosis.Unseen[[]diagnosis.Line](err)
				return
			}
			found := []diagnosis.APIServerPod{}
			for _, p := range pods {
				found = append(found, apiServerPod(p))
			}
			f.APIServerPods = diagnosis.Saw(found)
			g.log = g.apiServerLog(ctx, pods)
		},
	)
}

func node(n corev1.Node) diagnosis.Node {
	kept := diagnosis.Node{
		Name: n.Name, PodCIDRs: n.Spec.PodCIDRs, ProviderID: n.Spec.ProviderID, Kernel: n.Status.NodeInfo.KernelVersion,
	}
	for _, label := range []string{"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"} {
		if _, has := n.Labels[label]; has {
			kept.ControlPlane = true
		}
	}
	for _, internal := range []bool{true, false} {
		for _, a := range n.Status.Addresses {
			if (a.Type == corev1.NodeInternalIP) == internal && (a.Type == corev1.NodeInternalIP || a.Type == corev1.NodeExternalIP) {
				kept.Addresses = append(kept.Addresses, a.Address)
			}
		}
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			kept.Ready, kept.ReadySince = c.Status == corev1.ConditionTrue, c.LastTransitionTime.Time
		}
	}
	return kept
}

func apiServerPod(p corev1.Pod) diagnosis.APIServerPod {
	kept := diagnosis.APIServerPod{
		Name: p.Name, Node: p.Spec.NodeName, HostIP: p.Status.HostIP,
		Flags: map[string]string{}, Proxy: map[string]string{},
	}
	for _, c := range p.Spec.Containers {
		for _, argument := range append(slices.Clone(c.Command), c.Args...) {
			if flag, isFlag := strings.CutPrefix(argument, "--"); isFlag {
				name, value, given := strings.Cut(flag, "=")
				if !given {
					value = "true"
				}
				kept.Flags[name] = value
			}
		}
		for _, e := range c.Env {
			if name := strings.ToUpper(e.Name); slices.Contains([]string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}, name) {
				kept.Proxy[name] = withoutPassword(e.Value)
			}
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			kept.Ready = c.Status == corev1.ConditionTrue
		}
	}
	for _, s := range p.Status.ContainerStatuses {
		if s.State.Running != nil {
			kept.Started = s.State.Running.StartedAt.Time
		}
	}
	return kept
}

// withoutPassword is a proxy's address without who uses it.
func withoutPassword(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.User == nil {
		return address
	}
	u.User = nil
	return u.String()
}

// apiServerLog are the last lines of API servers' logs.
func (g *gathering) apiServerLog(ctx context.Context, pods []corev1.Pod) diagnosis.Known[[]diagnosis.Line] {
	var text []diagnosis.Line
	for _, p := range pods[:min(len(pods), maxServers)] {
		path := "/api/v1/namespaces/kube-system/pods/" + p.Name + "/log"
		query := url.Values{"tailLines": {serverLogLines}, "container": {"kube-apiserver"}, "timestamps": {"true"}}
		a, err := g.ask(ctx, request{path: path, query: query, accept: "*/*", most: maxServerLog})
		if err == nil {
			err = refusal(path, a)
		}
		if err != nil {
			return diagnosis.Unseen[[]diagnosis.Line](err)
		}
		text = append(text, lines(a.body)...)
	}
	return diagnosis.Saw(text)
}

// serviceCIDRs are the ranges that the cluster says; none where it knows no such objects.
func (g *gathering) serviceCIDRs(ctx context.Context) diagnosis.Known[[]string] {
	type serviceCIDR struct {
		Spec struct {
			CIDRs []string `json:"cidrs"`
		} `json:"spec"`
	}
	found, err := list(ctx, g.cluster, "/apis/networking.k8s.io/v1/servicecidrs", nil, 100, all[serviceCIDR])
	ranges := []string{}
	for _, s := range found {
		ranges = append(ranges, s.Spec.CIDRs...)
	}
	return diagnosis.Look(ranges, err)
}

// networkNamespaces are of network add-ons, beside kube-system.
var networkNamespaces = []string{"kube-flannel", "calico-system", "tigera-operator", "cilium", "weave", "antrea-system", "kube-router", "konnectivity"}

// daemonSets are those of kube-system and of network add-ons.
func (g *gathering) daemonSets(ctx context.Context) diagnosis.Known[[]diagnosis.DaemonSet] {
	sets := []diagnosis.DaemonSet{}
	found, err := list(ctx, g.cluster, "/apis/apps/v1/daemonsets", nil, pageSize, func(d appsv1.DaemonSet) (appsv1.DaemonSet, bool) {
		return d, d.Namespace == metav1.NamespaceSystem || slices.Contains(networkNamespaces, d.Namespace)
	})
	if err != nil {
		return diagnosis.Unseen[[]diagnosis.DaemonSet](err)
	}
	for _, d := range found {
		kept := diagnosis.DaemonSet{Namespace: d.Namespace, Name: d.Name, Desired: d.Status.DesiredNumberScheduled, Ready: d.Status.NumberReady}
		if selector := metav1.FormatLabelSelector(d.Spec.Selector); kept.Ready < kept.Desired && selector != "" {
			// Which nodes it lacks is a detail: without it the rest stands.
			kept.NotReadyOn, _ = list(ctx, g.cluster, "/api/v1/namespaces/"+d.Namespace+"/pods", selecting("labelSelector", selector), maxNotReady,
				func(p corev1.Pod) (string, bool) { return p.Spec.NodeName, p.Spec.NodeName != "" && !ready(p) })
		}
		sets = append(sets, kept)
	}
	return diagnosis.Saw(sets)
}

func ready(p corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// requestHeader is what extension servers read to know the front proxy.
func (g *gathering) requestHeader(ctx context.Context) diagnosis.Known[*diagnosis.RequestHeader] {
	config := optional[corev1.ConfigMap](ctx, g.cluster, "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication")
	m, seen := config.Get()
	if !seen || m == nil {
		return diagnosis.Known[*diagnosis.RequestHeader]{Seen: seen, Err: config.Err}
	}
	return diagnosis.Saw(readRequestHeader(m))
}

func readRequestHeader(m *corev1.ConfigMap) *diagnosis.RequestHeader {
	r := &diagnosis.RequestHeader{Changed: m.CreationTimestamp.Time}
	var problems []error
	bundle := func(key string) []*x509.Certificate {
		found, err := certificates([]byte(m.Data[key]))
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", key, err))
		}
		return found
	}
	names := func(key string) []string {
		var found []string
		if text := m.Data[key]; text != "" {
			if err := json.Unmarshal([]byte(text), &found); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", key, err))
			}
		}
		return found
	}
	r.ClientCA = bundle("client-ca-file")
	r.RequestHeaderClientCA = bundle("requestheader-client-ca-file")
	_, r.HasRequestHeaderClientCA = m.Data["requestheader-client-ca-file"]
	r.AllowedNames = names("requestheader-allowed-names")
	r.UsernameHeaders = names("requestheader-username-headers")
	for _, field := range m.ManagedFields {
		if field.Time != nil && field.Time.After(r.Changed) {
			r.Changed = field.Time.Time
		}
	}
	if err := errors.Join(problems...); err != nil {
		r.Problem = err.Error()
	}
	return r
}

// certificates are those of a bundle.
func certificates(bundle []byte) ([]*x509.Certificate, error) {
	var found []*x509.Certificate
	for rest := bytes.TrimSpace(bundle); len(rest) > 0 && len(found) < maxCertificates; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return found, errors.New("there is text that is no PEM")
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return found, err
		}
		found = append(found, c)
		rest = bytes.TrimSpace(rest)
	}
	return found, nil
}

// since is a duration that a span of seconds is.
func since(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
