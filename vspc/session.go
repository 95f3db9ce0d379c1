package vspc

import (
	"context"
	"errors"
	"sync"
)

// Session is one serial port of one VM. It outlives its connection: when the VM moves to another host, the port's
// next connection takes the session over, with what is still to be sent to the guest. All methods may be called at
// once.
type Session struct {
	concentrator *Concentrator

	// receiving is held while the receiver runs, so that it hears one connection at a time.
	receiving sync.Mutex

	mu       sync.Mutex
	identity Identity
	doProxy  DoProxy
	admitted bool  // WILL-PROXY was said
	refused  error // why WONT-PROXY was
	phase    phase
	receiver Receiver
	active   *link // where the guest is; nil while a vMotion's source is gone and its target has not completed
	move     *move // the vMotion under way, if any
	early    []byte

	first   outgoing // what is on its way to the guest, and behind it the rest
	rest    []outgoing
	writer  *link         // has taken a part of first, and will say what became of it
	ending  error         // why the session's owner closes it, or the Concentrator
	ended   error         // why the session is closed
	nothing chan struct{} // closed when nothing is on its way; made by those who wait for it
}

type phase uint8

const (
	opening phase = iota // not yet admitted, or not identified
	open
	closed
)

// outgoing is data on its way to the guest.
type outgoing struct {
	data []byte // what is not yet handed to a connection
	text bool   // no byte of it is 255
	done func(error)
}

func (o *outgoing) finished(err error) {
	if o.done != nil {
		o.done(err)
	}
}

// Identity returns who the VM is.
func (s *Session) Identity() Identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.identity
}

// DoProxy returns the port's direction and URI in vSphere.
func (s *Session) DoProxy() DoProxy {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doProxy
}

// Send queues p for the guest, behind what was sent before. It does not wait. p must not change until done is called,
// which happens once, from any goroutine, perhaps within Send: with nil when all of p is handed to the network, or with
// an error when the port is gone. What a vMotion finds not yet handed over goes to wherever the VM is then. done may be
// nil; it must not block.
func (s *Session) Send(p []byte, done func(error)) { s.send(outgoing{data: p, done: done}) }

// SendText is Send for text: no byte of p is 255, which would have to be doubled on the wire (RFC 854). It is not looked
// for, which for long answers is a good part of the work.
func (s *Session) SendText(p []byte, done func(error)) {
	s.send(outgoing{data: p, text: true, done: done})
}

func (s *Session) send(o outgoing) {
	if len(o.data) == 0 {
		o.finished(nil)
		return
	}
	s.mu.Lock()
	if s.phase == closed {
		err := s.ended
		s.mu.Unlock()
		o.finished(err)
		return
	}
	if s.first.data == nil {
		s.first = o
	} else {
		s.rest = append(s.rest, o)
	}
	l := s.active
	s.mu.Unlock()
	if l != nil {
		l.kick()
	}
}

