package tty

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// slice is how long one system call may wait: a new deadline is seen after it.
const slice = 100 * time.Millisecond

type port struct {
	handle windows.Handle
	saved  windows.DCB

	mu       sync.Mutex
	deadline time.Time
}

func (p *port) open(path string, speed int) error {
	if !strings.HasPrefix(path, `\\.\`) {
		path = `\\.\` + path
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return err
	}
	// No sharing: the system's own exclusive lock.
	handle, err := windows.CreateFile(name, windows.GENERIC_READ|windows.GENERIC_WRITE, 0, nil, windows.OPEN_EXISTING, 0, 0)
	switch {
	case errors.Is(err, windows.ERROR_FILE_NOT_FOUND):
		return fmt.Errorf("%w: add a serial port to the VM, or name another one", ErrNoPort)
	case errors.Is(err, windows.ERROR_ACCESS_DENIED), errors.Is(err, windows.ERROR_SHARING_VIOLATION):
		return fmt.Errorf("%w by another program, or this user may not open it", ErrBusy)
	case err != nil:
		return fmt.Errorf("can't be opened: %w", err)
	}
	p.handle = handle
	if err := p.setUp(speed); err != nil {
		windows.CloseHandle(handle)
		return err
	}
	return nil
}

func (p *port) setUp(speed int) error {
	if err := windows.GetCommState(p.handle, &p.saved); err != nil {
		return fmt.Errorf("%w: it is no serial line (%v)", ErrNoPort, err)
	}
	const binary = 1 // fBinary, the only flag: no parity, no flow control
	raw := windows.DCB{
		DCBlength: p.saved.DCBlength, BaudRate: uint32(speed), Flags: binary,
		ByteSize: 8, Parity: windows.NOPARITY, StopBits: windows.ONESTOPBIT,
	}
	if err := windows.SetCommState(p.handle, &raw); err != nil {
		return fmt.Errorf("raw mode can't be set: %w", err)
	}
	// Read returns as soon as there is a byte (the documented meaning of two MAXDWORDs), or after the slice.
	const most = ^uint32(0)
	timeouts := windows.CommTimeouts{
		ReadIntervalTimeout: most, ReadTotalTimeoutMultiplier: most, ReadTotalTimeoutConstant: uint32(slice.Milliseconds()),
		WriteTotalTimeoutConstant: uint32(slice.Milliseconds()),
	}
	if err := windows.SetCommTimeouts(p.handle, &timeouts); err != nil {
		return fmt.Errorf("time limits can't be set: %w", err)
	}
	return windows.PurgeComm(p.handle, windows.PURGE_RXCLEAR|windows.PURGE_TXCLEAR)
}

func (p *port) setDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline = t
	return nil
}

func (p *port) late() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.deadline.IsZero() && !time.Now().Before(p.deadline)
}

func (p *port) read(b []byte) (int, error) {
	for len(b) > 0 {
		if p.late() {
			return 0, os.ErrDeadlineExceeded
		}
		var n uint32
		if err := windows.ReadFile(p.handle, b, &n, nil); err != nil || n > 0 {
			return int(n), err
		}
	}
	return 0, nil
}

func (p *port) write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		if p.late() {
			return done, os.ErrDeadlineExceeded
		}
		var n uint32
		err := windows.WriteFile(p.handle, b[done:], &n, nil)
		done += int(n)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (p *port) close() error {
	_ = windows.PurgeComm(p.handle, windows.PURGE_RXCLEAR|windows.PURGE_TXCLEAR|windows.PURGE_RXABORT|windows.PURGE_TXABORT)
	return errors.Join(windows.SetCommState(p.handle, &p.saved), windows.CloseHandle(p.handle))
}

// Find lists the system's serial ports. root is not used.
func Find(string) ([]Candidate, error) {
	key, err := registry.OpenKey(registry.LOCAL_MACHINE, `HARDWARE\DEVICEMAP\SERIALCOMM`, registry.QUERY_VALUE)
	if errors.Is(err, registry.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer key.Close()
	names, err := key.ReadValueNames(0)
	if err != nil {
		return nil, err
	}
	var found []Candidate
	for _, name := range names {
		if com, _, err := key.GetStringValue(name); err == nil {
			found = append(found, Candidate{Path: com})
		}
	}
	return found, nil
}

// Holders can't be told on this system.
func Holders(string, string) []Holder { return nil }
