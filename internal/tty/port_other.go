//go:build !linux && !freebsd && !windows

package tty

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
)

// port can't be opened on this system; the package is there so that all else builds.
type port struct{}

func (*port) open(string, int) error {
	return fmt.Errorf("serial ports on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
func (*port) setDeadline(time.Time) error { return errors.ErrUnsupported }
func (*port) read([]byte) (int, error)    { return 0, errors.ErrUnsupported }
func (*port) write([]byte) (int, error)   { return 0, errors.ErrUnsupported }
func (*port) close() error                { return errors.ErrUnsupported }

// Find finds nothing.
func Find(string) ([]Candidate, error) { return nil, nil }

// Holders can't be told on this system.
func Holders(string, string) []Holder { return nil }

// IsTerminal says whether a person may be looking at f.
func IsTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
