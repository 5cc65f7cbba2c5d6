package gather

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/portforward"
	clientportforward "k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/transport/websocket"
	"k8s.io/klog/v2"
	streamhttp "k8s.io/streaming/pkg/httpstream"
	streamspdy "k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/annex-api/annex/diagnosis"
)

// maxForwardError bounds what the kubelet says of a connection that it could not make.
const maxForwardError = 4 << 10

// forward connects to a port of a Pod through the API server and the kubelet of its node, which
// connects as localhost in the Pod's network. The connection ends with ctx at the latest.
func (c *cluster) forward(ctx context.Context, namespace, pod string, port int32) (net.Conn, error) {
	streams, err := c.dialPod(ctx, namespace, pod)
	if err != nil {
		return nil, closedWay{fmt.Errorf("forward port %d of Pod %s/%s: %w", port, namespace, pod, err)}
	}
	t := &tunnel{streams: streams, said: make(chan struct{})}
	// Streams know no deadlines: what waits on one ends with its connection.
	t.stop = context.AfterFunc(ctx, func() { _ = streams.Close() })
	header := http.Header{}
	header.Set(corev1.PortHeader, fmt.Sprint(port))
	header.Set(corev1.PortForwardRequestIDHeader, "0")
	header.Set(corev1.StreamType, corev1.StreamTypeError)
	problems, err := streams.CreateStream(header)
	if err != nil {
		t.stop()
		return nil, closedWay{errors.Join(fmt.Errorf("forward port %d of Pod %s/%s: %w", port, namespace, pod, err), streams.Close())}
	}
	_ = problems.Close() // nothing is said there
	go func() {
		defer close(t.said)
		text, err := io.ReadAll(io.LimitReader(problems, maxForwardError))
		if err == nil {
			t.problem = strings.TrimSpace(string(text))
		}
	}()
	header.Set(corev1.StreamType, corev1.StreamTypeData)
	if t.data, err = streams.CreateStream(header); err != nil {
		err = fmt.Errorf("forward port %d of Pod %s/%s: %w", port, namespace, pod, err)
		return nil, closedWay{errors.Join(err, t.Close())}
	}
	return t, nil
}

// dialPod opens the connection that streams go over: by WebSocket, or by SPDY where a server or a
// proxy on the way does not take that.
func (c *cluster) dialPod(ctx context.Context, namespace, pod string) (streamhttp.Connection, error) {
	u := c.at("/api/v1/namespaces/"+namespace+"/pods/"+pod+"/portforward", nil).String()
	transport, holder, err := websocket.RoundTripperFor(c.config)
	if err != nil {
		return nil, err
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	conn, err := websocket.Negotiate(transport, holder, q, portforward.WebsocketsSPDYTunnelingPrefix+portforward.PortForwardV1Name)
	if err == nil {
		return streamspdy.NewClientConnection(clientportforward.NewTunnelingConnectionWithLogger(klog.Logger{}, conn))
	}
	var refused *streamhttp.UpgradeFailureError
	if !errors.As(err, &refused) || apierrors.IsForbidden(refused.Cause) || apierrors.IsUnauthorized(refused.Cause) || apierrors.IsNotFound(refused.Cause) {
		return nil, err
	}
	upgrading, upgrader, err := spdy.RoundTripperFor(c.config)
	if err != nil {
		return nil, err
	}
	if q, err = http.NewRequestWithContext(ctx, http.MethodPost, u, nil); err != nil {
		return nil, err
	}
	client := &http.Client{Transport: upgrading, CheckRedirect: c.client.CheckRedirect}
	streams, _, err := spdy.NegotiateStreaming(upgrader, client, q, portforward.PortForwardV1Name)
	return streams, err
}

// closedWay is an error of the API server or the kubelet, which shows nothing of the Pod.
type closedWay struct{ error }

func (e closedWay) Unwrap() error { return e.error }

// why is the reason for which an attempt could not be made.
func (e closedWay) why() error {
	text := e.Error()
	text = text[:min(len(text), maxMessage)]
	var refused *streamhttp.UpgradeFailureError
	switch {
	case errors.As(e.error, &refused) && (apierrors.IsForbidden(refused.Cause) || apierrors.IsUnauthorized(refused.Cause)),
		strings.Contains(text, "is forbidden:"): // SPDY's error has no more than the text
		return fmt.Errorf("%w: %s", diagnosis.ErrForbidden, text)
	case errors.Is(e.error, context.DeadlineExceeded):
		return fmt.Errorf("%w: %s", diagnosis.ErrTimedOut, text)
	}
	return errors.New(text)
}

// tunnel is a connection to one port of a Pod.
type tunnel struct {
	streams streamhttp.Connection
	data    streamhttp.Stream
	stop    func() bool

	said    chan struct{} // closed once problem is final
	problem string

	once sync.Once
}

// refusedError is what the kubelet says of a connection that it could not make.
type refusedError string

func (e refusedError) Error() string { return string(e) }

func (t *tunnel) Read(p []byte) (int, error) {
	n, err := t.data.Read(p)
	if err != nil && n == 0 {
		// Why it ended comes on the other stream, which ends with the connection.
		select {
		case <-t.said:
		case <-time.After(time.Second):
			return n, err
		}
		if t.problem != "" {
			return n, refusedError(t.problem)
		}
	}
	return n, err
}

func (t *tunnel) Write(p []byte) (int, error) { return t.data.Write(p) }

func (t *tunnel) Close() error {
	var err error
	t.once.Do(func() {
		t.stop()
		if t.data != nil {
			_ = t.data.Reset() // nobody reads what is left
		}
		err = t.streams.Close()
		<-t.said
	})
	return err
}

// The end of ctx is its deadline.

func (*tunnel) SetDeadline(time.Time) error      { return nil }
func (*tunnel) SetReadDeadline(time.Time) error  { return nil }
func (*tunnel) SetWriteDeadline(time.Time) error { return nil }
func (*tunnel) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*tunnel) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
