//go:build linux || freebsd

package tty

import (
	"os"

	"golang.org/x/sys/unix"
)

// IsTerminal says whether a person may be looking at f.
func IsTerminal(f *os.File) bool {
	conn, err := f.SyscallConn()
	if err != nil {
		return false
	}
	terminal := false
	err = conn.Control(func(fd uintptr) {
		_, err := unix.IoctlGetTermios(int(fd), getTermios)
		terminal = err == nil
	})
	return err == nil && terminal
}
