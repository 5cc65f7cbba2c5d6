// Package inprocess carries HTTP between a server and its own process, without a port
// and without TLS.
//
// Who a request is from is said by whoever makes the client, as a struct in memory. A
// server believes it only on connections of this package's listener, which nobody
// outside the process can open.
package inprocess

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"
)

const (
	// header carries the user. It never leaves the process.
	header = "X-Extension-In-Process-User"
	// host stands in URLs; nothing resolves it.
	host = "in-process.invalid"
)

// Address is what a server that listens nowhere else calls its own.
const Address = host + ":443"

type marked struct{}

// Listener is where clients of the same process connect, by pipes.
type Listener struct {
	conns  chan net.Conn
	closed chan struct{}
	close  sync.Once
}

var _ net.Listener = &Listener{}

// Listen makes a listener. A generic API server, which ends in good order only if it has a
// listener of its own, may get one that nobody is a client of.
func Listen() *Listener {
	return &Listener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. Connections that there are stay.
func (l *Listener) Close() error {
	l.close.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener, with a name that nothing resolves.
func (l *Listener) Addr() net.Addr { return address{} }

type address struct{}

func (address) Network() string { return "in-process" }
func (address) String() string  { return Address }

func (l *Listener) dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "dial", Net: "in-process", Err: net.ErrClosed}
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// ConnContext is for the http.Server that serves the listener, and for no other: it
// says that what a request tells of its user is true.
func ConnContext(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, marked{}, true)
}

// Client gives a client configuration that reaches the server as the given user.
func (l *Listener) Client(who user.Info) (*rest.Config, error) {
	data, err := json.Marshal(user.DefaultInfo{Name: who.GetName(), UID: who.GetUID(), Groups: who.GetGroups(), Extra: who.GetExtra()})
	if err != nil {
		return nil, fmt.Errorf("write down the user %s: %w", who.GetName(), err)
	}
	value := base64.StdEncoding.EncodeToString(data)
	return &rest.Config{
		Host: "http://" + host,
		QPS:  -1,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return l.dial(ctx) },
		WrapTransport: func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				r = r.Clone(r.Context())
				r.Header.Set(header, value)
				return next.RoundTrip(r)
			})
		},
	}, nil
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Authenticator knows the users of requests that came through a Listener, and no others.
func Authenticator() authenticator.Request {
	return authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
		value := r.Header.Get(header)
		r.Header.Del(header)
		if trusted, _ := r.Context().Value(marked{}).(bool); !trusted || value == "" {
			return nil, false, nil
		}
		data, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return nil, false, fmt.Errorf("read the user of an in-process request: %w", err)
		}
		who := &user.DefaultInfo{}
		if err := json.Unmarshal(data, who); err != nil {
			return nil, false, fmt.Errorf("read the user of an in-process request: %w", err)
		}
		return &authenticator.Response{User: who}, true, nil
	})
}
