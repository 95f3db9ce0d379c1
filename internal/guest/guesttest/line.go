package guesttest

import (
	"io"
	"os"
	"sync"
	"time"
)

// Line returns the two ends of a line without a limit to what is under way. What one end writes goes through damage,
// if it is not nil, on its way.
func Line(damage func([]byte) []byte) (guest, server *End) {
	if damage == nil {
		damage = func(b []byte) []byte { return b }
	}
	up, down := newWire(damage), newWire(damage)
	return &End{in: down, out: up, moved: make(chan struct{})}, &End{in: up, out: down, moved: make(chan struct{})}
}

type wire struct {
	mu      sync.Mutex
	bytes   []byte
	changed chan struct{} // closed at the next change
	damage  func([]byte) []byte
	dead    bool
	closed  bool
}

func newWire(damage func([]byte) []byte) *wire {
	return &wire{changed: make(chan struct{}), damage: damage}
}

func (w *wire) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	close(w.changed)
	w.changed = make(chan struct{})
}

// End is one end of a Line.
type End struct {
	in, out *wire

	mu       sync.Mutex
	deadline time.Time
	moved    chan struct{} // closed when the deadline is set anew
}

// Write takes all, at once.
func (e *End) Write(b []byte) (int, error) {
	e.out.change(func() {
		if !e.out.dead {
			e.out.bytes = append(e.out.bytes, e.out.damage(append([]byte{}, b...))...)
		}
	})
	return len(b), nil
}

// Read waits for bytes, the deadline or the end.
func (e *End) Read(b []byte) (int, error) {
	for {
		e.mu.Lock()
		deadline, moved := e.deadline, e.moved
		e.mu.Unlock()
		e.in.mu.Lock()
		n := copy(b, e.in.bytes)
		e.in.bytes = e.in.bytes[n:]
		changed, closed := e.in.changed, e.in.closed
		e.in.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		if closed {
			return 0, io.EOF
		}
		late := make(<-chan time.Time)
		if !deadline.IsZero() {
			left := time.Until(deadline)
			if left <= 0 {
				return 0, os.ErrDeadlineExceeded
			}
			timer := time.NewTimer(left)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-changed:
		case <-moved:
		case <-late:
		}
	}
}

// SetDeadline bounds Read.
func (e *End) SetDeadline(t time.Time) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.deadline = t
	close(e.moved)
	e.moved = make(chan struct{})
	return nil
}

// Close ends the reads of both ends.
func (e *End) Close() error {
	for _, w := range []*wire{e.in, e.out} {
		w.change(func() { w.closed = true })
	}
	return nil
}

// Cut loses what is under way, and all that is written until Mend.
func (e *End) Cut() {
	for _, w := range []*wire{e.in, e.out} {
		w.change(func() { w.dead, w.bytes = true, nil })
	}
}

// Mend ends a Cut.
func (e *End) Mend() {
	for _, w := range []*wire{e.in, e.out} {
		w.change(func() { w.dead = false })
	}
}
