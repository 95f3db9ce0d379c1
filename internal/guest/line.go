package guest

import (
	"context"
	"io"
	"time"
)

// Line is a serial line. SetDeadline ends a waiting Read with os.ErrDeadlineExceeded.
type Line interface {
	io.ReadWriter
	SetDeadline(time.Time) error
}

// LineError is a failure of the port itself.
type LineError struct{ Err error }

func (e *LineError) Error() string { return "the serial port failed: " + e.Err.Error() }
func (e *LineError) Unwrap() error { return e.Err }

// source reads from the line as long as an answer may take: wait for its first byte, then as long as bytes come and
// are not too slow.
type source struct {
	line     Line
	ctx      context.Context
	began    time.Time
	last     time.Time
	wait     time.Duration
	received int64
}

func (s *source) start(ctx context.Context, wait time.Duration) {
	now := time.Now()
	*s = source{line: s.line, ctx: ctx, began: now, last: now, wait: wait}
}

func (s *source) send(frame []byte) error {
	if err := s.until(s.began.Add(s.wait + time.Duration(len(frame))*time.Second/slowest)); err != nil {
		return err
	}
	_, err := s.line.Write(frame)
	s.began = time.Now()
	return err
}

func (s *source) Read(b []byte) (int, error) {
	end := s.began.Add(s.wait)
	if pausing := s.last.Add(idle); s.received > 0 && pausing.After(end) {
		end = pausing
	}
	if slow := s.began.Add(s.wait + time.Duration(s.received)*time.Second/slowest); slow.Before(end) {
		end = slow
	}
	if err := s.until(end); err != nil {
		return 0, err
	}
	n, err := s.line.Read(b)
	if n > 0 {
		s.received += int64(n)
		s.last = time.Now()
	}
	return n, err
}

// until sets the line's deadline. The order matters: who cancels after it sets a deadline of his own.
func (s *source) until(t time.Time) error {
	if end, ok := s.ctx.Deadline(); ok && end.Before(t) {
		t = end
	}
	if err := s.line.SetDeadline(t); err != nil {
		return err
	}
	return s.ctx.Err()
}
