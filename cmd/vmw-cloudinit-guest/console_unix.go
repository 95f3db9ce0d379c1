//go:build unix

package main

import (
	"os"
	"syscall"
	"time"
)

// tell writes a line to a console, if that is there and takes it: a console that hangs must not hang a boot.
func tell(path, line string) {
	f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer f.Close()
	_ = f.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = f.WriteString(line + "\r\n")
}
