// Package pipe connects two ends within one process as TCP would: each direction has a buffer, so that who writes does
// not wait for who reads, as he would with net.Pipe. The kernel and its limit on open files have no part in it.
package pipe

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// limit is how much may wait in one direction: no more than a slow host's kernel takes.
const limit = 64 << 10

// Listener takes connections that come from within the process.
type Listener struct {
	waiting chan net.Conn
	closed  chan struct{}
	close   sync.Once
	ports   atomic.Uint32
}

// Listen returns a Listener for its own Dial.
func Listen() *Listener {
	return &Listener{waiting: make(chan net.Conn), closed: make(chan struct{})}
}

// Dial returns the client's end of a new connection, when the other is accepted. from says which address the server sees;
// the port is made up.
func (l *Listener) Dial(ctx context.Context, from net.IP) (net.Conn, error) {
	port := int(l.ports.Add(1)%60_000) + 1024
	client, server := newPair(&net.TCPAddr{IP: from, Port: port}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: serverPort})
	select {
	case l.waiting <- server:
		return client, nil
	case <-l.closed:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// serverPort is what telnets:// has by IANA's list; nobody listens there.
const serverPort = 992

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.waiting:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. Connections stay.
func (l *Listener) Close() error {
	l.close.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: serverPort} }

// end is one end of a connection.
type end struct {
	in, out       *stream
	local, remote net.Addr
}

// newPair makes both ends at once, as one piece of memory.
func newPair(a, b net.Addr) (*end, *end) {
	pair := new(struct {
		streams [2]stream
		ends    [2]end
	})
	for i := range pair.streams {
		pair.streams[i].changed.L = &pair.streams[i].mu
	}
	up, down := &pair.streams[0], &pair.streams[1]
	pair.ends = [2]end{{in: down, out: up, local: a, remote: b}, {in: up, out: down, local: b, remote: a}}
	return &pair.ends[0], &pair.ends[1]
}

func (e *end) Read(p []byte) (int, error)  { return e.in.read(p) }
func (e *end) Write(p []byte) (int, error) { return e.out.write(p) }
func (e *end) LocalAddr() net.Addr         { return e.local }
func (e *end) RemoteAddr() net.Addr        { return e.remote }

// Close lets the other end read what was written, and then io.EOF.
func (e *end) Close() error {
	e.in.abandon()
	e.out.finish()
	return nil
}

func (e *end) SetReadDeadline(t time.Time) error {
	e.in.reader.set(e.in, t)
	return nil
}

func (e *end) SetWriteDeadline(t time.Time) error {
	e.out.writer.set(e.out, t)
	return nil
}

func (e *end) SetDeadline(t time.Time) error {
	e.in.reader.set(e.in, t)
	e.out.writer.set(e.out, t)
	return nil
}

// stream is one direction.
type stream struct {
	mu        sync.Mutex
	changed   sync.Cond
	data      []byte // what waits to be read; nothing is held while nothing does
	finished  bool   // by who writes
	abandoned bool   // by who reads
	reader    deadline
	writer    deadline
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.abandoned:
			return 0, net.ErrClosed
		case s.reader.past:
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		case len(s.data) > 0:
			n := copy(p, s.data)
			if s.data = s.data[n:]; len(s.data) == 0 {
				s.data = nil
			}
			s.changed.Broadcast()
			return n, nil
		case s.finished:
			return 0, io.EOF
		}
		s.changed.Wait()
	}
}

func (s *stream) write(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		room := limit - len(s.data)
		switch {
		case s.finished:
			return n, net.ErrClosed
		case s.writer.past:
			return n, os.ErrDeadlineExceeded
		case s.abandoned:
			return n, syscall.EPIPE
		case n == len(p):
			return n, nil
		case room > 0:
			part := p[n:min(len(p), n+room)]
			s.data = append(s.data, part...)
			n += len(part)
			s.changed.Broadcast()
			continue
		}
		s.changed.Wait()
	}
}

func (s *stream) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finished = true
	s.writer.stop()
	s.changed.Broadcast()
}

func (s *stream) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.abandoned, s.data = true, nil
	s.reader.stop()
	s.changed.Broadcast()
}

// deadline is when one side of a stream waits no longer. The stream's mu guards it.
type deadline struct {
	past  bool
	timer *time.Timer
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

func (d *deadline) set(s *stream, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.stop()
	d.past = false
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.past = true
		s.changed.Broadcast()
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if d.timer == timer { // not one that was stopped too late
			d.past, d.timer = true, nil
			s.changed.Broadcast()
		}
	})
	d.timer = timer
}
