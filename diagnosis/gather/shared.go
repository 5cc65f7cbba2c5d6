package gather

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/diagnosis"
)

const (
	// maxNamespaces and maxAutoscalers bound who is said to suffer.
	maxNamespaces, maxAutoscalers = 500, 2000
	// maxDefinitions is how many CustomResourceDefinitions are read, of the groups that are looked at.
	maxDefinitions = 50
	// maxAdapters is how many Deployments are known for what they serve.
	maxAdapters = 100
	// aggregatedDiscovery is the media type of the document of all group versions at once.
	aggregatedDiscovery = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
	// annexGroup is served by Annex alone.
	annexGroup = "aggregation.annex.dev"
)

// registrations by name.
type registrations map[string]diagnosis.Known[*apiregistrationv1.APIService]

// shared sees what all APIServices share.
func (g *gathering) shared(ctx context.Context, chosen registrations) {
	f, c := &g.facts.Cluster, g.cluster
	f.Server = hostPort(c)
	together(
		func() { g.version(ctx) },
		func() { g.groups(ctx) },
		func() { f.CustomResources = g.customResources(ctx, chosen) },
		func() { f.Webhooks = g.webhooks(ctx) },
		func() { f.RequestHeader = g.requestHeader(ctx) },
		func() { g.controlPlane(ctx) },
		func() { f.ServiceCIDRs = g.serviceCIDRs(ctx) },
		func() { f.DaemonSets = g.daemonSets(ctx) },
		func() { f.OpenAPIV2 = g.openAPIV2(ctx) },
		func() { g.metrics = g.readMetrics(ctx) },
		func() { g.servers = g.eachServer(ctx) },
		func() { f.Adapters = g.adapters(ctx) },
		func() {
			f.TerminatingNamespaces = diagnosis.Look(list(ctx, c, "/api/v1/namespaces",
				selecting("fieldSelector", "status.phase=Terminating"), maxNamespaces, all[corev1.Namespace]))
		},
		func() {
			f.Autoscalers = diagnosis.Look(list(ctx, c, "/apis/autoscaling/v2/horizontalpodautoscalers",
				nil, maxAutoscalers, all[autoscalingv2.HorizontalPodAutoscaler]))
		},
	)
	// No API server shows it to clients; Annex tells of it in each RemoteAPIService.
	f.FrontProxy = diagnosis.Unseen[[]*x509.Certificate](diagnosis.ErrUnsupported)
	f.Provider = provider(f.Version, f.Nodes)
	if cidrs, seen := f.ServiceCIDRs.Get(); !seen || len(cidrs) == 0 {
		if flag := flagOf(f.APIServerPods, "service-cluster-ip-range"); flag != "" {
			f.ServiceCIDRs = diagnosis.Saw(strings.Split(flag, ","))
		} else if seen {
			f.ServiceCIDRs = diagnosis.Unseen[[]string](diagnosis.ErrUnsupported)
		}
	}
}

// hostPort is the address of the API server as the caller has it.
func hostPort(c *cluster) string {
	if c.base.Port() != "" {
		return c.base.Host
	}
	port := "443"
	if c.base.Scheme == "http" {
		port = "80"
	}
	return net.JoinHostPort(c.base.Hostname(), port)
}

// version sees the API server's version and its clock.
func (g *gathering) version(ctx context.Context) {
	f := &g.facts.Cluster
	a, err := g.ask(ctx, request{path: "/version"})
	if err != nil {
		f.Version, f.ClockSkew = diagnosis.Unseen[string](err), diagnosis.Unseen[time.Duration](err)
		return
	}
	f.ClockSkew = skew(a)
	if err := refusal("/version", a); err != nil {
		f.Version = diagnosis.Unseen[string](err)
		return
	}
	var v version.Info
	err = json.Unmarshal(a.body, &v)
	f.Version = diagnosis.Look(v.GitVersion, err)
}

// skew is by how much a server's clock is ahead of ours. A header has whole seconds, and the way
// takes its time: less than two seconds are none.
func skew(a reply) diagnosis.Known[time.Duration] {
	date, err := http.ParseTime(a.header.Get("Date"))
	if err != nil {
		return diagnosis.Unseen[time.Duration](diagnosis.ErrUnsupported)
	}
	d := date.Sub(a.sent.Add(a.ended.Sub(a.sent) / 2))
	if d.Abs() < 2*time.Second+a.ended.Sub(a.sent)/2 {
		return diagnosis.Saw(time.Duration(0))
	}
	return diagnosis.Saw(d.Round(time.Second))
}

