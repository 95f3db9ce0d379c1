package vspc

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"vmw-cloudinit-metadata/telnet"
)

// HostConfig says which VM's port a Host is, and how it behaves. Its zero value is a nameless VM on a host like the
// one whose traffic was published.
type HostConfig struct {
	// Identity answers the proxy's questions. UUIDs may have any spelling; the wire gets the .vmx form of them.
	Identity Identity
	// Direction and ServiceURI are the port's settings in vSphere. A Direction of 0 means Client.
	Direction  Direction
	ServiceURI string
	// TLS, if not nil, lets the proxy start TLS inside the connection, by the telnet option AUTHENTICATION, and
	// checks it, by its ServerName. For telnets:// leave it nil and give NewHost a *tls.Conn.
	TLS *tls.Config
	// VMotionLimit bounds the wait for the answer to VMOTION-BEGIN or VMOTION-PEER; 0 means DefaultVMotionLimit.
	VMotionLimit time.Duration
	// OnMessage, if not nil, sees each message of the proxy before the Host acts on it. It is called by the Host's
	// goroutine and must not block. Slices in the message are valid during the call only.
	OnMessage func(Message)
	// Variant says where this host differs from the usual one.
	Variant HostVariant
}

// DefaultVMotionLimit is serialN.vmotionLimit of a VM that does not set it.
const DefaultVMotionLimit = 5 * time.Second

// HostVariant is the ways in which a host, or what claims to be one, may differ from the one that was seen.
type HostVariant struct {
	// NoAuthentication leaves AUTHENTICATION out, and offers option 232 at once. Over a *tls.Conn that is always so.
	NoAuthentication bool
	// WaitForDo never offers option 232, but waits until the proxy asks for it.
	WaitForDo bool
	// AskOptions asks for BINARY, SUPPRESS-GO-AHEAD and ECHO at the start, for a proxy that only reacts.
	AskOptions bool
	// Commands replaces the list in KNOWN-SUBOPTIONS-1.
	Commands []byte
	// NoDoProxy sends KNOWN-SUBOPTIONS-1 alone, and Handshake returns then. DO-PROXY, if any, is up to the caller.
	NoDoProxy bool
	// RawUUIDs sends the identity's UUIDs as they are spelt.
	RawUUIDs bool
	// Answer, if not nil, replaces the answers to GET-VM-NAME and its like; it returns the messages to send. It is
	// called as OnMessage is.
	Answer func(question Command) []Message
	// StrictSequence takes a VMOTION-PEER-OK or VMOTION-NOTNOW with the sequence alone, as VMware's document has
	// it. Real hosts also take those with the secret behind it.
	StrictSequence bool
	// WriteSize bounds the bytes of one write to the connection; 0 means no bound.
	WriteSize int
}

// What ends a Host's talk with the proxy, by errors.Is.
var (
	// ErrNotProxy says that the other end refuses VMware's option: it is something else, or wants TLS first.
	ErrNotProxy = errors.New("the other end refuses telnet option 232")
	// ErrWontProxy is the proxy's WONT-PROXY: it does not serve this direction or service URI.
	ErrWontProxy = errors.New("the proxy refuses this port (WONT-PROXY)")
	// ErrNotNow is the proxy's VMOTION-NOTNOW: the VM stays where it is.
	ErrNotNow = errors.New("the proxy refuses the migration (VMOTION-NOTNOW)")
	// ErrPeerRefused is the proxy's UNKNOWN-SUBOPTION-RCVD-2 in answer to VMOTION-PEER: wrong or late secret.
	ErrPeerRefused = errors.New("the proxy does not know this migration (UNKNOWN-SUBOPTION-RCVD-2 for VMOTION-PEER)")
	// ErrVMotionLimit says that the proxy's answer to VMOTION-BEGIN or VMOTION-PEER did not come in time.
	ErrVMotionLimit = errors.New("the proxy did not answer the migration in time")
)

