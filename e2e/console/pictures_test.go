package console

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestPictures takes the pictures of the README, of real servers with traffic and faults.
func TestPictures(t *testing.T) {
	if !*update {
		t.Skip("it writes files of the repository, and only with -update")
	}
	c := newCluster(t)
	external := &service{
		namespace: "keda", name: "metrics-apiserver", group: "external.metrics.k8s.io", version: "v1beta1", daysLeft: 61,
		latency: 45 * time.Millisecond, failing: 70,
	}
	quota := &service{namespace: "quota", name: "api", group: "quota.example.com", version: "v1", daysLeft: 70}
	fleet := map[*service]int{
		{namespace: "kube-system", name: "metrics-server", group: "metrics.k8s.io", version: "v1beta1", daysLeft: 88, latency: 8 * time.Millisecond}: 2,
		{namespace: "packages", name: "registry", group: "packages.example.com", version: "v1", daysLeft: 62, latency: 20 * time.Millisecond}:        3,
		{namespace: "bulletin", name: "server", group: "bulletin.example.com", version: "v1alpha1", daysLeft: 5, latency: 4 * time.Millisecond}:      1,
		external: 2,
		quota:    0,
	}
	for s, replicas := range fleet {
		c.add(t, s, replicas)
	}
	p := open(t, c.kubeconfig)
	p.await("the rows", `document.querySelectorAll("button.service").length === 5 && document.querySelectorAll("button.service .is-Unknown").length === 0`)

	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel()
	for s := range fleet {
		for range 3 {
			clients.Go(func() {
				pause := time.NewTicker(150 * time.Millisecond)
				defer pause.Stop()
				for ctx.Err() == nil {
					_ = c.client.Get().AbsPath("/apis/" + s.group + "/" + s.version + "/things").Do(ctx).Error() // some fail, as they are to
					<-pause.C
				}
			})
		}
	}
	for i := range 5 { // a wait is bounded, and all are longer
		p.await("plots with something to see", fmt.Sprintf(`performance.now() > %d`, (i+1)*40_000))
		if i == 2 {
			external.replicas[1].kill(t)
		}
	}
	p.await("the dead replica", rowHas(external.apiService(), "EndpointUnreachable"))
	p.colours("dark")
	p.picture(t, "console-dark.png")

	p.click(`[data-name="` + external.apiService() + `"]`)
	p.await("the details", `document.querySelector(".details") !== null`)
	p.click(".doctor button")
	p.await("doctor's answer", `document.querySelector(".doctor .finding") !== null`)
	p.do(chromedp.Evaluate[chromedp.Void](`document.activeElement.blur()`))
	p.colours("light")
	p.picture(t, "console-light.png")
}

// picture writes what the tab shows to the documents' images.
func (p *tab) picture(t *testing.T, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(p.Context, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("..", "..", "docs", "images", name), png, 0o644); err != nil {
		t.Fatal(err)
	}
}
