package dev

import (
	"net"
	"os"
	"syscall"
)

// plainFile is another descriptor of a socket, which the runtime does not poll.
func plainFile(l *net.TCPListener) (*os.File, error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	var failed error
	err = raw.Control(func(f uintptr) {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		if fd, failed = syscall.Dup(int(f)); failed != nil {
			return
		}
		syscall.CloseOnExec(fd)
		failed = syscall.SetNonblock(fd, false)
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "listener"), nil
}
