//go:build unix && !linux

package vspc

import "syscall"

// limitUnsent does nothing: these systems have no such limit, or another one.
func limitUnsent(syscall.RawConn) {}