// groups sees what is served, and how fresh it is.
func (g *gathering) groups(ctx context.Context) {
	f := &g.facts.Cluster
	a, err := g.ask(ctx, request{path: "/apis", accept: aggregatedDiscovery})
	if err == nil {
		err = refusal("/apis", a)
	}
	if err == nil && a.cut {
		err = errTooLarge
	}
	if err != nil {
		f.Annex, f.Discovery = diagnosis.Unseen[bool](err), diagnosis.Unseen[[]diagnosis.GroupVersionFreshness](err)
		return
	}
	if !strings.Contains(a.header.Get("Content-Type"), "as=APIGroupDiscoveryList") {
		var groups metav1.APIGroupList
		err := json.Unmarshal(a.body, &groups)
		f.Annex = diagnosis.Look(slices.ContainsFunc(groups.Groups, func(g metav1.APIGroup) bool { return g.Name == annexGroup }), err)
		f.Discovery = diagnosis.Unseen[[]diagnosis.GroupVersionFreshness](diagnosis.ErrUnsupported)
		return
	}
	var groups apidiscoveryv2.APIGroupDiscoveryList
	if err := json.Unmarshal(a.body, &groups); err != nil {
		f.Annex, f.Discovery = diagnosis.Unseen[bool](err), diagnosis.Unseen[[]diagnosis.GroupVersionFreshness](err)
		return
	}
	isAnnex := false
	var fresh []diagnosis.GroupVersionFreshness
	for _, group := range groups.Items {
		isAnnex = isAnnex || group.Name == annexGroup
		for _, v := range group.Versions {
			fresh = append(fresh, diagnosis.GroupVersionFreshness{
				Group: group.Name, Version: v.Version,
				Stale: v.Freshness == apidiscoveryv2.DiscoveryFreshnessStale, Resources: len(v.Resources),
			})
		}
	}
	f.Annex, f.Discovery = diagnosis.Saw(isAnnex), diagnosis.Saw(fresh)
}

// customResources are the definitions in the groups that are looked at. A definition's schemas are
// large, so that the names are read first.
func (g *gathering) customResources(ctx context.Context, chosen registrations) diagnosis.Known[[]diagnosis.CustomResource] {
	groups := map[string]bool{}
	for _, a := range chosen {
		if a.Value != nil {
			groups[a.Value.Spec.Group] = true
		}
	}
	const path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	names := []string{}
	next := ""
	for range maxPages {
		query := selecting("limit", "500")
		if next != "" {
			query.Set("continue", next)
		}
		p, err := send[page[metav1.PartialObjectMetadata]](ctx, g.cluster, request{
			path: path, query: query, accept: "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
		})
		if err != nil {
			return diagnosis.Unseen[[]diagnosis.CustomResource](err)
		}
		for _, o := range p.Items {
			if _, group, _ := strings.Cut(o.Name, "."); groups[group] && len(names) < maxDefinitions {
				names = append(names, o.Name)
			}
		}
		if next = p.Metadata.Continue; next == "" {
			break
		}
	}
	found := []diagnosis.CustomResource{}
	for _, name := range names {
		d, err := get[definition](ctx, g.cluster, path+"/"+name, nil)
		if err != nil {
			return diagnosis.Unseen[[]diagnosis.CustomResource](err)
		}
		for _, v := range d.Spec.Versions {
			if v.Served {
				found = append(found, diagnosis.CustomResource{Name: name, Group: d.Spec.Group, Version: v.Name})
			}
		}
	}
	return diagnosis.Saw(found)
}

// definition is what is read of a CustomResourceDefinition.
type definition struct {
	Spec struct {
		Group    string `json:"group"`
		Versions []struct {
			Name   string `json:"name"`
			Served bool   `json:"served"`
		} `json:"versions"`
	} `json:"spec"`
}

