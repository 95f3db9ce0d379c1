package vspc

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"vmw-cloudinit-metadata/telnet"
)

// link is one connection with a host: telnet and the host's commands, and what is written to it. A session has one, or
// two during a vMotion.
type link struct {
	concentrator *Concentrator
	conn         net.Conn
	remote       net.Addr
	session      atomic.Pointer[Session] // changes once, when the link turns out to be a vMotion's target

	// For the goroutine that reads, alone.
	input   input
	decoder telnet.Decoder
	options telnet.Negotiator
	asked   *questions // nil when nothing is left to ask
	stage   stage
	secure  bool
	greeted bool
	grace   bool // the rest of the VM's identity has its last chance
	// handling says that what is sent to the host waits for the end of handle.
	handling bool

	inherited bool // the session came by a vMotion, so its identity counts, not the host's word

	socket  syscall.RawConn // conn's, TLS or not; nil if it has none that we know
	raw     syscall.RawConn // the same, if conn can be used by it, without blocking
	writing sync.Mutex
	output  output

	// Of a link that has no goroutine while it is idle.
	done   func(error) // nil for those that keep theirs
	parkID uint64      // 0 if it can't be parked
	parked bool        // guarded by writing
	silent atomic.Bool // nothing has come since the last sweep

	pace pace
}

// stage says what a link's read deadline stands for.
type stage uint8

const (
	identifying stage = iota // until the port can be opened
	lingering                // refused; until it is closed
	settled                  // no deadline
)

func newLink(c *Concentrator, conn net.Conn) *link {
	l := &link{concentrator: c, conn: conn, remote: conn.RemoteAddr(), asked: new(questions)}
	_, l.secure = conn.(*tls.Conn)
	l.socket = socketOf(conn)
	if !l.secure {
		l.raw = l.socket
	}
	l.input.init(conn, l.raw, &c.buffers)
	l.options.Accept = l.accepts
	l.session.Store(&Session{concentrator: c, active: l})
	return l
}

// serve reads the connection to its end.
func (l *link) serve() error {
	l.open()
	return l.ended(l.read())
}

// live reads the connection to its end, or until it is parked.
func (l *link) live() {
	err := l.read()
	if errors.Is(err, errParked) {
		return
	}
	err = l.ended(err)
	l.concentrator.keeper.leave(l)
	l.concentrator.remove(l)
	l.done(err)
}

// ended closes the connection, since it can't be read any more, and returns why.
func (l *link) ended(err error) error {
	if _, refusal := l.session.Load().standing(l); refusal != nil && l.stage == identifying {
		l.refuse(refusal) // it hung up before it said which VM it has
	}
	l.fail(err)
	err = l.reason()
	l.session.Load().lost(l, err)
	return err
}

// open says our first words. Hosts speak at once, so that there often is something to answer in the same write.
func (l *link) open() {
	l.setDeadline(identifying, l.concentrator.cfg.IdentifyTimeout)
	l.handling = true
	if l.concentrator.cfg.RequireTLS && !l.secure {
		l.send(l.options.Enable(nil, telnet.Remote, telnet.Authentication))
	} else {
		l.greet()
	}
	if !l.input.ready() {
		l.handling = false
		l.kick()
	}
}

func (l *link) read() error {
	for {
		in, err := l.input.read()
		if len(in) > 0 {
			l.silent.Store(false)
		}
		failed := l.handle(in)
		l.input.release()
		l.pace.rest(len(in), l.concentrator.cfg.MaxRate)
		switch {
		case failed != nil:
			return failed
		case errors.Is(err, os.ErrDeadlineExceeded) && l.stage == settled:
			if l.park() {
				return errParked
			}
		case errors.Is(err, os.ErrDeadlineExceeded):
			if err := l.overdue(); err != nil {
				return err
			}
		case err != nil:
			return err
		}
	}
}

// greet asks for what the protocol needs, without waiting for the host to offer it. Hosts that offer it themselves
// take no harm.
func (l *link) greet() {
	l.greeted = true
	var scratch [32]byte
	out := scratch[:0]
	for _, option := range []telnet.Option{telnet.Binary, telnet.SuppressGoAhead, telnet.Echo} {
		out = l.options.Enable(out, telnet.Local, option)
	}
	for _, option := range []telnet.Option{telnet.Binary, telnet.SuppressGoAhead, Option} {
		out = l.options.Enable(out, telnet.Remote, option)
	}
	l.send(out)
}

// accepts is the policy for what a host asks for. COM-PORT and the rest are refused, which hosts take well.
func (l *link) accepts(side telnet.Side, option telnet.Option) bool {
	switch option {
	case telnet.Binary, telnet.SuppressGoAhead:
		return l.greeted
	case telnet.Echo:
		return l.greeted && side == telnet.Local
	case Option:
		return l.greeted && side == telnet.Remote
	case telnet.Authentication:
		return side == telnet.Remote && l.concentrator.cfg.TLS != nil && !l.secure && l.stage == identifying
	}
	return false
}

