package extension

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
)

// sharedListener is a socket that a parent opened, and that another server may have too: the
// one that this server takes over from. Nobody is accepted before open is called.
type sharedListener struct {
	net.Listener
	open, shut     func()
	opened, closed chan struct{}
}

// inheritListener takes over the listening socket of a parent.
func inheritListener(fd int) (*sharedListener, error) {
	file := os.NewFile(uintptr(fd), "listener")
	if file == nil {
		return nil, fmt.Errorf("--listen-fd: %d is no open file", fd)
	}
	inner, err := net.FileListener(file)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("--listen-fd: %d is no listening socket: %w", fd, err), file.Close())
	}
	l := &sharedListener{Listener: inner, opened: make(chan struct{}), closed: make(chan struct{})}
	l.open = sync.OnceFunc(func() { close(l.opened) })
	l.shut = sync.OnceFunc(func() { close(l.closed) })
	return l, file.Close()
}

// Accept waits for open first.
func (l *sharedListener) Accept() (net.Conn, error) {
	select {
	case <-l.opened:
		return l.Listener.Accept()
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close closes this process's part of the socket.
func (l *sharedListener) Close() error {
	l.shut()
	return l.Listener.Close()
}

// tellReady writes a line to a file of the parent and closes it.
func tellReady(fd int) error {
	file := os.NewFile(uintptr(fd), "ready")
	if file == nil {
		return fmt.Errorf("--ready-fd: %d is no open file", fd)
	}
	_, err := file.WriteString("ready\n")
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("--ready-fd: %w", err)
	}
	return nil
}
