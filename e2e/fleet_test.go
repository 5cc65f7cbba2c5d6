package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"
	aggregatorclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
)

// member is one API server of a fleet.
type member struct {
	*cluster
	port string
	gate *gate // between it and extension servers
}

// fleet is three API servers with the same keys on an etcd cluster of three nodes.
type fleet struct {
	members []*member
	nodes   []*process
	urls    []string // of the nodes
}

func startFleet(t *testing.T) *fleet {
	t.Helper()
	dir := shortTemp(t)
	f := &fleet{}
	var peers, cluster []string
	for i := range 3 {
		f.urls = append(f.urls, "http://127.0.0.1:"+port(t))
		peers = append(peers, "http://127.0.0.1:"+port(t))
		cluster = append(cluster, fmt.Sprintf("n%d=%s", i, peers[i]))
	}
	for i := range 3 {
		f.nodes = append(f.nodes, start(t, "etcd",
			fmt.Sprintf("--name=n%d", i), fmt.Sprintf("--data-dir=%s/etcd-%d", dir, i), "--log-level=warn",
			"--listen-client-urls="+f.urls[i], "--advertise-client-urls="+f.urls[i],
			"--listen-peer-urls="+peers[i], "--initial-advertise-peer-urls="+peers[i],
			"--initial-cluster="+strings.Join(cluster, ","), "--initial-cluster-state=new"))
	}
	ca, flags := serveFlags(t, dir)
	for i := range 3 {
		own := filepath.Join(dir, fmt.Sprintf("server-%d", i))
		if err := os.Mkdir(own, 0o700); err != nil {
			t.Fatal(err)
		}
		m := &member{port: port(t), gate: startGate(t, own)}
		args := append([]string{"serve"}, flags...)
		args = append(args, "--etcd-servers="+strings.Join(f.urls, ","), "--secure-port="+m.port,
			fmt.Sprintf("--advertise-address=192.0.2.%d", i+1), m.gate.flag(t, own))
		m.cluster = startServer(t, own, ca, m.port, "annex", args...)
		// Nothing is asked of how they end, and six clean ends take their time.
		t.Cleanup(m.kill)
		f.members = append(f.members, m)
	}
	return f
}

// holder is the member that the status Lease names, asked of one of them.
func (f *fleet) holder(ctx context.Context, through *member) (*member, error) {
	lease, err := through.kube.CoordinationV1().Leases(metav1.NamespaceSystem).Get(ctx, "annex-aggregation-status", metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if lease.Spec.HolderIdentity == nil {
		return nil, errors.New("the Lease has no holder")
	}
	for _, m := range f.members {
		if strings.HasSuffix(*lease.Spec.HolderIdentity, ":"+m.port) {
			return m, nil
		}
	}
	return nil, fmt.Errorf("the holder %q is none of the servers", *lease.Spec.HolderIdentity)
}

// without lists the members but for some.
func (f *fleet) without(some ...*member) []*member {
	var rest []*member
	for _, m := range f.members {
		keep := true
		for _, s := range some {
			keep = keep && m != s
		}
		if keep {
			rest = append(rest, m)
		}
	}
	return rest
}

// leader is the etcd node that leads.
func (f *fleet) leader(ctx context.Context) (*process, error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: f.urls, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	for i, url := range f.urls {
		status, err := client.Status(ctx, url)
		if err != nil {
			return nil, err
		}
		if status.Leader == status.Header.MemberId {
			return f.nodes[i], nil
		}
	}
	return nil, errors.New("no etcd node leads")
}

// condition returns the Available condition; empty if there is none.
func condition(a *apiregistrationv1.APIService) apiregistrationv1.APIServiceCondition {
	if c := helper.GetAPIServiceConditionByType(a, apiregistrationv1.Available); c != nil {
		return *c
	}
	return apiregistrationv1.APIServiceCondition{}
}

// awaitCondition waits for a status of the condition and returns how long that took since a time.
func (c *cluster) awaitCondition(t *testing.T, name string, want apiregistrationv1.ConditionStatus, since time.Time) time.Duration {
	t.Helper()
	client, err := aggregatorclient.NewForConfig(c.admin)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, fmt.Sprintf("condition %s of %s", want, name), func(ctx context.Context) error {
		a, err := client.ApiregistrationV1().APIServices().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if got := condition(a); got.Status != want {
			return fmt.Errorf("it is %s: %s", got.Status, got.Message)
		}
		return nil
	})
	return time.Since(since)
}