// Host is the ESXi host's end of one serial port's connection: it negotiates, answers the proxy's questions, and
// carries the guest's bytes, with FF doubled. Read and Write have the contract of a net.Conn's and may be called
// at once; so may Send and Close.
//
// One goroutine, from the first Handshake, Peer, Begin or Read until the connection ends, reads the connection. It
// never holds up its reading for a write. It reads ahead of the guest no more than one buffer (16 KiB), and acts on
// a command only when all data ahead of it was read, as a host does whose guest takes its bytes at the line's speed:
// while nobody calls Read, a VMOTION-GOAHEAD behind data is not seen.
type Host struct {
	conf   HostConfig
	raw    net.Conn
	target bool    // of a migration
	move   VMotion // on a target

	start    sync.Once
	close    sync.Once
	data     chan []byte   // from the reading goroutine to Read
	taken    chan int      // how much of it Read took
	ended    chan struct{} // closed when the reading goroutine ends
	endErr   error         // why; set before ended is closed
	closed   chan struct{} // closed by Close
	proxying chan struct{} // closed when WILL-PROXY or WONT-PROXY came, or will not be waited for
	deadline deadline      // of Read
	decoder  telnet.Decoder

	writing chan struct{} // full during a write to conn; taken before mu

	mu          sync.Mutex
	conn        net.Conn      // raw, or TLS over it; changed with writing taken too
	out         []byte        // what the Host itself has to say
	flushing    bool          // a goroutine is writing out
	held        []byte        // what waits for TLS
	gate        chan struct{} // not nil while TLS is being started; closed when that is over
	options     telnet.Negotiator
	auth        authState
	askedFor232 bool  // the proxy said DO 232 before AUTHENTICATION was settled
	introduced  bool  // KNOWN-SUBOPTIONS-1 was sent
	decided     bool  // proxying is closed
	verdict     error // the proxy's, once decided
	proxyKnows  []byte
	begin, peer *request // those that wait for an answer
}

// NewHost makes a Host over a connection that was opened to a proxy. The Host owns conn from now on; Close closes it.
func NewHost(conn net.Conn, conf HostConfig) *Host {
	if conf.Direction == 0 {
		conf.Direction = Client
	}
	if conf.VMotionLimit <= 0 {
		conf.VMotionLimit = DefaultVMotionLimit
	}
	if conf.Variant.Commands == nil {
		conf.Variant.Commands = []byte(allCommands)
	}
	if _, secure := conn.(*tls.Conn); secure {
		conf.Variant.NoAuthentication = true
	}
	return &Host{
		conf: conf, raw: conn, conn: conn,
		data: make(chan []byte), taken: make(chan int),
		ended: make(chan struct{}), closed: make(chan struct{}), proxying: make(chan struct{}), writing: make(chan struct{}, 1),
		options: telnet.Negotiator{Accept: acceptAsHost},
	}
}

// allCommands is the list in KNOWN-SUBOPTIONS-1, in the order that a host was seen to send.
const allCommands = "\x00\x01\x02\x03\x28\x29\x2b\x2c\x2d\x2e\x30\x46\x47\x49\x50\x51\x54\x55\x56\x57\x52\x53"

func acceptAsHost(side telnet.Side, option telnet.Option) bool {
	switch option {
	case telnet.Binary, telnet.SuppressGoAhead:
		return true
	case telnet.Echo:
		return side == telnet.Remote
	case Option:
		return side == telnet.Local
	}
	return false
}

