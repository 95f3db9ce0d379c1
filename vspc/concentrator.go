package vspc

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

// The limits and times of a Concentrator where its Config is silent.
const (
	// DefaultIdentifyTimeout is how long a connection may take until its port can be opened. A host needs
	// milliseconds; a scanner's or health check's connection is not kept for ever.
	DefaultIdentifyTimeout = 30 * time.Second
	// DefaultIdentityGrace is how long the rest of a VM's identity is waited for once its name or VC UUID is known.
	// A host need not answer for a UUID that the VM does not have, and a boot must not hang on that.
	DefaultIdentityGrace = 5 * time.Second
	// DefaultSecretLifetime is how long the target of a vMotion may take to show its secret, and to complete. The
	// VM stands still meanwhile, so a host takes seconds.
	DefaultSecretLifetime = 5 * time.Minute
	// DefaultRefusedLinger is how long a refused connection is kept, mute. Closed at once, it would come again.
	DefaultRefusedLinger = time.Minute

	// MaxEarlyData is what a guest may send before its port is open, or from a vMotion's target before the VM runs
	// there: one line of the longest kind that a guest may send.
	MaxEarlyData = 64 << 10
	// maxControl is what may wait to be sent to a host beside the guest's data. A host that asks and never reads
	// the answers is not one.
	maxControl = 64 << 10
	// maxAdrift is how many ports may be without a connection, because the source of a vMotion is gone and the target
	// has not come. The source stays until the target is there, so honest hosts need few; those of a host that begins
	// and disappears, again and again, end with their connections.
	maxAdrift = 1024
	// secretSize is the length of a vMotion's secret: the longest known to be used with real hosts.
	secretSize = 8
)

// Why a port or a connection ended, beside the errors of the network.
var (
	// ErrClosed is for all ports and connections after Shutdown, and for one port alone that Session.Close ended.
	ErrClosed           = errors.New("vspc: closed by this end")
	ErrReplaced         = errors.New("vspc: the same port has come again on another connection")
	ErrNotIdentified    = errors.New("vspc: the peer did not identify a VM in time; is it an ESXi host, with this server as the port's proxy (vSPC)?")
	ErrTLSRequired      = errors.New("vspc: the host did not offer TLS in time, and this server requires it; use telnets:// in the port's proxy URI")
	ErrTLSFailed        = errors.New("vspc: TLS inside telnet could not be started")
	ErrRefused          = errors.New("vspc: refused")
	ErrMoved            = errors.New("vspc: the VM has moved to another connection")
	ErrMoveEnded        = errors.New("vspc: the vMotion that the connection was for is over")
	ErrMoveExpired      = errors.New("vspc: the source of a vMotion is gone, and its target never came")
	ErrIdentityChanged  = errors.New("vspc: the host changed the VC UUID of a connection's VM")
	ErrTooMuchEarlyData = errors.New("vspc: too much data before the port was open")
	ErrNotReading       = errors.New("vspc: the host asks and does not read the answers")
)

// Config is what a Concentrator is made of. The zero value admits every port, and drops what the guests say. Its
// functions may be called by several goroutines at once; while Admit or Open runs, its connection waits.
type Config struct {
	// Admit decides on a port by the URI and direction that vSphere has for it, before the VM is known. An error
	// refuses the port with WONT-PROXY; nothing is ever received from it or sent to it. Nil admits all.
	Admit func(DoProxy) error
	// Open is called once for each port, when it is admitted and its VM is known, and returns what takes the
	// guest's bytes; nil closes the port. It must not block.
	Open func(*Session) Receiver
	// Notify is told what happens to ports. It must not block.
	Notify func(Event)

	// TLS, if set, is offered to hosts that propose to encrypt a telnet:// connection (option AUTHENTICATION with
	// SSL). A connection given to Serve that is a *tls.Conn already is left as it is.
	TLS *tls.Config
	// RequireTLS refuses all connections that are not encrypted in one of the two ways.
	RequireTLS bool

	// MaxRate bounds what is read from one connection, in bytes a second, with a second's worth at once. What goes
	// beyond waits in the network; but no connection waits for longer than 50 ms until 4 KiB of it are read, which is 80 KiB a
	// second. 0 means no bound.
	MaxRate int

	// 0 means the default of the same name.
	IdentifyTimeout, IdentityGrace, SecretLifetime, RefusedLinger time.Duration
}

// Receiver takes what one port's guest sends. Its methods are called one at a time, and may call all of the Session's;
// but Write, which waits, not from Receive.
type Receiver interface {
	// Receive takes the next bytes of the guest, in order, whichever host they came from. During the call p is valid, and
	// may be changed.
	// While Receive runs, no command of the host is answered: it must not block.
	Receive(p []byte)
	// Closed says that the port is gone, and why. Nothing is called after it.
	Closed(err error)
}

// Concentrator is the proxy's end of the protocol for any number of ports. It knows all of them, since a vMotion
// brings a port from one connection to another.
type Concentrator struct {
	cfg      Config
	macKey   [32]byte
	buffers  sync.Pool // of *[readSize]byte
	attempts sync.Pool // of *attempt

	keeper keeper

	mu       sync.Mutex
	draining bool
	closed   bool
	links    map[*link]struct{}
	ports    map[portKey]*Session
	adrift   map[*Session]struct{}          // at most maxAdrift
	pending  map[[sha256.Size]byte]*Session // by MAC of sequence and secret: a look-up tells nothing of them by its time
}

// portKey tells a VM's ports apart from each other, and from other VMs' ports.
type portKey struct{ vm, serviceURI string }