// awaitMessage waits until the condition's message ends so.
func (c *cluster) awaitMessage(t *testing.T, name, end string) {
	t.Helper()
	client, err := aggregatorclient.NewForConfig(c.admin)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a message that ends with "+end, func(ctx context.Context) error {
		a, err := client.ApiregistrationV1().APIServices().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if got := condition(a); !strings.HasSuffix(got.Message, end) {
			return fmt.Errorf("it is %s: %s", got.Status, got.Message)
		}
		return nil
	})
}

// calledIn is what messages call the member.
func (m *member) calledIn(t *testing.T) string {
	t.Helper()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return host + ":" + m.port
}

// changes gathers how the condition of an APIService changes.
type changes struct {
	client aggregatorclient.Interface
	name   string
	watch  watch.Interface
	first  apiregistrationv1.APIServiceCondition
	last   apiregistrationv1.APIServiceCondition
}

// watchChanges watches from now on, through one server.
func watchChanges(t *testing.T, through *cluster, name string) *changes {
	t.Helper()
	client, err := aggregatorclient.NewForConfig(through.admin)
	if err != nil {
		t.Fatal(err)
	}
	a, err := client.ApiregistrationV1().APIServices().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := client.ApiregistrationV1().APIServices().Watch(t.Context(), metav1.ListOptions{
		FieldSelector: "metadata.name=" + name, ResourceVersion: a.ResourceVersion,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return &changes{client, name, w, condition(a), condition(a)}
}

// until marks the APIService, and returns every change of the condition before the mark.
func (c *changes) until(t *testing.T, mark string) []apiregistrationv1.APIServiceCondition {
	t.Helper()
	const annotation = "example.com/mark"
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, annotation, mark)
	if _, err := c.client.ApiregistrationV1().APIServices().Patch(t.Context(), c.name, "application/merge-patch+json", []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	var found []apiregistrationv1.APIServiceCondition
	for {
		select {
		case <-timer.C:
			t.Fatalf("the watch does not bring the mark %q", mark)
		case event, ok := <-c.watch.ResultChan():
			a, is := event.Object.(*apiregistrationv1.APIService)
			if !ok || !is {
				t.Fatalf("the watch ended: %v %v", ok, event)
			}
			if now := condition(a); now != c.last {
				found, c.last = append(found, now), now
			}
			if a.Annotations[annotation] == mark {
				return found
			}
		}
	}
}

// freshness is how aggregated discovery has a group version: Current or Stale, empty if it is
// absent, and its resources.
func freshness(ctx context.Context, c *cluster, group, version string) (string, []string, error) {
	a, err := do(ctx, c.admin, http.MethodGet, "/apis", "", "Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
	if err != nil {
		return "", nil, err
	}
	if a.code != http.StatusOK {
		return "", nil, fmt.Errorf("GET /apis: %d %s", a.code, a.body)
	}
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Versions []struct {
				Version, Freshness string
				Resources          []struct{ Resource string }
			}
		}
	}
	if err := json.Unmarshal([]byte(a.body), &list); err != nil {
		return "", nil, err
	}
	for _, g := range list.Items {
		for _, v := range g.Versions {
			if g.Metadata.Name == group && v.Version == version {
				var resources []string
				for _, r := range v.Resources {
					resources = append(resources, r.Resource)
				}
				return v.Freshness, resources, nil
			}
		}
	}
	return "", nil, nil
}
