package console

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

const (
	// goal is when a dead replica is to be on the page: at one of so many tries, since a machine that
	// is busy has a calm moment. latest is when it must be even on a busy one.
	goal   = 3 * time.Second
	latest = 20 * time.Second
	tries  = 4
)

// TestRealServers kills a replica of a real extension server behind a real API server, and mends
// it: once as annex console shows it, and once at /console/ of the API server.
func TestRealServers(t *testing.T) {
	c := newCluster(t)
	packages := &service{namespace: "packages", name: "registry", group: "packages.example.com", version: "v1", daysLeft: 80}
	c.add(t, packages, 2)
	c.add(t, &service{namespace: "bulletin", name: "server", group: "bulletin.example.com", version: "v1alpha1", daysLeft: 5}, 1)
	well := rowHas("v1.packages.example.com", "Healthy") + " && " + rowHas("v1.packages.example.com", "2/2")
	broken := rowHas("v1.packages.example.com", "Degraded EndpointUnreachable") + " && " + rowHas("v1.packages.example.com", "1/2")

	// replace kills a replica, runs it again, and says how long either took to be seen.
	replace := func(t *testing.T, p *tab, dead *replica, meanwhile func()) {
		t.Helper()
		p.await("a well extension server", well)
		p.await("a certificate that expires soon", rowHas("v1alpha1.bulletin.example.com", "Degraded ServingCertificateExpiring"))
		p.await("a live watch", `document.querySelector(".connection").innerText === "live"`)
		inTime := false
		for try := 0; try < tries && !inTime; try++ {
			begin := time.Now()
			dead.kill(t)
			p.await("the dead replica", broken)
			inTime = timely(t, "a dead replica", time.Since(begin))
			p.await("the timeline", fmt.Sprintf(`document.querySelector(".timeline").innerText.includes("%s: Healthy → ")`, dead.settings.Address))
			if try == 0 {
				meanwhile()
			}
			begin = time.Now()
			dead.run(t)
			p.await("the replica that is back", well)
			timely(t, "its return", time.Since(begin))
		}
		if !inTime {
			t.Errorf("at none of %d tries the page showed a dead replica within %v", tries, goal)
		}
	}

	t.Run("annex console", func(t *testing.T) {
		p := open(t, c.kubeconfig)
		replace(t, p, packages.replicas[1], func() {
			p.click(`[data-name="v1.packages.example.com"]`)
			p.await("the fault", `document.querySelector(".details")?.innerText.includes("ANX206") === true`)
			p.click(".doctor button")
			p.await("doctor's answer", `document.querySelector(".doctor .finding") !== null`)
			said := oneLine(eval[string](p, `document.querySelector(".doctor").innerText`))
			for _, want := range []string{"ANX206 A replica cannot be reached", packages.replicas[1].settings.Address, "Look first; this changes nothing:", "kubectl -n packages describe pod registry-2", "Careful. This takes away the Pod"} {
				if !strings.Contains(said, want) {
					t.Errorf("doctor says %q, and nothing of %q", said, want)
				}
			}
		})
	})

	t.Run("console of the API server", func(t *testing.T) {
		p := openPage(t, c.viewersProxy(t)+"/console/")
		replace(t, p, packages.replicas[0], func() {
			p.click(`[data-name="v1.packages.example.com"]`)
			p.await("the fault", `document.querySelector(".details")?.innerText.includes("ANX206") === true`)
			// Doctor has the rights of who asks: a viewer of the page alone may not read APIServices.
			p.click(".doctor button")
			p.await("that the viewer may not", `document.querySelector(".doctor .notice")?.innerText.includes('User "viewer" cannot') === true`)
			c.mayRead(t, "viewer", "apiregistration.k8s.io", "apiservices")
			c.mayRead(t, "viewer", "", "services", "pods")
			c.mayRead(t, "viewer", "discovery.k8s.io", "endpointslices")
			eventually(t, "what doctor says to who may read more", func() error {
				p.click(".doctor button")
				p.await("an answer", `document.querySelector(".doctor button").getAttribute("aria-disabled") !== "true" && document.querySelector(".doctor").innerText.includes("Ask again")`)
				if said := oneLine(eval[string](p, `document.querySelector(".doctor").innerText`)); !strings.Contains(said, "ANX206") {
					return fmt.Errorf("it says %s", said)
				}
				return nil
			})
		})
	})
}

// timely says whether the goal was met.
func timely(t *testing.T, what string, took time.Duration) bool {
	t.Helper()
	t.Logf("the page showed %s after %v; the goal is %v", what, took.Round(time.Millisecond), goal)
	if took > latest {
		t.Errorf("the page showed %s after %v, which is more than %v", what, took, latest)
	}
	return took <= goal
}

// mayRead gives a user the right to get and list some resources.
func (c *cluster) mayRead(t *testing.T, user, group string, resources ...string) {
	t.Helper()
	name := "reads-" + strings.Join(resources, "-")
	const rbac = "rbac.authorization.k8s.io"
	c.create(t, "/apis/"+rbac+"/v1/clusterroles", object{
		"apiVersion": rbac + "/v1", "kind": "ClusterRole", "metadata": object{"name": name},
		"rules": []object{{"apiGroups": []string{group}, "resources": resources, "verbs": []string{"get", "list"}}},
	})
	c.create(t, "/apis/"+rbac+"/v1/clusterrolebindings", object{
		"apiVersion": rbac + "/v1", "kind": "ClusterRoleBinding", "metadata": object{"name": name},
		"roleRef":  object{"apiGroup": rbac, "kind": "ClusterRole", "name": name},
		"subjects": []object{{"apiGroup": rbac, "kind": "User", "name": user}},
	})
}

// viewersProxy is like kubectl proxy, for a user who has the ClusterRole of viewers and no other.
func (c *cluster) viewersProxy(t *testing.T) string {
	t.Helper()
	const viewer = "viewer"
	c.create(t, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", object{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": object{"name": viewer},
		"roleRef":  object{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "annex:aggregation:view"},
		"subjects": []object{{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": viewer}},
	})
	config := rest.CopyConfig(c.config)
	config.Impersonate = rest.ImpersonationConfig{UserName: viewer}
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: transport, FlushInterval: -1,
	})
	t.Cleanup(func() {
		server.CloseClientConnections() // a watch may be open
		server.Close()
	})
	eventually(t, "the viewer's right", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/console/", nil)
		if err != nil {
			return err
		}
		response, err := server.Client().Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("it answers %s", response.Status)
		}
		return nil
	})
	return server.URL
}
