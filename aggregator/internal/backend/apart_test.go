package backend

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http/httptest"
	"testing"
	"time"
)

// tlsPair is a TLS connection over loopback, both ends.
func tlsPair(t *testing.T) (client, server *tls.Conn) {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS() // for its certificate
	t.Cleanup(s.Close)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: s.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			err = conn.(*tls.Conn).Handshake()
		}
		if err != nil {
			t.Error(err)
			conn = nil
		}
		accepted <- conn
	}()
	client, err = tls.Dial("tcp", listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	server, ok := (<-accepted).(*tls.Conn)
	if !ok {
		t.FailNow()
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func TestApartConnWritesInOrder(t *testing.T) {
	client, server := tlsPair(t)
	a := writeApart(client)
	var want bytes.Buffer
	go func() {
		for i := range 1000 {
			if n, err := a.Write(bytes.Repeat([]byte{byte(i)}, i)); n != i || err != nil {
				t.Errorf("write of %d bytes: %d, %v", i, n, err)
			}
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	for i := range 1000 {
		want.Write(bytes.Repeat([]byte{byte(i)}, i))
	}
	got, err := io.ReadAll(server)
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%d bytes arrived of %d, or others; %v", len(got), want.Len(), err)
	}
	if _, err := a.Write([]byte("late")); err == nil {
		t.Error("a write after the end succeeded")
	}
}

// A write that is stuck, as the far end reads nothing, ends with the connection,
// and closing does not wait for it.
func TestApartConnClosesUnderAWrite(t *testing.T) {
	client, _ := tlsPair(t)
	a := writeApart(client)
	failed := make(chan error, 1)
	go func() {
		for {
			if _, err := a.Write(make([]byte, 1<<20)); err != nil {
				failed <- err
				return
			}
		}
	}()
	time.Sleep(100 * time.Millisecond) // until the buffers are full
	closed := make(chan struct{})
	go func() {
		_ = a.Close()
		close(closed)
	}()
	for what, done := range map[string]func() bool{
		"Close": func() bool { <-closed; return true },
		"Write": func() bool { return <-failed != nil },
	} {
		ended := make(chan bool, 1)
		go func() { ended <- done() }()
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			t.Fatalf("%s does not return", what)
		}
	}
}
