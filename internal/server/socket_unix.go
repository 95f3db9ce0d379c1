//go:build unix

package server

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// isShortage reports whether accepting failed for want of something that may come back.
func isShortage(err error) bool {
	for _, shortage := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR} {
		if errors.Is(err, shortage) {
			return true
		}
	}
	return false
}

// speaksTLS reports whether the client begins with a TLS handshake, without taking a byte from it. One that says
// nothing until timeout does not; nor does one that says nothing until ctx is done.
func speaksTLS(ctx context.Context, conn net.Conn, timeout time.Duration) (bool, error) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return false, nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false, err
	}
	var first [1]byte
	var n int
	var peekErr error
	tcp.SetReadDeadline(time.Now().Add(timeout))
	defer tcp.SetReadDeadline(time.Time{})
	defer context.AfterFunc(ctx, func() { tcp.SetReadDeadline(time.Unix(1, 0)) })()
	err = raw.Read(func(fd uintptr) bool {
		n, _, peekErr = syscall.Recvfrom(int(fd), first[:], syscall.MSG_PEEK)
		return peekErr != syscall.EAGAIN && peekErr != syscall.EINTR
	})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return false, nil
	case err != nil:
		return false, err
	}
	return n == 1 && first[0] == tlsHandshake, os.NewSyscallError("recvfrom", peekErr)
}

// tlsHandshake is the first byte of a TLS connection (RFC 8446, section 5.1); telnet begins with 255.
const tlsHandshake = 0x16
