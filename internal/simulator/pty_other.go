//go:build !linux

package simulator

import (
	"errors"
	"fmt"
	"os"
)

// PTY is a serial line for programs: a pseudo-terminal in raw mode.
type PTY struct {
	*os.File
	// Path is what programs open.
	Path string
}

// OpenPTY makes a PTY. On this system it can't.
func OpenPTY() (*PTY, error) {
	return nil, fmt.Errorf("making a pseudo-terminal: %w", errors.ErrUnsupported)
}