// Handshake opens the conversation and returns when the proxy has agreed to serve the port. The error is an
// ErrWontProxy, an ErrNotProxy, ctx's cause, or what ended the connection; the caller closes the Host then. The
// proxy's questions about the VM are answered whenever they come.
func (h *Host) Handshake(ctx context.Context) error {
	h.open()
	if err := h.wait(ctx, h.proxying); err != nil {
		return fmt.Errorf("vspc: waiting for the proxy's consent: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.verdict != nil {
		return fmt.Errorf("vspc: direction %v, service URI %q: %w", h.conf.Direction, h.conf.ServiceURI, h.verdict)
	}
	return nil
}

// open says the host's first words and starts the reading goroutine.
func (h *Host) open() {
	h.mu.Lock()
	var words []byte
	if h.conf.Variant.NoAuthentication {
		words = h.settleAuth(words)
	} else if h.auth == authUntouched {
		h.auth = authOffered
		words = h.options.Enable(words, telnet.Local, telnet.Authentication)
	}
	if h.conf.Variant.AskOptions {
		for _, option := range []telnet.Option{telnet.Binary, telnet.SuppressGoAhead} {
			words = h.options.Enable(words, telnet.Local, option)
			words = h.options.Enable(words, telnet.Remote, option)
		}
		words = h.options.Enable(words, telnet.Remote, telnet.Echo)
	}
	h.queue(h.introduce(words))
	h.mu.Unlock()
	h.startReading()
}

func (h *Host) startReading() { h.start.Do(func() { go h.read() }) }

// wait waits for done to be closed. It returns the reason if the connection or ctx ends first.
func (h *Host) wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	case <-h.ended:
	}
	select {
	case <-done:
		return nil
	case <-h.ended:
		if errors.Is(h.endErr, io.EOF) {
			return errProxyClosed
		}
		return h.endErr
	default:
		return context.Cause(ctx)
	}
}

// errProxyClosed is an io.EOF that says who closed.
var errProxyClosed = fmt.Errorf("the proxy closed the connection: %w", io.EOF)

// Read reads what the proxy sends to the guest.
func (h *Host) Read(p []byte) (int, error) {
	h.startReading()
	if len(p) == 0 {
		return 0, nil
	}
	select {
	case <-h.closed:
		return 0, net.ErrClosed
	default:
	}
	expired := h.deadline.expired()
	select {
	case <-expired: // even if there is data, as with a net.Conn
		return 0, os.ErrDeadlineExceeded
	default:
	}
	select {
	case data := <-h.data:
		n := copy(p, data)
		h.taken <- n
		return n, nil
	case <-h.ended:
		return 0, h.endErr
	case <-expired:
		return 0, os.ErrDeadlineExceeded
	}
}

// Write writes the guest's bytes to the proxy, whatever was agreed so far: a test may write too early. It returns when
// the connection has taken them. After an error, the rest of p may be written again: what was begun is completed. TLS takes
// nothing any more after a deadline that has passed.
func (h *Host) Write(p []byte) (int, error) {
	if err := h.beginWrite(); err != nil {
		return 0, err
	}
	defer h.endWrite()
	done := 0
	for done < len(p) {
		plain := bytes.IndexByte(p[done:], byte(telnet.IAC))
		if plain < 0 {
			n, err := h.put(p[done:])
			return done + n, err
		}
		part := p[done:min(len(p), done+writeChunk)]
		wire := telnet.AppendData(nil, part)
		n, err := h.put(wire)
		if err == nil {
			done += len(part)
			continue
		}
		// Count what went out; the second byte of a pair that was cut goes first the next time.
		sent := 0
		for ; sent < len(part) && n > 0; sent++ {
			n--
			if part[sent] == byte(telnet.IAC) {
				n--
			}
		}
		if n < 0 {
			h.mu.Lock()
			h.out = append([]byte{byte(telnet.IAC)}, h.out...)
			h.mu.Unlock()
		}
		return done + sent, err
	}
	return done, nil
}

// writeChunk bounds the copy that Write makes of data with FF in it.
const writeChunk = 32 << 10

// Send sends messages, all in one write. It is for what the methods do not do.
func (h *Host) Send(messages ...Message) error {
	var wire []byte
	for _, m := range messages {
		wire = Append(wire, m)
	}
	return h.SendRaw(wire)
}

// SendRaw sends bytes as they are, in one write.
func (h *Host) SendRaw(wire []byte) error {
	if err := h.beginWrite(); err != nil {
		return err
	}
	defer h.endWrite()
	_, err := h.put(wire)
	return err
}

