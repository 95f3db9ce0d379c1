package vspc

import (
	"bytes"
	"crypto/tls"
	"time"

	"vmw-cloudinit-metadata/telnet"
)

// What one Write takes from the guest's data on a connection that can only be written to by blocking: one with TLS,
// say. A command for the host waits behind one such piece at most, so a slow host gets small ones, and a host that was
// fast so far no more than it can still read in time.
const (
	minPiece = 2 << 10
	maxPiece = 16 << 10 // a record of TLS
	slow     = 5 * time.Millisecond
	// easyEnough is what a host has to take without a pause before it gets larger pieces: more than a small receive
	// buffer and our own send buffer swallow.
	easyEnough = 64 << 10
)

// maxAttempt is what is offered to the kernel at once on a connection that can be written to without blocking. The
// kernel takes what fits; notSentLowWater keeps that little when the host is slow.
const maxAttempt = 1 << 20

// output is the side of a link that writes.
type output struct {
	// Guarded by link.writing.
	control []byte        // commands for the host; they go ahead of data
	pumping bool          // a pump is at work
	failure error         // why the connection ends
	quiet   chan struct{} // closed when the pump stops; made by those who wait for it

	// For the pump.
	begun []byte // what has to be written before anything else: control, or the other half of a doubled FF
	piece int    // the size of the next piece on a connection that blocks
	easy  int    // bytes such a connection has taken at once since it last was slow
}

// send queues bytes for the host, ahead of the guest's data. It is called by the goroutine that reads.
func (l *link) send(p []byte) {
	if len(p) == 0 {
		return
	}
	l.writing.Lock()
	l.output.control = append(l.output.room(), p...)
	l.sendQueued()
}

// sendMessage is send for a message.
func (l *link) sendMessage(m Message) {
	l.writing.Lock()
	l.output.control = Append(l.output.room(), m)
	l.sendQueued()
}

// usualControl is how much there is to say to a host at once, as a rule.
const usualControl = 128

// room returns o.control, with room for more. link.writing is held.
func (o *output) room() []byte {
	if o.control == nil {
		return make([]byte, 0, usualControl)
	}
	return o.control
}

// sendQueued sees to it that what was added to output.control gets written. link.writing is held, and let go of.
func (l *link) sendQueued() {
	tooMuch := len(l.output.control) > maxControl
	l.writing.Unlock()
	if tooMuch {
		l.fail(ErrNotReading)
	}
	if !l.handling {
		l.kick()
	}
}

// kick sees to it that what is queued gets written. It does not block: what the network does not take at once is
// left to a goroutine that lives until it has.
func (l *link) kick() {
	l.writing.Lock()
	if l.output.pumping || l.output.failure != nil {
		l.writing.Unlock()
		return
	}
	l.output.pumping = true
	l.writing.Unlock()
	if l.raw == nil || !l.pump(false) {
		go l.pump(true)
	}
}

// pump writes until nothing is left to write, or the connection fails. Without wait it returns false where it would
// have to wait, and is to be called again with it.
func (l *link) pump(wait bool) bool {
	for {
		control, data, text, s := l.nextOutput()
		var n int
		var err error
		switch {
		case len(control) > 0:
			n, err = l.write(control, wait)
			l.output.begun = control[n:]
		case len(data) > 0:
			var wire []byte
			data, wire = l.cut(data, text)
			n, err = l.write(wire, wait)
			consumed, split := unescaped(data, len(wire), n)
			switch {
			case split && err != nil:
				consumed-- // whoever gets the rest gets this FF whole
			case split:
				l.output.begun = wire[n : n+1]
			}
			s.sent(l, consumed)
		default:
			return true
		}
		if err != nil {
			l.fail(err)
		} else if n == 0 && !wait {
			return false
		}
	}
}

// nextOutput returns what to write next: bytes for the host, or data for the guest of s, who is then told by s.sent
// what became of it. If there is nothing, the pump has ended.
func (l *link) nextOutput() (control, data []byte, text bool, s *Session) {
	l.writing.Lock()
	defer l.writing.Unlock()
	o := &l.output
	if o.failure == nil {
		if len(o.begun) == 0 {
			o.begun, o.control = o.control, nil
		}
		if len(o.begun) > 0 {
			return o.begun, nil, false, nil
		}
		s = l.session.Load()
		if data, text = s.next(l); len(data) > 0 {
			return nil, data, text, s
		}
	}
	o.pumping = false
	if o.quiet != nil {
		close(o.quiet)
		o.quiet = nil
	}
	return nil, nil, false, nil
}

// cut returns the first part of data, and how the wire has it. In text there is nothing to be doubled.
func (l *link) cut(data []byte, text bool) (part, wire []byte) {
	limit := maxAttempt
	if l.raw == nil {
		limit = max(l.output.piece, minPiece)
	}
	data = data[:min(len(data), limit)]
	if text {
		return data, data
	}
	switch i := bytes.IndexByte(data, iac); {
	case i < 0:
		return data, data
	case i >= minPiece:
		return data[:i], data[:i]
	}
	data = data[:min(len(data), minPiece)]
	return data, telnet.AppendData(nil, data)
}

const iac = byte(telnet.IAC)

// unescaped returns how many bytes of data are in the first n of the wireLen bytes that the wire has for it, and
// whether the last of them is an FF whose double is still to come.
func unescaped(data []byte, wireLen, n int) (consumed int, split bool) {
	if wireLen == len(data) {
		return n, false
	}
	for n > 0 {
		if data[consumed] == iac {
			n--
			split = n == 0
		}
		n--
		consumed++
	}
	return consumed, split
}

// write writes p or a part of it. With a raw connection it does not block; with wait it returns 0 once the connection
// can be written to, if it could not be at once.
func (l *link) write(p []byte, wait bool) (int, error) {
	if l.raw != nil {
		return l.concentrator.attempt(l.raw, p, wait)
	}
	start := time.Now()
	n, err := l.conn.Write(p)
	switch {
	case time.Since(start) > slow:
		l.output.piece, l.output.easy = minPiece, 0
	case l.output.easy < easyEnough:
		l.output.easy += n
	case n >= l.output.piece:
		l.output.piece = min(2*n, maxPiece)
	}
	return n, err
}

// flush waits until what is queued is written.
func (l *link) flush() error {
	for {
		l.writing.Lock()
		if err := l.output.failure; err != nil || !l.output.pumping {
			l.writing.Unlock()
			return err
		}
		if l.output.quiet == nil {
			l.output.quiet = make(chan struct{})
		}
		quiet := l.output.quiet
		l.writing.Unlock()
		<-quiet
	}
}

// fail ends the connection. The first reason counts.
func (l *link) fail(why error) {
	l.writing.Lock()
	if l.output.failure == nil {
		l.output.failure = why
	}
	conn := l.conn
	l.writing.Unlock()
	end := func() {
		conn.Close()
		l.resume()
	}
	if _, encrypted := conn.(*tls.Conn); encrypted {
		go end() // it says goodbye first, and may have to wait for that
		return
	}
	end()
}

func (l *link) reason() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	return l.output.failure
}
