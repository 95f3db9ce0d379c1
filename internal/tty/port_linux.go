package tty

import (
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	getTermios = unix.TCGETS
	setTermios = unix.TCSETS
)

// flush throws away what was received and not read, and what was written and not sent.
func flush(fd int) error { return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIOFLUSH) }

func setSpeed(t *unix.Termios, speed int) error {
	for _, s := range []struct {
		speed int
		bits  uint32
	}{
		{1200, unix.B1200}, {2400, unix.B2400}, {4800, unix.B4800}, {9600, unix.B9600}, {19200, unix.B19200}, {38400, unix.B38400},
		{57600, unix.B57600}, {115200, unix.B115200}, {230400, unix.B230400}, {460800, unix.B460800}, {921600, unix.B921600},
	} {
		if s.speed == speed {
			t.Cflag |= s.bits
			t.Ispeed, t.Ospeed = uint32(speed), uint32(speed)
			return nil
		}
	}
	return fmt.Errorf("%d baud is not a usual speed: take 115200, or another one from 1200 to 921600", speed)
}