// beginWrite makes room for a write of the caller's: behind what is queued, and not while TLS is being started.
func (h *Host) beginWrite() error {
	for {
		h.writing <- struct{}{}
		err := h.flush()
		h.mu.Lock()
		gate := h.gate
		h.mu.Unlock()
		if err == nil && gate == nil {
			return nil
		}
		h.endWrite()
		if err != nil {
			return err
		}
		select {
		case <-gate:
		case <-h.ended:
			return h.endErr
		}
	}
}

func (h *Host) endWrite() { <-h.writing }

// queue appends what the Host itself says, without waiting for the connection to take it: over a net.Pipe the proxy may
// be writing too. h.mu is held.
func (h *Host) queue(wire []byte) {
	if h.gate != nil {
		h.held = append(h.held, wire...)
		return
	}
	h.out = append(h.out, wire...)
	if len(h.out) > 0 && !h.flushing {
		h.flushing = true
		go func() {
			h.writing <- struct{}{}
			defer h.endWrite()
			_ = h.flush() // the reading goroutine sees a broken connection too
		}()
	}
}

// flush writes what is queued. The caller has h.writing.
func (h *Host) flush() error {
	for {
		h.mu.Lock()
		out := h.out
		if len(out) == 0 {
			h.flushing = false
			h.mu.Unlock()
			return nil
		}
		h.out = nil
		h.mu.Unlock()
		if n, err := h.put(out); err != nil {
			h.mu.Lock()
			h.out = append(out[n:], h.out...)
			h.flushing = false
			h.mu.Unlock()
			return err
		}
	}
}

// put writes to the connection. The caller has h.writing.
func (h *Host) put(wire []byte) (n int, err error) {
	size := h.conf.Variant.WriteSize
	if size <= 0 {
		return h.conn.Write(wire)
	}
	for n < len(wire) && err == nil {
		var m int
		m, err = h.conn.Write(wire[n:min(len(wire), n+size)])
		n += m
	}
	return n, err
}

// Close closes the connection. Read returns net.ErrClosed from then on.
func (h *Host) Close() error {
	h.close.Do(func() { close(h.closed) })
	return h.connection().Close()
}

// Reset closes the connection with a TCP RST, as a host does that dies; over other connections it is Close.
func (h *Host) Reset() error {
	raw := h.raw
	if secure, ok := raw.(*tls.Conn); ok {
		raw = secure.NetConn()
	}
	if tcp, ok := raw.(interface{ SetLinger(seconds int) error }); ok {
		if err := tcp.SetLinger(0); err != nil {
			return err
		}
	}
	h.close.Do(func() { close(h.closed) })
	return raw.Close()
}

// CloseWrite ends what the guest sends, and leaves reading open. It is an errors.ErrUnsupported where the connection
// has no such thing.
func (h *Host) CloseWrite() error {
	if half, ok := h.connection().(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return fmt.Errorf("vspc: closing one direction: %w", errors.ErrUnsupported)
}

func (h *Host) connection() net.Conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.conn
}

// LocalAddr is the connection's.
func (h *Host) LocalAddr() net.Addr { return h.raw.LocalAddr() }

// RemoteAddr is the connection's: the proxy.
func (h *Host) RemoteAddr() net.Addr { return h.raw.RemoteAddr() }

// SetDeadline sets both deadlines.
func (h *Host) SetDeadline(t time.Time) error {
	h.deadline.set(t)
	return h.SetWriteDeadline(t)
}

// SetReadDeadline sets the deadline of Read. The Host itself goes on reading the connection.
func (h *Host) SetReadDeadline(t time.Time) error {
	h.deadline.set(t)
	return nil
}

// SetWriteDeadline sets the deadline of Write, and of the Host's own writes.
func (h *Host) SetWriteDeadline(t time.Time) error { return h.connection().SetWriteDeadline(t) }

// ProxyCommands returns the proxy's list in KNOWN-SUBOPTIONS-2, nil as long as none came. A host moves no VM whose
// proxy lists no VMOTION commands.
func (h *Host) ProxyCommands() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return bytes.Clone(h.proxyKnows)
}
