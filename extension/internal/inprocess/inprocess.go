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

	"google.golang.org/grpc/test/bufconn"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"
)

const (
	// bufferBytes is what a connection holds in each direction.
	bufferBytes = 64 << 10
	// header carries the user. It never leaves the process.
	header = "X-Extension-In-Process-User"
	// host stands in URLs; nothing resolves it.
	host = "in-process.invalid"
)

// Address is what a server that listens nowhere else calls its own.
const Address = host + ":443"

type marked struct{}

// Listener is where clients of the same process connect.
type Listener struct{ *bufconn.Listener }

// Listen makes a listener.
func Listen() *Listener { return &Listener{bufconn.Listen(bufferBytes)} }

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
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return l.DialContext(ctx) },
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

// Nowhere is a listener that nobody reaches: a generic API server ends in good order only
// if it has one.
func Nowhere() net.Listener { return nowhere{bufconn.Listen(0)} }

type nowhere struct{ *bufconn.Listener }

// Addr is a name that nothing resolves.
func (nowhere) Addr() net.Addr { return address{} }

type address struct{}

func (address) Network() string { return "in-process" }
func (address) String() string  { return Address }
