//go:build unix

package vspc

import (
	"crypto/tls"
	"net"
	"os"
	"syscall"
)

// socketOf returns the socket of a TCP or unix connection, perhaps with TLS over it; nil of any other. The kernel is to
// hold little of what we write.
func socketOf(conn net.Conn) syscall.RawConn {
	if encrypted, ok := conn.(*tls.Conn); ok {
		conn = encrypted.NetConn()
	}
	switch conn := conn.(type) {
	case *net.TCPConn:
		if socket, err := conn.SyscallConn(); err == nil {
			limitQueues(socket)
			return socket
		}
	case *net.UnixConn:
		if socket, err := conn.SyscallConn(); err == nil {
			return socket
		}
	}
	return nil
}

// readNow borrows a buffer and reads, and gives it back if there is nothing to read.
func (in *input) readNow(fd uintptr) bool {
	in.buf = in.pool.Get().(*[readSize]byte)
	for {
		n, err := syscall.Read(int(fd), in.buf[:])
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			in.release()
			return false
		}
		in.n, in.err = max(n, 0), os.NewSyscallError("read", err)
		return true
	}
}

// attempt writes p, or as much of it as the kernel takes now. If it takes nothing, attempt returns 0; with wait, not
// before the connection can be written to.
func (c *Concentrator) attempt(raw syscall.RawConn, p []byte, wait bool) (int, error) {
	a := c.attempts.Get().(*attempt)
	defer c.attempts.Put(a)
	a.p, a.wait, a.waited, a.n, a.err = p, wait, false, 0, nil
	err := raw.Write(a.run)
	a.p = nil
	if err == nil {
		err = a.err
	}
	return a.n, err
}

// attempt is a write under way. Its run is made once, so that writing allocates nothing.
type attempt struct {
	run          func(fd uintptr) bool
	p            []byte
	wait, waited bool
	n            int
	err          error
}

func newAttempt() any {
	a := new(attempt)
	a.run = a.write
	return a
}

func (a *attempt) write(fd uintptr) bool {
	for !a.waited {
		n, err := syscall.Write(int(fd), a.p)
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			a.waited = a.wait
			return !a.wait
		}
		a.n, a.err = max(n, 0), os.NewSyscallError("write", err)
		return true
	}
	return true
}