// setDeadline says what the connection waits for and until when; settled has no end.
func (l *link) setDeadline(stage stage, in time.Duration) {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.stage = stage
	var at time.Time
	if stage != settled {
		at = time.Now().Add(in)
	}
	l.conn.SetReadDeadline(at)
}

// overdue is called when the deadline has passed.
func (l *link) overdue() error {
	if l.stage == lingering {
		return ErrRefused
	}
	s := l.session.Load()
	if _, refusal := s.standing(l); refusal != nil {
		l.refuse(refusal)
		return nil
	}
	if opened, err := s.tryOpen(l, true); opened || err != nil {
		l.setDeadline(settled, 0)
		return err
	}
	if l.concentrator.cfg.RequireTLS && !l.secure {
		return ErrTLSRequired
	}
	return ErrNotIdentified
}

// handle takes bytes from the host. What there is to say to it goes out in one write at the end.
func (l *link) handle(in []byte) error {
	l.handling = true
	defer func() {
		l.handling = false
		l.kick()
	}()
	for len(in) > 0 {
		ev, n, err := l.decoder.Next(in)
		if err != nil {
			return err
		}
		in = in[n:]
		switch ev.Kind {
		case telnet.Data:
			err = l.data(ev.Bytes)
		case telnet.Negotiation:
			l.negotiate(ev.Command, ev.Option)
		case telnet.Subnegotiation:
			switch {
			case ev.Option == Option && l.options.Enabled(telnet.Remote, Option):
				err = l.command(ev.Bytes)
			case ev.Option == telnet.Authentication && startsTLS(ev.Bytes):
				return l.startTLS(in)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *link) data(p []byte) error {
	if l.concentrator.cfg.RequireTLS && !l.secure || l.stage == lingering {
		return nil
	}
	return l.session.Load().receive(l, p)
}

// startsTLS reports whether params, of AUTHENTICATION, are the host's start of TLS (RFC 2941's IS, with type SSL).
func startsTLS(params []byte) bool {
	return len(params) == 4 && params[0] == authIs && params[1] == authSSL && params[3] == sslStart
}

// ourCommands is what KNOWN-SUBOPTIONS-2 says that we understand: all commands there are.
var ourCommands = []byte("\x00\x01\x02\x03\x28\x29\x2b\x2c\x2d\x2e\x30\x46\x47\x49\x50\x51\x52\x53\x54\x55\x56\x57")

func (l *link) negotiate(verb telnet.Command, option telnet.Option) {
	before := l.options.Enabled(telnet.Remote, option)
	var scratch [8]byte
	l.send(l.options.Receive(scratch[:0], verb, option))
	if before || !l.options.Enabled(telnet.Remote, option) {
		return
	}
	switch option {
	case telnet.Authentication:
		l.send(telnet.AppendSubnegotiation(nil, option, []byte{authSend, authSSL, 0}))
	case Option:
		l.sendMessage(KnownSuboptions2{ourCommands})
	}
}

// startTLS begins TLS on the connection. early is what came behind the host's start: nothing, if it keeps to the order.
func (l *link) startTLS(early []byte) error {
	if !l.options.Enabled(telnet.Remote, telnet.Authentication) || l.secure || l.concentrator.cfg.TLS == nil {
		return &ProtocolError{"TLS was started without being agreed on"}
	}
	if l.stage != identifying { // others may be writing
		return &ProtocolError{"TLS was started too late"}
	}
	_ = l.conn.SetWriteDeadline(time.Now().Add(l.concentrator.cfg.IdentifyTimeout))
	l.send(telnet.AppendSubnegotiation(nil, telnet.Authentication, []byte{authReply, authSSL, 0, sslAccepted}))
	l.kick()
	if err := l.flush(); err != nil {
		return err
	}
	conn := tls.Server(&prefixedConn{Conn: l.conn, prefix: bytes.Clone(early)}, l.concentrator.cfg.TLS)
	if err := conn.Handshake(); err != nil {
		return fmt.Errorf("%w: %w", ErrTLSFailed, err)
	}
	_ = conn.SetWriteDeadline(time.Time{})
	l.writing.Lock()
	l.conn, l.raw = conn, nil
	l.writing.Unlock()
	l.input.init(conn, nil, nil)
	l.secure = true
	if !l.greeted {
		l.greet()
	}
	return nil
}

// prefixedConn gives back first what was read too far.
type prefixedConn struct {
	net.Conn
	prefix []byte
}

func (c *prefixedConn) Read(p []byte) (int, error) {
	if len(c.prefix) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.prefix)
	c.prefix = c.prefix[n:]
	return n, nil
}
