// Package tty opens a serial port as a raw line with deadlines, and finds the ports that a server may be behind.
package tty

import (
	"errors"
	"fmt"
	"time"
)

// What can be wrong with a port, by errors.Is.
var (
	// ErrNoPort: there is no such port, or no hardware behind it.
	ErrNoPort = errors.New("no such serial port")
	// ErrBusy: another program has it.
	ErrBusy = errors.New("the serial port is in use")
)

// DefaultSpeed is what the port is set to when nothing else is asked for. On a virtual port it is a formality.
const DefaultSpeed = 115200

// Port is an open serial line: raw, locked against others, its settings put back by Close. One Read and one Write may
// run at once; SetDeadline ends both with os.ErrDeadlineExceeded, those already waiting included.
type Port struct {
	port
	path string
}

// Open opens the port at path. A speed of 0 means DefaultSpeed. What is said of a failure is for the machine's owner.
func Open(path string, speed int) (*Port, error) {
	if speed == 0 {
		speed = DefaultSpeed
	}
	p := &Port{path: path}
	if err := p.open(path, speed); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// Name returns the port's path.
func (p *Port) Name() string { return p.path }

// SetDeadline bounds Read and Write from now on; the zero time means no bound.
func (p *Port) SetDeadline(t time.Time) error { return p.setDeadline(t) }

// Read waits for bytes and returns those that are there.
func (p *Port) Read(b []byte) (int, error) { return p.read(b) }

// Write returns once the system has taken all of b.
func (p *Port) Write(b []byte) (int, error) { return p.write(b) }

// Close throws away what is still on its way out, so that it never waits for the other end, and puts the port's
// settings back.
func (p *Port) Close() error { return p.close() }

// Candidate is a port that the system names.
type Candidate struct {
	Path string
	// Skip says why no server can be behind it, in words for people; empty for a port that is worth asking.
	Skip string
	// Phantom: the name is there, and no hardware behind it. Some machines have 30 of them.
	Phantom bool
}

// Holder is a process that has a port open.
type Holder struct {
	PID  int
	Name string
}

func (h Holder) String() string { return fmt.Sprintf("%s (process %d)", h.Name, h.PID) }
