package conformance

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/annex-api/annex/extension/extensiontest/conformance"
)

// targets are what the flags name.
func (o *Options) targets(ctx context.Context) ([]conformance.Target, error) {
	base, err := o.target()
	if err != nil {
		return nil, err
	}
	var resources []schema.GroupVersionResource
	for _, text := range o.Resources {
		r, err := parseResource(text)
		if err != nil {
			return nil, err
		}
		resources = append(resources, r)
	}
	if o.APIService != "" {
		if resources, err = resourcesOf(ctx, base.Config, o.APIService, o.IO.Err); err != nil {
			return nil, err
		}
	}
	var targets []conformance.Target
	for _, r := range resources {
		target := base
		target.Resource = r
		targets = append(targets, target)
	}
	return targets, nil
}

// target is all but the resource.
func (o *Options) target() (conformance.Target, error) {
	t := conformance.Target{
		Stream:    conformance.Stream{Path: o.Stream, WebSocket: o.StreamWebSocket, Open: o.StreamOpen},
		Intrusive: o.Intrusive, Slow: o.Slow, Only: o.Only, Skip: o.Skip,
	}
	var err error
	if t.Config, err = clientConfig(o.Kubeconfig, o.Context); err != nil {
		return t, fmt.Errorf("read the kubeconfig: %w", err)
	}
	if o.SecondKubeconfig != "" || o.SecondContext != "" {
		file := o.SecondKubeconfig
		if file == "" {
			file = o.Kubeconfig
		}
		if t.Second, err = clientConfig(file, o.SecondContext); err != nil {
			return t, fmt.Errorf("read the second user's kubeconfig: %w", err)
		}
	}
	if o.Direct != "" {
		t.Direct = &rest.Config{Host: o.Direct, TLSClientConfig: rest.TLSClientConfig{CAFile: o.DirectCA, Insecure: o.DirectInsecure}}
	}
	if o.StorageStop != "" {
		t.Storage = conformance.Storage{Stop: shell(o.StorageStop), Start: shell(o.StorageStart)}
	}
	if o.Sample != "" {
		if t.Sample, err = readSample(o.Sample); err != nil {
			return t, err
		}
	}
	if o.Change != "" {
		t.Change = strings.Split(o.Change, ".")
	}
	return t, nil
}

func clientConfig(file, context string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = file
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: context}).ClientConfig()
}

func readSample(file string) (*unstructured.Unstructured, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the sample: %w", err)
	}
	asJSON, err := yaml.YAMLToJSON(raw)
	if err != nil {
		return nil, fmt.Errorf("read the sample %s: %w", file, err)
	}
	o := &unstructured.Unstructured{}
	if err := o.UnmarshalJSON(asJSON); err != nil {
		return nil, fmt.Errorf("the sample %s is no Kubernetes object: %w", file, err)
	}
	return o, nil
}

// shell runs a command of the user's.
func shell(command string) func(context.Context) error {
	return func(ctx context.Context) error {
		if out, err := exec.CommandContext(ctx, "sh", "-c", command).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", command, err, strings.TrimSpace(string(out)))
		}
		return nil
	}
}

// resourcesOf are all resources of a group version that can be listed. The others, such as reviews,
// are named on w: they keep nothing that could be checked.
func resourcesOf(ctx context.Context, config *rest.Config, apiService string, w io.Writer) ([]schema.GroupVersionResource, error) {
	gv, err := parseAPIService(apiService)
	if err != nil {
		return nil, err
	}
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	list, err := client.ServerResourcesForGroupVersionWithContext(ctx, gv.String())
	if err != nil {
		return nil, fmt.Errorf("find the resources of %s: %w", gv, err)
	}
	var resources []schema.GroupVersionResource
	for _, r := range list.APIResources {
		switch {
		case strings.Contains(r.Name, "/"):
		case slices.Contains(r.Verbs, "list"):
			resources = append(resources, gv.WithResource(r.Name))
		default:
			fmt.Fprintf(w, "%s cannot be listed and is left out; --resource checks it\n", r.Name)
		}
	}
	if len(resources) == 0 {
		return nil, fmt.Errorf("%s has no resource that can be listed", gv)
	}
	return resources, nil
}
