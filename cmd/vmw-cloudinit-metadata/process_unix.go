//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// raiseFileLimit raises the limit on open files as far as the system lets this process, and returns it; 0 if it is not
// known.
func raiseFileLimit() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	if limit.Cur < limit.Max {
		raised := limit
		raised.Cur = limit.Max
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
			limit = raised
		}
	}
	return uint64(limit.Cur) //nolint:unconvert // the types differ by system
}

// onStatsSignal sends to signals when somebody wants to see the counters.
func onStatsSignal(signals chan<- os.Signal) { signal.Notify(signals, syscall.SIGUSR1) }
