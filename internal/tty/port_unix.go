//go:build linux || freebsd

package tty

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

type port struct {
	file  *os.File
	saved unix.Termios
}

func (p *port) open(path string, speed int) error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EIO), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%w (%w): add a serial port to the VM, or name another one", ErrNoPort, err)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: another program has opened it for itself alone", ErrBusy)
	case err != nil:
		return fmt.Errorf("can't be opened: %w", err)
	}
	if err := p.setUp(fd, speed); err != nil {
		unix.Close(fd)
		return err
	}
	p.file = os.NewFile(uintptr(fd), path) // the descriptor is non-blocking, so deadlines work
	return nil
}

func (p *port) setUp(fd, speed int) error {
	saved, err := unix.IoctlGetTermios(fd, getTermios)
	switch {
	case errors.Is(err, unix.EIO):
		return fmt.Errorf("%w: the name is there, and no hardware behind it", ErrNoPort)
	case err != nil:
		return fmt.Errorf("%w: it is no serial line (%w)", ErrNoPort, err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("%w: another program has locked it", ErrBusy)
		}
		return fmt.Errorf("can't be locked: %w", err)
	}
	raw := *saved
	raw.Iflag, raw.Oflag, raw.Lflag = unix.IGNBRK, 0, 0
	raw.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := setSpeed(&raw, speed); err != nil {
		return err
	}
	if err := unix.IoctlSetInt(fd, unix.TIOCEXCL, 0); err != nil {
		return fmt.Errorf("can't be taken for this program alone: %w", err)
	}
	if err := unix.IoctlSetTermios(fd, setTermios, &raw); err != nil {
		_ = unix.IoctlSetInt(fd, unix.TIOCNXCL, 0)
		return fmt.Errorf("raw mode can't be set: %w", err)
	}
	p.saved = *saved
	return flush(fd)
}

func (p *port) setDeadline(t time.Time) error { return p.file.SetDeadline(t) }
func (p *port) read(b []byte) (int, error)    { return p.file.Read(b) }
func (p *port) write(b []byte) (int, error)   { return p.file.Write(b) }

func (p *port) close() error {
	var restored error
	if conn, err := p.file.SyscallConn(); err == nil {
		restored = conn.Control(func(fd uintptr) {
			// A hang-up has undone all of it already; there is nobody to tell.
			_ = flush(int(fd))
			_ = unix.IoctlSetTermios(int(fd), setTermios, &p.saved)
			_ = unix.IoctlSetInt(int(fd), unix.TIOCNXCL, 0)
		})
	}
	return errors.Join(restored, p.file.Close())
}
