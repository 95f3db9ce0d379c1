//go:build !unix

package vspc

import (
	"net"
	"syscall"
)

// socketOf returns nil: connections are read and written by blocking here.
func socketOf(net.Conn) syscall.RawConn { return nil }

func (in *input) readNow(uintptr) bool { panic("vspc: no raw connections on this system") }

func (c *Concentrator) attempt(syscall.RawConn, []byte, bool) (int, error) {
	panic("vspc: no raw connections on this system")
}

func newAttempt() any { return nil }
