package vspc

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"time"
)

// move is a vMotion under way. Session.mu guards it.
type move struct {
	sequenceAndSecret []byte
	sequenceLen       int
	peered            bool  // the secret is used
	candidate         *link // the target's connection, once it has shown the secret
	holding           bool  // data to the guest waits for the outcome
	named             bool  // the target's host has said the VM's name, and the source's has not renamed it since
	name              string
	early             []byte
	expiry            *time.Timer
}

func (m *move) sequence() []byte { return m.sequenceAndSecret[:m.sequenceLen] }

// begin starts a vMotion from l, and returns what to answer.
func (s *Session) begin(l *link, sequence []byte) Message {
	sequence = bytes.Clone(sequence)
	c := s.concentrator
	if c.isDraining() {
		s.notify(l, Event{Kind: MoveRefused})
		return VMotionNotNow{sequence}
	}
	var secret [secretSize]byte
	rand.Read(secret[:])
	m := &move{sequenceAndSecret: append(sequence, secret[:]...), sequenceLen: len(sequence), holding: true}

	s.mu.Lock()
	if s.active != l || s.phase == closed {
		s.mu.Unlock()
		s.notify(l, Event{Kind: MoveRefused})
		return VMotionNotNow{m.sequence()}
	}
	former := s.move
	again := former != nil && former.holding // else the guest has spoken since, and that one is over
	s.move = m
	m.expiry = time.AfterFunc(c.cfg.SecretLifetime, func() { s.expire(m) })
	s.mu.Unlock()

	c.expect(m.sequenceAndSecret, s)
	kind := MoveBegun
	if former != nil {
		former.drop(c, errMoveReplaced)
	}
	if again {
		kind = MoveReplaced
	}
	s.notify(l, Event{Kind: kind})
	return VMotionGoAhead{m.sequenceAndSecret}
}

var (
	errMoveReplaced = fmt.Errorf("%w: its source has begun another one", ErrMoveEnded)
	errMoveAborted  = fmt.Errorf("%w: its source has aborted it", ErrMoveEnded)
	errMoveExpired  = fmt.Errorf("%w: it was not completed in time", ErrMoveEnded)
)

// drop ends a vMotion that is no longer a session's.
func (m *move) drop(c *Concentrator, why error) {
	m.expiry.Stop()
	c.revoke(m.sequenceAndSecret)
	if m.candidate != nil {
		m.candidate.fail(why)
	}
}

// peer makes l the candidate of the session whose secret it shows; nil if it shows none that is good.
func (c *Concentrator) peer(l *link, sequenceAndSecret []byte) (s *Session, sequence []byte) {
	own := l.session.Load()
	own.mu.Lock()
	switch m := own.move; {
	case m != nil && m.candidate == l && subtle.ConstantTimeCompare(m.sequenceAndSecret, sequenceAndSecret) == 1:
		own.mu.Unlock()
		return own, m.sequence() // it asks again
	case own.active != l || own.phase != opening || m != nil:
		own.mu.Unlock()
		return nil, nil
	}
	own.mu.Unlock()
	s = c.redeem(sequenceAndSecret)
	if s == nil || s == own {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.move
	if s.phase == closed || s.ending != nil || m == nil || m.peered || subtle.ConstantTimeCompare(m.sequenceAndSecret, sequenceAndSecret) != 1 {
		return nil, nil
	}
	m.peered, m.candidate, m.holding = true, l, true
	if a := l.asked; a != nil && a.answered&askName != 0 {
		m.name, m.named = a.Name, true
	}
	c.moor(s)
	l.session.Store(s)
	return s, m.sequence()
}

// complete hands the session over to l, and returns the vMotion that this ends; nil if l is not the one that the session
// waits for.
func (s *Session) complete(l *link, sequence []byte) *move {
	s.receiving.Lock()
	defer s.receiving.Unlock()

	s.mu.Lock()
	m := s.move
	if s.phase == closed || s.ending != nil || m == nil || m.candidate != l || !bytes.Equal(m.sequence(), sequence) {
		s.mu.Unlock()
		return nil
	}
	source := s.active
	s.active, s.move = l, nil
	early, receiver := m.early, s.receiver
	if s.phase == opening {
		s.early, early = append(s.early, early...), nil
	}
	s.mu.Unlock()

	m.expiry.Stop()
	if source != nil {
		source.fail(ErrMoved)
	}
	s.notify(l, Event{Kind: MoveCompleted})
	l.kick()
	if len(early) > 0 {
		receiver.Receive(early)
	}
	return m
}

// abort ends the vMotion that l, its source, has begun, and reports whether there was one.
func (s *Session) abort(l *link) bool {
	s.mu.Lock()
	m := s.move
	if m == nil || s.active != l {
		s.mu.Unlock()
		return false
	}
	s.move = nil
	resumed := !m.holding
	s.mu.Unlock()
	m.drop(s.concentrator, errMoveAborted)
	if !resumed {
		s.notify(l, Event{Kind: MoveAborted})
	}
	l.kick()
	return true
}

// expire ends m, if it is still under way.
func (s *Session) expire(m *move) {
	s.mu.Lock()
	if s.move != m {
		s.mu.Unlock()
		return
	}
	s.move = nil
	l := s.active
	resumed := !m.holding
	s.mu.Unlock()
	m.drop(s.concentrator, errMoveExpired)
	if !resumed {
		s.notify(l, Event{Kind: MoveExpired})
	}
	if l == nil {
		s.finish(ErrMoveExpired)
		return
	}
	l.kick()
}