// NewConcentrator returns a Concentrator with no connections yet.
func NewConcentrator(cfg Config) *Concentrator {
	c := &Concentrator{
		cfg:      cfg,
		buffers:  sync.Pool{New: func() any { return new([readSize]byte) }},
		attempts: sync.Pool{New: newAttempt},
		links:    make(map[*link]struct{}),
		ports:    make(map[portKey]*Session),
		adrift:   make(map[*Session]struct{}),
		pending:  make(map[[sha256.Size]byte]*Session),
	}
	c.cfg.fill()
	rand.Read(c.macKey[:])
	return c
}

func (cfg *Config) fill() {
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&cfg.IdentifyTimeout, DefaultIdentifyTimeout},
		{&cfg.IdentityGrace, DefaultIdentityGrace},
		{&cfg.SecretLifetime, DefaultSecretLifetime},
		{&cfg.RefusedLinger, DefaultRefusedLinger},
	} {
		if *d.value <= 0 {
			*d.value = d.fallback
		}
	}
	if cfg.Admit == nil {
		cfg.Admit = func(DoProxy) error { return nil }
	}
	if cfg.Open == nil {
		cfg.Open = func(*Session) Receiver { return discard{} }
	}
	if cfg.Notify == nil {
		cfg.Notify = func(Event) {}
	}
}

type discard struct{}

func (discard) Receive([]byte) {}
func (discard) Closed(error)   {}

// Serve speaks with the host at the other end of conn until the connection ends, and closes it. The error says why
// it ended; it is never nil, and io.EOF if the host just closed it. Connections are served at once, one call each.
func (c *Concentrator) Serve(conn net.Conn) error {
	l := newLink(c, conn)
	if !c.add(l) {
		return ErrClosed
	}
	defer c.remove(l)
	return l.serve()
}

// Start is Serve for very many connections: it does not wait, and done, if not nil, is called with the error at the end;
// within Start, if the Concentrator is closed. On Linux an idle connection then has no goroutine.
func (c *Concentrator) Start(conn net.Conn, done func(error)) {
	if done == nil {
		done = func(error) {}
	}
	l := newLink(c, conn)
	l.done = done
	if !c.add(l) {
		done(ErrClosed)
		return
	}
	if l.socket != nil {
		c.keeper.enter(l)
	}
	go func() {
		l.open()
		l.live()
	}()
}

// add makes l one of those that Shutdown ends. False means that it was too late, and conn is closed.
func (c *Concentrator) add(l *link) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		l.conn.Close()
		return false
	}
	c.links[l] = struct{}{}
	return true
}

func (c *Concentrator) remove(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.links, l)
}

// RefuseMigrations answers VMOTION-BEGIN with NOTNOW from now on, as Shutdown does: for those who have something to
// wait for ahead of it, and take no connections meanwhile.
func (c *Concentrator) RefuseMigrations() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
}

// Shutdown refuses migrations from now on, waits until what was sent to guests is handed to the network, or until ctx is done,
// and closes all ports and connections. The caller stops sending, and stops serving new connections, before.
// Receiver.Closed is called within Shutdown or a moment later, as Serve returns. The error is ctx's, and all is closed
// then, too.
func (c *Concentrator) Shutdown(ctx context.Context) error {
	c.RefuseMigrations()
	c.mu.Lock()
	var sessions []*Session
	for l := range c.links {
		sessions = append(sessions, l.session.Load())
	}
	c.mu.Unlock()

	var err error
	for _, s := range sessions {
		if err = s.drained(ctx); err != nil {
			break
		}
	}
	c.mu.Lock()
	c.closed = true
	links := make([]*link, 0, len(c.links))
	for l := range c.links {
		links = append(links, l)
	}
	adrift := slices.Collect(maps.Keys(c.adrift))
	c.mu.Unlock()
	for _, l := range links {
		l.fail(ErrClosed)
	}
	for _, s := range adrift {
		s.finish(ErrClosed)
	}
	return err
}

// register makes s the one session of its port, and returns the one that was.
func (c *Concentrator) register(s *Session, key portKey) (former *Session) {
	if key.vm == "" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	former = c.ports[key]
	c.ports[key] = s
	return former
}

func (c *Concentrator) unregister(s *Session, key portKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ports[key] == s {
		delete(c.ports, key)
	}
}

// setAdrift lets s be without a connection until a vMotion's target comes for it. It returns false if none will, or
// if there are too many such sessions.
func (c *Concentrator) setAdrift(s *Session) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining || len(c.adrift) >= maxAdrift {
		return false
	}
	c.adrift[s] = struct{}{}
	return true
}

// moor takes setAdrift back.
func (c *Concentrator) moor(s *Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.adrift, s)
}

func (c *Concentrator) isDraining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining
}

func (c *Concentrator) mac(sequenceAndSecret []byte) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, c.macKey[:])
	h.Write(sequenceAndSecret)
	h.Sum(sum[:0])
	return sum
}

// expect makes s the session that the target with this sequence and secret finds.
func (c *Concentrator) expect(sequenceAndSecret []byte, s *Session) {
	mac := c.mac(sequenceAndSecret)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending[mac] = s
}

// revoke forgets a sequence and secret.
func (c *Concentrator) revoke(sequenceAndSecret []byte) {
	mac := c.mac(sequenceAndSecret)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, mac)
}

// redeem returns the session that a sequence and secret stand for, once.
func (c *Concentrator) redeem(sequenceAndSecret []byte) *Session {
	mac := c.mac(sequenceAndSecret)
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.pending[mac]
	delete(c.pending, mac)
	return s
}
