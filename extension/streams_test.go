package extension_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	streaming "k8s.io/streaming/pkg/httpstream"
	streamingspdy "k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/annex-api/annex/extension"
)

// streamed is a kind with a stream by which each of the ways goes.
func streamed(serve http.HandlerFunc) extension.Part {
	return named(things{Versions: lossy(), Sub: extension.Sub(
		extension.Connect("stream", func(context.Context, *thing) (http.Handler, error) { return serve, nil }),
	)})
}

// The channels of Kubernetes' stream protocol. A close of a channel is told by another one.
const (
	channelIn, channelOut, channelError, channelClose = 0, 1, 3, 255
	channelProtocol                                   = "v5.channel.k8s.io"
)

// channels is a session of the protocol that kubectl speaks: what comes in goes out in
// capitals, until the client closes.
func channels(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{Subprotocols: []string{channelProtocol}}
	c, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer c.Close()
	for {
		_, frame, err := c.ReadMessage()
		switch {
		case err != nil || len(frame) == 0:
			return
		case frame[0] == channelIn:
			err = c.WriteMessage(websocket.BinaryMessage, append([]byte{channelOut}, bytes.ToUpper(frame[1:])...))
		case frame[0] == channelClose && bytes.Equal(frame[1:], []byte{channelIn}):
			err = c.WriteMessage(websocket.BinaryMessage, append([]byte{channelError}, `{"metadata":{},"status":"Success"}`...))
			_ = c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
		}
		if err != nil {
			return
		}
	}
}

// client-go's executor, which is kubectl's, holds a session over WebSocket.
func TestStreamsOverTheChannelProtocol(t *testing.T) {
	running, config := onAPort(t, streamed(channels))
	made(t, in(t, running.Server, "v1"), object("one", "a"))
	for _, version := range both {
		executor, err := remotecommand.NewWebSocketExecutorForProtocols(config, http.MethodGet, config.Host+pathOf(version)+"/one/stream?stdin=true&stdout=true", channelProtocol)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := executor.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader("hello"), Stdout: &out}); err != nil || out.String() != "HELLO" {
			t.Errorf("%s: %q, %v", version, out.String(), err)
		}
	}
}

// A plain WebSocket goes through every version, and through the connection within the process.
func TestStreamsOverWebSocket(t *testing.T) {
	running, config := onAPort(t, streamed(echo))
	made(t, in(t, running.Server, "v1"), object("one", "a"))
	inside := http.Header{}
	if err := headersOf(running.Config, inside); err != nil {
		t.Fatal(err)
	}
	outside := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // the certificate is made by the server
	for _, version := range both {
		for what, way := range map[string]struct {
			dialer websocket.Dialer
			host   string
			header http.Header
		}{
			"inside":  {websocket.Dialer{NetDialContext: running.Config.Dial}, running.Config.Host, inside},
			"outside": {outside, config.Host, http.Header{"Authorization": {"Bearer " + config.BearerToken}}},
		} {
			c, response, err := way.dialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(way.host, "http")+pathOf(version)+"/one/stream?prefix=re:", way.header)
			if err != nil {
				t.Fatalf("%s, %s: %v, %v", version, what, err, response)
			}
			for _, kind := range []int{websocket.TextMessage, websocket.BinaryMessage} {
				if err := c.WriteMessage(kind, []byte("hello")); err != nil {
					t.Fatal(err)
				}
				if got, data, err := c.ReadMessage(); err != nil || got != kind || string(data) != "re:hello" {
					t.Errorf("%s, %s: %q, %v", version, what, data, err)
				}
			}
			c.Close()
		}
	}
}

// shouting is a session over SPDY: what comes in on a stream goes out on it in capitals.
func shouting(w http.ResponseWriter, r *http.Request) {
	if _, err := streaming.Handshake(r, w, []string{"shout.example.com"}); err != nil {
		return // it has answered
	}
	streams := make(chan streaming.Stream, 1)
	c := streamingspdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s streaming.Stream, replied <-chan struct{}) error {
		go func() {
			<-replied
			streams <- s
		}()
		return nil
	})
	if c == nil {
		return
	}
	defer c.Close()
	select {
	case s := <-streams:
		data, err := io.ReadAll(s)
		if err == nil {
			_, _ = s.Write(bytes.ToUpper(data)) // the client sees what is missing
		}
		_ = s.Close() // the client reads to here
		<-c.CloseChan()
	case <-c.CloseChan():
	}
}

func TestStreamsOverSPDY(t *testing.T) {
	running, config := onAPort(t, streamed(shouting))
	made(t, in(t, running.Server, "v1"), object("one", "a"))
	for _, version := range both {
		transport, upgrader, err := spdy.RoundTripperFor(config)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(config.Host + pathOf(version) + "/one/stream")
		if err != nil {
			t.Fatal(err)
		}
		c, protocol, err := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, u).Dial("shout.example.com")
		if err != nil || protocol != "shout.example.com" {
			t.Fatalf("%s: %q, %v", version, protocol, err)
		}
		stream, err := c.CreateStream(http.Header{corev1.StreamType: {corev1.StreamTypeData}})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := shout(stream); err != nil || got != "HELLO" {
			t.Errorf("%s: %q, %v", version, got, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		_, _, err = spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, u).Dial("other.example.com")
		if err == nil {
			t.Errorf("%s: a protocol of nobody is spoken", version)
		}
	}
}

func shout(s streaming.Stream) (string, error) {
	if _, err := io.WriteString(s, "hello"); err != nil {
		return "", err
	}
	if err := s.Close(); err != nil {
		return "", err
	}
	data, err := io.ReadAll(s)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return string(data), err
}
