package shell

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/exec"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

const (
	// maxMessage bounds a message of a client, in bytes.
	maxMessage = 64 << 10
	// send bounds the wait for a client that does not read, goodbye that for one that does not
	// end the connection.
	send    = 10 * time.Second
	goodbye = 2 * time.Second
)

// protocols are those of kubectl, the preferred one first: in v5 a client can end its stdin.
var protocols = []string{remotecommand.StreamProtocolV5Name, remotecommand.StreamProtocolV4Name}

// serveWebSocket speaks a protocol of kubectl, or plain messages where the client names none. A
// page of another origin is refused, as a browser would open a session with what it knows of
// its user.
func serveWebSocket(ctx context.Context, w http.ResponseWriter, r *http.Request, p program) {
	o, plain := requested(r), len(websocket.Subprotocols(r)) == 0
	if !plain && !o.stdin {
		refuse(w, apierrors.NewBadRequest("a session needs stdin=true"))
		return
	}
	up := websocket.Upgrader{Subprotocols: protocols}
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		return // the client has been told
	}
	defer conn.Close()
	c := &channels{conn: conn, plain: plain, sizes: make(chan size), ended: make(chan struct{})}
	if !plain && conn.Subprotocol() == "" {
		c.close(websocket.CloseProtocolError, "none of the subprotocols is known here")
		return
	}
	c.serve(ctx, o, p)
}

// channels are the streams of a session in one WebSocket connection. The first byte of a message
// says which it is of; a plain connection has stdin and stdout alone, and no such byte.
type channels struct {
	conn  *websocket.Conn
	plain bool
	sizes chan size
	ended chan struct{} // closed when the session has ended
	until time.Time     // when the connection ends; read after ended
}

func (c *channels) serve(ctx context.Context, o streams, p program) {
	var readers sync.WaitGroup
	in, typed := io.Pipe()
	s := session{in: in, tty: o.tty, sizes: c.sizes, readers: &readers}
	if o.stdout || c.plain {
		s.out = channel{c, remotecommand.StreamStdOut}
	}
	if o.stderr {
		s.errOut = channel{c, remotecommand.StreamStdErr}
	}
	if c.plain {
		s.errOut = s.out
	}
	readers.Go(func() { _ = typed.CloseWithError(c.receive(typed)) })
	err := p.run(ctx, s)
	_ = in.Close() // what still comes is thrown away
	c.end(err)
	// The client ends the connection, so that nothing of what it was sent is lost.
	c.until = time.Now().Add(goodbye)
	close(c.ended)
	_ = c.conn.NetConn().SetReadDeadline(c.until) // it ends in any case
	readers.Wait()
}

// receive gives stdin to typed until it ends, and then throws away what comes until the
// connection ends.
func (c *channels) receive(typed *io.PipeWriter) error {
	c.conn.SetReadLimit(maxMessage)
	ping := c.conn.PingHandler()
	c.conn.SetPingHandler(func(text string) error { return errors.Join(c.live(), ping(text)) })
	for {
		if err := c.live(); err != nil {
			return err
		}
		_, message, err := c.conn.ReadMessage()
		switch {
		case websocket.IsCloseError(err, websocket.CloseNormalClosure):
			return nil
		case err != nil:
			return err
		case c.plain:
			_, _ = typed.Write(append(message, '\n')) // a session that has ended reads no more
		case len(message) == 0:
		case message[0] == remotecommand.StreamStdIn:
			_, _ = typed.Write(message[1:]) // as above
		case message[0] == remotecommand.StreamResize:
			c.resize(message[1:])
		case message[0] == remotecommand.StreamClose && len(message) == 2 && message[1] == remotecommand.StreamStdIn:
			_ = typed.Close()
		}
	}
}

// live gives the client more time, unless the session has ended.
func (c *channels) live() error {
	err := c.conn.SetReadDeadline(time.Now().Add(idle))
	select {
	case <-c.ended:
		return c.conn.SetReadDeadline(c.until)
	default:
		return err
	}
}

func (c *channels) resize(message []byte) {
	var to size
	if json.Unmarshal(message, &to) != nil {
		return // what is no size changes nothing
	}
	select {
	case c.sizes <- to:
	case <-c.ended:
	}
}

// end says how the session ended.
func (c *channels) end(err error) {
	if c.plain {
		if err == nil {
			c.close(websocket.CloseNormalClosure, "")
		} else {
			c.close(websocket.CloseNormalClosure, err.Error())
		}
		return
	}
	if status, err := json.Marshal(statusOf(err)); err == nil {
		_, _ = channel{c, remotecommand.StreamErr}.Write(status) // the client may have gone
	}
	c.close(websocket.CloseNormalClosure, "")
}

// statusOf is what a client makes an exit code of.
func statusOf(err error) metav1.Status {
	if err == nil {
		return metav1.Status{Status: metav1.StatusSuccess}
	}
	code := failed
	if exit := (exec.CodeExitError{}); errors.As(err, &exit) {
		code = exit.Code
	}
	return metav1.Status{
		Status: metav1.StatusFailure, Reason: remotecommand.NonZeroExitCodeReason, Message: "the session ended: " + err.Error(),
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: remotecommand.ExitCodeCauseType, Message: strconv.Itoa(code)}}},
	}
}

func (c *channels) close(code int, text string) {
	message := websocket.FormatCloseMessage(code, text)
	_ = c.conn.WriteControl(websocket.CloseMessage, message, time.Now().Add(goodbye)) // the client may have gone
}

// channel is a stream to the client. The session alone writes.
type channel struct {
	of *channels
	id byte
}

// Write implements io.Writer.
func (c channel) Write(p []byte) (int, error) {
	kind, message := websocket.BinaryMessage, append([]byte{c.id}, p...)
	if c.of.plain {
		kind, message = websocket.TextMessage, p
	}
	if err := c.of.conn.SetWriteDeadline(time.Now().Add(send)); err != nil {
		return 0, err
	}
	if err := c.of.conn.WriteMessage(kind, message); err != nil {
		return 0, err
	}
	return len(p), nil
}
