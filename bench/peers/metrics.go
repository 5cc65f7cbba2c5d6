package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/annex-api/annex/bench/internal/fixture"
	"github.com/annex-api/annex/bench/internal/host"
	"github.com/annex-api/annex/extension/extensiontest/conformance"
)

const (
	nodeName = "peers-node"
	podName  = "peers-pod"
	// measured is how long the first values of metrics-server may take: it asks twice, 10 s apart.
	measured = time.Minute
)

// startMetrics runs metrics-server over one node, whose kubelet is a handler of this process.
func startMetrics(ctx context.Context, s *stage) (_ []conformance.Target, stop func() error, err error) {
	const group, version = "metrics.k8s.io", "v1beta1"
	path, err := s.build(ctx, "metrics-server", "bench/peers/metricsserver", "sigs.k8s.io/metrics-server/cmd/metrics-server")
	if err != nil {
		return nil, none, err
	}
	kubelet, err := s.startKubelet()
	if err != nil {
		return nil, none, err
	}
	stop = kubelet.stop
	if err := s.makeNode(ctx, kubelet.port); err != nil {
		return nil, stop, err
	}
	port, err := host.FreePort()
	if err != nil {
		return nil, stop, err
	}
	p, err := s.site.Start(ctx, "metrics-server", path, port, append(s.delegated(port),
		"--kubeconfig="+s.site.Kubeconfig(), "--kubelet-use-node-status-port", "--kubelet-certificate-authority="+s.files.CA,
		"--metric-resolution=10s", "--kubelet-request-timeout=5s")...)
	if err != nil {
		return nil, stop, err
	}
	stop = func() error { return errors.Join(p.Stop(), kubelet.stop()) }
	if err := s.register(ctx, p, group, version); err != nil {
		return nil, stop, err
	}
	for resource, name := range map[string]string{"nodes": nodeName, "pods": podName} {
		err := p.Until(ctx, "metrics of "+resource, measured, 500*time.Millisecond, func(ctx context.Context) (bool, error) {
			body, err := s.Get(ctx, "/apis/"+group+"/"+version+"/"+resource, nil)
			return err == nil && strings.Contains(string(body), name), nil
		})
		if err != nil {
			return nil, stop, err
		}
	}
	targets := []conformance.Target{of(group, version, "nodes"), of(group, version, "pods")}
	stop = func() error { return errors.Join(s.unregister(ctx, targets[0]), p.Stop(), kubelet.stop()) }
	for i := range targets {
		targets[i].Direct = s.direct(p)
	}
	return targets, stop, nil
}

// makeNode makes a node and a pod on it.
func (s *stage) makeNode(ctx context.Context, port int) error {
	core := "/api/v1/namespaces/" + fixture.Namespace
	pod := object{
		"metadata": object{"name": podName, "labels": object{"peers": "yes"}},
		"spec": object{
			"nodeName": nodeName, "automountServiceAccountToken": false,
			"containers": []object{{"name": "main", "image": "example.com/none"}},
		},
	}
	for _, o := range []struct {
		path    string
		content object
	}{
		{core + "/serviceaccounts", object{"metadata": object{"name": "default"}}},
		{"/api/v1/nodes", object{
			"metadata": object{"name": nodeName, "labels": object{"peers": "yes"}},
			"status": object{
				"addresses":       []object{{"type": "InternalIP", "address": "127.0.0.1"}},
				"daemonEndpoints": object{"kubeletEndpoint": object{"Port": port}},
				"conditions":      []object{{"type": "Ready", "status": "True"}},
			},
		}},
		{core + "/pods", pod},
	} {
		if err := s.Create(ctx, o.path, o.content); err != nil {
			return fmt.Errorf("making a node with a pod: %w", err)
		}
	}
	// metrics-server looks at Pods that run alone.
	pod["status"] = object{"phase": "Running"}
	if err := s.Replace(ctx, core+"/pods/"+podName+"/status", pod); err != nil {
		return fmt.Errorf("making a pod run: %w", err)
	}
	return nil
}

// kubelet answers as one does that is asked for /metrics/resource.
type kubelet struct {
	server *http.Server
	port   int
	done   chan error
}

func (s *stage) startKubelet() (*kubelet, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening as a kubelet: %w", err)
	}
	k := &kubelet{port: listener.Addr().(*net.TCPAddr).Port, done: make(chan error, 1)}
	k.server = &http.Server{Handler: http.HandlerFunc(resources(time.Now())), ReadHeaderTimeout: 10 * time.Second}
	go func() { k.done <- k.server.ServeTLS(listener, s.files.Extension, s.files.ExtensionKey) }()
	return k, nil
}

func (k *kubelet) stop() error {
	err := k.server.Close()
	if ended := <-k.done; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

// resources tells of a node and a pod that use a tenth of a processor since a time.
func resources(since time.Time) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics/resource" {
			http.NotFound(w, r)
			return
		}
		now := time.Now()
		used := 1 + now.Sub(since).Seconds()/10
		labels := fmt.Sprintf(`{container="main",namespace=%q,pod=%q}`, fixture.Namespace, podName)
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		for _, line := range []string{
			fmt.Sprintf("node_cpu_usage_seconds_total %f %d", used, now.UnixMilli()),
			fmt.Sprintf("node_memory_working_set_bytes %d %d", 100<<20, now.UnixMilli()),
			fmt.Sprintf("container_cpu_usage_seconds_total%s %f %d", labels, used, now.UnixMilli()),
			fmt.Sprintf("container_memory_working_set_bytes%s %d %d", labels, 10<<20, now.UnixMilli()),
			fmt.Sprintf("container_start_time_seconds%s %d", labels, since.Add(-time.Hour).Unix()),
		} {
			_, _ = io.WriteString(w, line+"\n") // Who does not read it asks again.
		}
	}
}