// webhooks are where webhooks of admission lead.
func (g *gathering) webhooks(ctx context.Context) diagnosis.Known[[]diagnosis.Webhook] {
	const path = "/apis/admissionregistration.k8s.io/v1/"
	found := []diagnosis.Webhook{}
	add := func(configuration string, config admissionregistrationv1.WebhookClientConfig) {
		s := config.Service
		if s == nil {
			return
		}
		w := diagnosis.Webhook{Configuration: configuration, Namespace: s.Namespace, Service: s.Name, Port: 443}
		if s.Port != nil {
			w.Port = *s.Port
		}
		if s.Path != nil {
			w.Path = *s.Path
		}
		found = append(found, w)
	}
	validating, err := list(ctx, g.cluster, path+"validatingwebhookconfigurations", nil, pageSize*maxPages, all[admissionregistrationv1.ValidatingWebhookConfiguration])
	if err != nil {
		return diagnosis.Unseen[[]diagnosis.Webhook](err)
	}
	mutating, err := list(ctx, g.cluster, path+"mutatingwebhookconfigurations", nil, pageSize*maxPages, all[admissionregistrationv1.MutatingWebhookConfiguration])
	if err != nil {
		return diagnosis.Unseen[[]diagnosis.Webhook](err)
	}
	for _, c := range validating {
		for _, w := range c.Webhooks {
			add("ValidatingWebhookConfiguration/"+c.Name, w.ClientConfig)
		}
	}
	for _, c := range mutating {
		for _, w := range c.Webhooks {
			add("MutatingWebhookConfiguration/"+c.Name, w.ClientConfig)
		}
	}
	return diagnosis.Saw(found)
}

// products are what serves metrics APIs, by a part of the image's name.
var products = []struct {
	image, product string
	groups         []string
}{
	{"metrics-server", "metrics-server", []string{"metrics.k8s.io"}},
	{"prometheus-adapter", "Prometheus Adapter", []string{"metrics.k8s.io", "custom.metrics.k8s.io", "external.metrics.k8s.io"}},
	{"keda-metrics-apiserver", "KEDA", []string{"external.metrics.k8s.io"}},
	{"datadog/cluster-agent", "Datadog", []string{"external.metrics.k8s.io"}},
	{"kube-metrics-adapter", "Kube Metrics Adapter", []string{"custom.metrics.k8s.io", "external.metrics.k8s.io"}},
	{"custom-metrics-stackdriver-adapter", "Stackdriver Adapter", []string{"custom.metrics.k8s.io", "external.metrics.k8s.io"}},
	{"azure-k8s-metrics-adapter", "Azure Metrics Adapter", []string{"custom.metrics.k8s.io", "external.metrics.k8s.io"}},
	{"k8s-cloudwatch-adapter", "CloudWatch Adapter", []string{"external.metrics.k8s.io"}},
}

// adapters are asked for where a metrics API is registered: nobody else is in another's way.
func (g *gathering) adapters(ctx context.Context) diagnosis.Known[[]diagnosis.Adapter] {
	every, seen := g.facts.Cluster.APIServices.Get()
	if !seen {
		return diagnosis.Unseen[[]diagnosis.Adapter](g.facts.Cluster.APIServices.Why())
	}
	if !slices.ContainsFunc(every, func(a apiregistrationv1.APIService) bool { return strings.HasSuffix(a.Spec.Group, "metrics.k8s.io") }) {
		return diagnosis.Saw([]diagnosis.Adapter{})
	}
	found, err := g.byImage(ctx)
	if err != nil {
		return diagnosis.Unseen[[]diagnosis.Adapter](err)
	}
	adapters := []diagnosis.Adapter{}
	for _, a := range found {
		namespace := "/namespaces/" + a.Namespace
		d := optional[appsv1.Deployment](ctx, g.cluster, "/apis/apps/v1"+namespace+"/deployments/"+a.Name)
		services, err := list(ctx, g.cluster, "/api/v1"+namespace+"/services", nil, pageSize, all[corev1.Service])
		if err := cmp.Or(d.Why(), err); err != nil {
			return diagnosis.Unseen[[]diagnosis.Adapter](err)
		}
		if d.Value == nil {
			continue // it is gone meanwhile
		}
		for _, s := range services {
			if selects(s.Spec.Selector, d.Value.Spec.Template.Labels) {
				a.Services = append(a.Services, s.Name)
			}
		}
		adapters = append(adapters, a)
	}
	return diagnosis.Saw(adapters)
}

