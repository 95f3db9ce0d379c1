//go:build unix

package guest

import "syscall"

// nonBlocking keeps an open or a write from waiting for whoever has the other end.
const nonBlocking = syscall.O_NONBLOCK | syscall.O_NOCTTY
