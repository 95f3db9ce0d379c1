package server

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// setKeepAlive has connections taken by a listener inherit its keep-alive: four system calls less for each of them.
func setKeepAlive(config *net.ListenConfig) {
	config.KeepAlive = -1 // nothing is set when a connection comes
	config.Control = func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			set := func(level, option, value int) {
				failed = errors.Join(failed, syscall.SetsockoptInt(int(fd), level, option, value))
			}
			set(syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1)
			set(syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, int(keepAliveIdle/time.Second))
			set(syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, int(keepAliveInterval/time.Second))
			set(syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, keepAliveCount)
		})
		return errors.Join(err, failed)
	}
}