// deployments are rows of a table: the images, and the metadata.
type deployments struct {
	Metadata metav1.ListMeta `json:"metadata"`
	Columns  []struct {
		Name string `json:"name"`
	} `json:"columnDefinitions"`
	Rows []struct {
		Cells  []any `json:"cells"`
		Object struct {
			Metadata struct {
				Namespace string `json:"namespace"`
				Name      string `json:"name"`
			} `json:"metadata"`
		} `json:"object"`
	} `json:"rows"`
}

// byImage are the Deployments of known products. Clusters have thousands of Deployments, so that only
// what a table shows of them is read.
func (g *gathering) byImage(ctx context.Context) ([]diagnosis.Adapter, error) {
	const path, asTable = "/apis/apps/v1/deployments", "application/json;as=Table;g=meta.k8s.io;v=v1"
	found := []diagnosis.Adapter{}
	query := url.Values{"limit": {fmt.Sprint(pageSize)}, "includeObject": {string(metav1.IncludeMetadata)}}
	for range maxPages {
		t, err := send[deployments](ctx, g.cluster, request{path: path, query: query, accept: asTable})
		if errors.Is(err, errNotFound) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		images := -1
		for i, c := range t.Columns {
			if c.Name == "Images" {
				images = i
			}
		}
		for _, row := range t.Rows {
			if images < 0 || images >= len(row.Cells) || len(found) == maxAdapters {
				continue
			}
			text, _ := row.Cells[images].(string)
			for _, p := range products {
				if o := row.Object.Metadata; strings.Contains(text, p.image) {
					found = append(found, diagnosis.Adapter{Namespace: o.Namespace, Name: o.Name, Product: p.product, Groups: p.groups})
					break
				}
			}
		}
		if t.Metadata.Continue == "" {
			break
		}
		query.Set("continue", t.Metadata.Continue)
	}
	return found, nil
}

// selects says whether a Service's selector, which has at least one label, selects.
func selects(selector, labels map[string]string) bool {
	for name, value := range selector {
		if got, has := labels[name]; !has || got != value {
			return false
		}
	}
	return len(selector) > 0
}

// provider is who runs the control plane, by what its version or its nodes say.
func provider(v diagnosis.Known[string], nodes diagnosis.Known[[]diagnosis.Node]) diagnosis.Known[string] {
	for mark, name := range map[string]string{"-gke.": "GKE", "-eks-": "EKS", "-aliyun.": "ACK", "+vmware": "Tanzu"} {
		if strings.Contains(v.Value, mark) {
			return diagnosis.Saw(name)
		}
	}
	every, seen := nodes.Get()
	if !seen {
		return diagnosis.Unseen[string](nodes.Why())
	}
	if slices.ContainsFunc(every, func(n diagnosis.Node) bool { return n.ControlPlane }) {
		return diagnosis.Saw("") // its owner sees the control plane's nodes
	}
	for _, n := range every {
		for mark, name := range map[string]string{"azure://": "AKS", "gce://": "GKE", "aws://": "EKS", "digitalocean://": "DOKS", "ibm://": "IKS", "ocid1.": "OKE", "linode://": "LKE"} {
			if strings.HasPrefix(n.ProviderID, mark) {
				return diagnosis.Saw(name)
			}
		}
	}
	return diagnosis.Saw("")
}

// flagOf is a flag of the first kube-apiserver that has it.
func flagOf(pods diagnosis.Known[[]diagnosis.APIServerPod], name string) string {
	for _, p := range pods.Value {
		if value := p.Flags[name]; value != "" {
			return value
		}
	}
	return ""
}

// lines are the lines of a log that has times before them, each at most 500 bytes long.
func lines(text []byte) []diagnosis.Line {
	var found []diagnosis.Line
	for line := range bytes.Lines(text) {
		line = bytes.TrimRight(line, "\r\n")
		var at time.Time
		if stamp, rest, cut := bytes.Cut(line[:min(len(line), maxLogLine)], []byte(" ")); cut {
			if t, err := time.Parse(time.RFC3339Nano, string(stamp)); err == nil {
				at, line = t, rest
			}
		}
		found = append(found, diagnosis.Line{At: at, Text: string(line[:min(len(line), maxLogLine)])})
	}
	return found
}
