//go:build unix && !linux

package vspc

import "syscall"

// limitQueues does nothing: these systems have no such limits, or others.
func limitQueues(syscall.RawConn) {}
