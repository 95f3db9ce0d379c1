package simulator

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// PTY is a serial line for programs: a pseudo-terminal in raw mode.
type PTY struct {
	*os.File
	// Path is what programs open.
	Path string

	line *os.File // held open, so that the program may come and go
}

// OpenPTY makes a PTY.
func OpenPTY() (*PTY, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("making a pseudo-terminal: %w", err)
	}
	master := os.NewFile(uintptr(fd), "/dev/ptmx")
	p, err := unlock(fd, master)
	if err != nil {
		master.Close()
		return nil, fmt.Errorf("making a pseudo-terminal: %w", err)
	}
	return p, nil
}

func unlock(fd int, master *os.File) (*PTY, error) {
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, err
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, err
	}
	path := "/dev/pts/" + strconv.Itoa(number)
	line, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if err := makeRaw(line); err != nil {
		line.Close()
		return nil, err
	}
	return &PTY{File: master, Path: path, line: line}, nil
}

func makeRaw(line *os.File) error {
	raw, err := line.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		t, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
		if err != nil {
			failed = err
			return
		}
		t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
		t.Oflag &^= unix.OPOST
		t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
		t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
		failed = unix.IoctlSetTermios(int(fd), unix.TCSETS, t)
	})
	if err != nil {
		return err
	}
	return failed
}

// Close closes the line.
func (p *PTY) Close() error {
	p.line.Close()
	return p.File.Close()
}