// Write sends p to the guest, and returns when all of it is handed to the network, or with 0 and an error when the port
// is gone: a part of p may have been sent then.
func (s *Session) Write(p []byte) (int, error) {
	result := make(chan error, 1)
	s.Send(p, func(err error) { result <- err })
	if err := <-result; err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close ends the port and its connections, with ErrClosed. It does not wait: until Receiver.Closed is called, Receive
// may be.
func (s *Session) Close() error {
	s.end(ErrClosed)
	return nil
}

// drained waits until nothing is on its way to the guest, or nothing can be any more.
func (s *Session) drained(ctx context.Context) error {
	s.mu.Lock()
	if s.first.data == nil || s.active == nil && (s.move == nil || s.move.candidate == nil) {
		s.mu.Unlock()
		return nil
	}
	if s.nothing == nil {
		s.nothing = make(chan struct{})
	}
	nothing := s.nothing
	s.mu.Unlock()
	select {
	case <-nothing:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// next returns the data that l is to write now, and whether it is text; none if there is none, or if it is not l's turn.
// With data l is the writer, and sent has to follow.
func (s *Session) next(l *link) (data []byte, text bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active != l || s.phase != open || s.move != nil && s.move.holding || s.writer != nil {
		return nil, false
	}
	if len(s.first.data) > 0 {
		s.writer = l
	}
	return s.first.data, s.first.text
}

// sent says that l has handed over the first n bytes of what next returned.
func (s *Session) sent(l *link, n int) {
	s.mu.Lock()
	s.writer = nil
	done := s.first
	s.first.data = s.first.data[n:]
	over := s.phase == closed
	whole := len(s.first.data) == 0
	if whole || over {
		s.shift()
	}
	err := s.ended
	if whole {
		err = nil
	}
	successor := s.active
	s.mu.Unlock()

	if whole || over {
		done.finished(err)
	}
	if successor != nil && successor != l {
		successor.kick() // it may have waited for l to let go
	}
}

// shift takes the first of what is on its way off. It is called with mu held.
func (s *Session) shift() {
	s.first = outgoing{}
	for len(s.rest) > 0 && s.first.data == nil {
		s.first = s.rest[0]
		s.rest[0] = outgoing{}
		s.rest = s.rest[1:]
	}
	if s.first.data == nil {
		s.rest = nil
		if s.nothing != nil {
			close(s.nothing)
			s.nothing = nil
		}
	}
}

// receive takes the guest's bytes that came on l.
func (s *Session) receive(l *link, p []byte) error {
	s.receiving.Lock()
	defer s.receiving.Unlock()

	s.mu.Lock()
	switch {
	case s.phase == closed:
		s.mu.Unlock()
		return nil
	case s.move != nil && s.move.candidate == l:
		defer s.mu.Unlock()
		if len(s.move.early)+len(p) > MaxEarlyData {
			return ErrTooMuchEarlyData
		}
		s.move.early = append(s.move.early, p...)
		return nil
	case s.active != l:
		s.mu.Unlock()
		return nil
	case s.phase == opening:
		defer s.mu.Unlock()
		if s.refused != nil {
			return nil
		}
		if len(s.early)+len(p) > MaxEarlyData {
			return ErrTooMuchEarlyData
		}
		s.early = append(s.early, p...)
		return nil
	}
	resumed := s.move != nil && s.move.holding
	if resumed {
		// No byte comes from a VM that is being moved: it stays. A host that gave up waiting for GOAHEAD says no more
		// than this. The secret stays good, since a target that shows it can only be a later, honest attempt.
		s.move.holding = false
	}
	receiver := s.receiver
	s.mu.Unlock()
	if resumed {
		s.resumed(l)
	}
	receiver.Receive(p)
	return nil
}

// resumed is for a VM that stays after all. It stands apart for the sake of receive's stack: with what is above and below it,
// that fits into 4 KiB, which each connection then has instead of 8.
//
//go:noinline
func (s *Session) resumed(l *link) {
	s.notify(l, Event{Kind: MoveResumed})
	l.kick()
}

// admit takes the Concentrator's decision on the port of l.
func (s *Session) admit(l *link, m DoProxy, refusal error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active != l || s.phase != opening {
		return
	}
	s.doProxy, s.admitted, s.refused = m, refusal == nil, refusal
	if refusal != nil {
		s.early = nil
	}
}

// standing says what was decided on the port of l; nothing while it is not decided, or not l's.
func (s *Session) standing(l *link) (admitted bool, refusal error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active != l {
		return false, nil
	}
	return s.admitted, s.refused
}

// wasAdmitted reports whether the port has our service.
func (s *Session) wasAdmitted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.admitted
}

// tryOpen opens the session when its port is admitted and its VM known, and reports whether it is open. enough says
// that what is known of the VM has to do. l's reader calls it.
func (s *Session) tryOpen(l *link, enough bool) (bool, error) {
	s.receiving.Lock()
	defer s.receiving.Unlock()

	s.mu.Lock()
	if s.active != l || s.phase != opening || !s.admitted || !l.asked.known(enough) {
		isOpen := s.active == l && s.phase == open
		s.mu.Unlock()
		return isOpen, nil
	}
	s.identity = l.asked.Identity
	s.phase = open
	key := s.key()
	s.mu.Unlock()

	if former := s.concentrator.register(s, key); former != nil {
		former.notify(l, Event{Kind: PortReplaced, Former: former.where()})
		former.end(ErrReplaced)
	}
	receiver := s.concentrator.cfg.Open(s)
	if receiver == nil {
		receiver = discard{}
		l.fail(ErrRefused)
	}
	s.notify(l, Event{Kind: PortOpened})

	s.mu.Lock()
	s.receiver = receiver
	early := s.early
	s.early = nil
	s.mu.Unlock()
	if len(early) > 0 {
		receiver.Receive(early)
	}
	return true, nil
}

// learned takes what l's host says of its VM.
func (s *Session) learned(l *link, q question, value string) error {
	s.mu.Lock()
	var former string
	renamed := false
	m := s.move
	switch {
	case m != nil && m.candidate == l:
		if q == askName {
			m.name, m.named = value, true // from COMPLETE on
		}
	case s.active != l:
	case s.phase == opening:
		s.identity = l.asked.Identity // for those who are notified
	case q == askName && value != s.identity.Name:
		former, renamed = s.identity.Name, true
		s.identity.Name = value
		if m != nil {
			m.named = false
		}
	case q == askVCUUID && s.identity.VCUUID != "" && value != s.identity.VCUUID && !l.inherited:
		s.mu.Unlock()
		return ErrIdentityChanged
	}
	s.mu.Unlock()
	if renamed {
		s.notify(l, Event{Kind: PortRenamed, Former: former})
	}
	return nil
}

// where returns the address of the session's host; "" if it is between two.
func (s *Session) where() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active == nil || s.active.remote == nil {
		return ""
	}
	return s.active.remote.String()
}

// isOpen reports whether the session is open, and l its connection.
func (s *Session) isOpen(l *link) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active == l && s.phase == open
}

