package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/annex-api/annex/bench/internal/build"
	"github.com/annex-api/annex/diagnosis"
)

func endpointFaults() []fault {
	return []fault{
		{
			name: "crashes", code: diagnosis.MissingEndpoints, short: true,
			how:    "the only Pod waits with CrashLoopBackOff",
			plan:   func(s *site) { s.unready("CrashLoopBackOff") },
			inject: func(_ context.Context, s *site) error { s.server.say("panic: no configuration"); return nil },
			run:    []string{"describe pod", "logs server-0"}, by: "what its log says is set right",
			mend: func(ctx context.Context, s *site) error { return s.replace(ctx) },
		},
		{
			name: "scaled-to-none", code: diagnosis.MissingEndpoints,
			how: "the Deployment is scaled to 0",
			plan: func(s *site) {
				none := int32(0)
				s.deployment.Spec.Replicas, s.pods = &none, nil
				s.slice = s.sliceOf(app, "https", s.port)
			},
			run: []string{"scale deployment/server --replicas=1"},
			mend: func(ctx context.Context, s *site) error {
				return errors.Join(s.rolledOut(ctx), s.replace(ctx))
			},
		},
		{
			name: "selects-nothing", code: diagnosis.EndpointsNotFound,
			how: "the Service's selector is that of an older version",
			plan: func(s *site) {
				s.service.Spec.Selector, s.slice = map[string]string{"app": "old"}, nil
			},
			run: []string{"get service", "get pods --show-labels"}, by: "the selector is set to the label that is shown",
			mend: func(ctx context.Context, s *site) error {
				_, err := s.kube.CoreV1().Services(s.namespace).Patch(ctx, app, types.MergePatchType, []byte(`{"spec":{"selector":{"app":"server"}}}`), metav1.PatchOptions{})
				return errors.Join(err, s.endpoints(ctx, s.port))
			},
		},
		{
			name: "kubelet-certificates", code: diagnosis.KubeletCertificateNotTrusted, also: []diagnosis.Code{diagnosis.MissingEndpoints},
			how:  "the server is never ready, since it cannot verify kubelets",
			plan: func(s *site) { s.unready("") },
			inject: func(ctx context.Context, s *site) error {
				err := scrape(ctx, s)
				if err == nil {
					return errors.New("a kubelet's certificate is trusted")
				}
				s.server.say(`E1128 00:00:00.000000       1 scraper.go:149] "Failed to scrape node" err=%q node=%q`, err, node)
				return nil
			},
			run: []string{"kubelet-insecure-tls"},
			mend: func(ctx context.Context, s *site) error {
				d, err := s.kube.AppsV1().Deployments(s.namespace).Get(ctx, app, metav1.GetOptions{})
				if err == nil && !slices.Contains(d.Spec.Template.Spec.Containers[0].Args, "--kubelet-insecure-tls") {
					err = errors.New("the argument is not there")
				}
				return errors.Join(err, s.replace(ctx))
			},
		},
		{
			name: "dead-replica", code: diagnosis.EndpointUnreachable, available: true,
			how: "one of two replicas is dead, and counts as ready",
			plan: func(s *site) {
				s.pods = append(s.pods, s.pod("server-9", spareAddress(s), node))
				s.slice = s.sliceOf(app, "https", s.port)
			},
			run:  []string{"delete pod server-9"},
			mend: func(ctx context.Context, s *site) error { return s.replace(ctx) },
		},
		{
			name: "flaky-replica", code: diagnosis.EndpointEjected, available: true,
			only: build.Annex, why: "leaves no endpoint out",
			how: "one of two replicas passes checks, and drops who asks for objects",
			plan: func(s *site) {
				s.pods = append(s.pods, s.pod("server-9", spareAddress(s), node))
				s.slice = s.sliceOf(app, "https", s.port)
			},
			inject: func(_ context.Context, s *site) error {
				// A check that takes long tells late that it lives.
				m := manner{serves: []string{s.group + "/" + s.version}, drops: true, delay: 4 * time.Second}
				return s.replica(m)
			},
			after: func(_ context.Context, s *site) error { s.clients(); return nil },
			run:   []string{"describe pod server-9", "logs server-9", "delete pod server-9"},
			mend:  func(ctx context.Context, s *site) error { s.clientsLeave(); return s.replace(ctx) },
		},
		{
			name: "lost-node", code: diagnosis.NodeLost, available: true,
			how: "a node is not ready any more, and its Pod still counts as ready",
			plan: func(s *site) {
				s.pods = []*corev1.Pod{s.pod("server-0", s.ip, "lost")}
				s.slice = s.sliceOf(app, "https", s.port)
			},
			inject: func(ctx context.Context, s *site) error { return s.makeNode(ctx, "lost", false) },
			run:    []string{"kubectl taint node lost"},
			mend:   func(ctx context.Context, s *site) error { return s.replace(ctx) },
		},
		{
			name: "starting", code: diagnosis.ServerStarting,
			how: "the Pod is seconds old, and not ready yet",
			plan: func(s *site) {
				s.unready("")
				now := metav1.Now()
				s.pods[0].Status.StartTime = &now
			},
			mend: func(ctx context.Context, s *site) error { return s.replace(ctx) },
			by:   "time",
		},
	}
}

// replica runs a second server, at the spare address.
func (s *site) replica(m manner) (err error) {
	s.second, err = startServer(net.JoinHostPort(spareAddress(s), strconv.Itoa(int(s.port))), true, s.certificate.TLS(), m)
	return err
}

// clients ask for objects again and again, until they leave.
func (s *site) clients() {
	ctx, stop := context.WithCancel(context.Background())
	path := "/apis/" + s.group + "/" + s.version + "/things"
	var done sync.WaitGroup
	done.Go(func() {
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for ctx.Err() == nil {
			_, _ = s.Get(ctx, path, nil) // that some fail is the fault
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
	})
	s.clientsLeave = func() { stop(); done.Wait() }
}

// scrape reads from the kubelet as servers of metrics do: by its address, verified.
func scrape(ctx context.Context, s *site) error {
	return tlsDial(ctx, fmt.Sprintf("%s:%d", s.kubelet.ip, kubeletPort))
}
