package tty

import "golang.org/x/sys/unix"

const (
	getTermios = unix.TIOCGETA
	setTermios = unix.TIOCSETA
)

// flush throws away what was received and not read, and what was written and not sent.
func flush(fd int) error { return unix.IoctlSetPointerInt(fd, unix.TIOCFLUSH, 0) }

func setSpeed(t *unix.Termios, speed int) error {
	t.Ispeed, t.Ospeed = uint32(speed), uint32(speed)
	return nil
}