// key is what tells the port from others; its vm is empty if nothing does. It is called with mu held.
func (s *Session) key() portKey {
	vm := s.identity.VCUUID
	if vm == "" && s.identity.BIOSUUID != "" && s.identity.LocationUUID != "" {
		vm = s.identity.BIOSUUID + "/" + s.identity.LocationUUID
	}
	return portKey{vm, s.doProxy.ServiceURI}
}

// lost says that l is gone. The session is over, unless a vMotion can bring it another connection.
func (s *Session) lost(l *link, err error) {
	s.mu.Lock()
	m := s.move
	isCandidate := m != nil && m.candidate == l
	if isCandidate {
		m.candidate, m.early = nil, nil
	}
	if isCandidate && s.active != nil || !isCandidate && s.active != l {
		s.mu.Unlock()
		return
	}
	open := s.ending == nil && s.phase != closed && !errors.Is(err, ErrClosed)
	if open && m != nil && (m.candidate != nil || !m.peered && s.concentrator.setAdrift(s)) {
		s.active = nil
		s.mu.Unlock()
		return
	}
	failed := open && m != nil && m.peered && m.holding // the secret is used, so nobody else can come
	switch {
	case s.ending != nil:
		err = s.ending
	case failed:
		err = ErrMoveExpired
	}
	s.mu.Unlock()
	if failed {
		s.notify(l, Event{Kind: MoveExpired})
	}
	s.finish(err)
}

// end closes the connections of the session, and by that the session.
func (s *Session) end(why error) {
	s.mu.Lock()
	if s.ending == nil {
		s.ending = why
	}
	l := s.active
	s.mu.Unlock()
	if l != nil {
		l.fail(why)
		return
	}
	go s.finish(why)
}

// finish closes the session.
func (s *Session) finish(why error) {
	s.mu.Lock()
	if s.phase == closed {
		s.mu.Unlock()
		return
	}
	wasOpen, key, m := s.phase == open, s.key(), s.move
	s.phase, s.ended = closed, why
	s.active, s.move, s.early = nil, nil, nil
	unsent := s.rest
	s.rest = nil
	if s.writer == nil && s.first.data != nil { // else the writer gives it up
		unsent = append([]outgoing{s.first}, unsent...)
		s.shift()
	}
	s.mu.Unlock()

	s.concentrator.moor(s)
	if m != nil {
		m.drop(s.concentrator, why)
	}
	for _, o := range unsent {
		o.finished(why)
	}
	if !wasOpen {
		return
	}
	s.concentrator.unregister(s, key)
	s.receiving.Lock()
	defer s.receiving.Unlock()
	s.receiver.Closed(why)
	s.notify(nil, Event{Kind: PortClosed, Err: why})
}

// notify tells the Concentrator's owner. l is the connection that the event came from, if any.
func (s *Session) notify(l *link, ev Event) {
	s.mu.Lock()
	ev.Identity, ev.DoProxy = s.identity, s.doProxy
	s.mu.Unlock()
	if l != nil {
		ev.Remote = l.remote
	}
	s.concentrator.cfg.Notify(ev)
}
