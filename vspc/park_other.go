//go:build !linux

package vspc

import (
	"os"
	"syscall"
	"time"
)

// poller is not to be had here: idle connections keep their goroutines.
type poller struct{}

func newPoller() *poller                           { return nil }
func (*poller) watch(syscall.RawConn, uint64) bool { return false }
func (*poller) wait(time.Time) ([]uint64, error)   { return nil, os.ErrClosed }
func (*poller) close()                             {}
