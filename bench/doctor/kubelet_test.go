package doctor

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/portforward"
	streamhttp "k8s.io/streaming/pkg/httpstream"
	streamspdy "k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/annex-api/annex/internal/testcerts"
)

const kubeletPort = 10250

// kubelet is what API servers want of one: the logs of containers, and ways into Pods.
type kubelet struct {
	ip     string
	server *http.Server
	done   sync.WaitGroup

	mu   sync.Mutex
	pods map[string]*server // by namespace
}

func startKubelet(ip string) (*kubelet, error) {
	k := &kubelet{ip: ip, pods: map[string]*server{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		if s := k.pod(r.PathValue("namespace")); s != nil {
			_, _ = io.WriteString(w, s.logText(r.URL.Query().Get("timestamps") == "true")) // a reader that is gone wants nothing
		}
	})
	mux.HandleFunc("/portForward/{namespace}/{pod}", func(w http.ResponseWriter, r *http.Request) {
		arrived := make(chan streamhttp.Stream, 10)
		accept := func(s streamhttp.Stream, replySent <-chan struct{}) error {
			go func() { <-replySent; arrived <- s }() // it ends with the reply
			return nil
		}
		w.Header().Set(streamhttp.HeaderProtocolVersion, portforward.PortForwardV1Name)
		streams := streamspdy.NewResponseUpgrader().UpgradeResponse(w, r, accept)
		if streams == nil {
			return // it has answered
		}
		defer streams.Close()
		k.join(k.pod(r.PathValue("namespace")), streams, arrived)
	})
	listener, err := net.Listen("tcp", net.JoinHostPort(ip, fmt.Sprint(kubeletPort)))
	if err != nil {
		return nil, err
	}
	certificate := testcerts.New("kubelet-ca").Issue(testcerts.Subject{Name: "kubelet", Hosts: []string{ip}}).TLS()
	// Upgrades are HTTP/1.1's.
	k.server = &http.Server{Handler: mux, ErrorLog: silent, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"http/1.1"}}}
	k.done.Go(func() { _ = k.server.ServeTLS(listener, "", "") }) // until it is closed
	return k, nil
}

func (k *kubelet) Close() {
	_ = k.server.Close() // the test is over
	k.done.Wait()
}

func (k *kubelet) run(namespace string, s *server) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pods[namespace] = s
}

func (k *kubelet) pod(namespace string) *server {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pods[namespace]
}

// join joins an error stream and a data stream with each port.
func (k *kubelet) join(s *server, streams streamhttp.Connection, arrived <-chan streamhttp.Stream) {
	problems := map[string]streamhttp.Stream{}
	for {
		select {
		case <-streams.CloseChan():
			return
		case stream := <-arrived:
			id := stream.Headers().Get(corev1.PortForwardRequestIDHeader)
			if stream.Headers().Get(corev1.StreamType) == corev1.StreamTypeError {
				problems[id] = stream
				continue
			}
			forward(s, stream, problems[id])
		}
	}
}

func forward(s *server, data, problems streamhttp.Stream) {
	defer data.Close()
	defer problems.Close()
	port := data.Headers().Get(corev1.PortHeader)
	conn, err := s.dialInside(port)
	if err != nil {
		_, _ = io.WriteString(problems, "failed to connect to localhost:"+port+" inside namespace: "+err.Error()) // the reader sees it
		return
	}
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(conn, data); _ = conn.Close() }) // ends with either side
	both.Go(func() { _, _ = io.Copy(data, conn); _ = data.Close() })
	both.Wait()
}

// dialInside connects to a port from within the Pod, past every firewall.
func (s *server) dialInside(port string) (net.Conn, error) {
	inside := ""
	if s != nil {
		inside = s.insideAddress(port)
	}
	if inside == "" {
		return nil, fmt.Errorf("dial tcp4 127.0.0.1:%s: connect: connection refused", port)
	}
	return net.Dial("tcp", inside)
}

// logText is the log of the Pod's container, with times where they are wanted.
func (s *server) logText(times bool) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, line := range s.log {
		if times {
			b.WriteString(line.at.UTC().Format(time.RFC3339Nano) + " ")
		}
		b.WriteString(line.text + "\n")
	}
	return b.String()
}
