package tty

import (
	"os"

	"golang.org/x/sys/windows"
)

// IsTerminal says whether a person may be looking at f.
func IsTerminal(f *os.File) bool {
	var mode uint32
	return windows.GetConsoleMode(windows.Handle(f.Fd()), &mode) == nil
}
