package vspc

import (
	"bytes"
	"fmt"
)

// question is a bit for one thing that a host can be asked about its VM.
type question uint8

const (
	askVCUUID question = 1 << iota
	askName
	askBIOSUUID
	askLocationUUID
)

// questions is what a link knows of its VM.
type questions struct {
	Identity
	asked, answered question
}

// known reports whether the port can be opened with what is known: the VM has to have a name or a VC UUID to go by,
// and, without enough, all questions have to be answered.
func (q *questions) known(enough bool) bool {
	if q == nil {
		return false
	}
	named := q.VCUUID != "" || q.Name != ""
	return named && (enough || q.asked != 0 && q.asked&^q.answered == 0)
}

// command takes one of the host's commands.
func (l *link) command(params []byte) error {
	m, err := Parse(params)
	if err != nil {
		return err
	}
	if l.stage == lingering && !l.mayMove(m) {
		return nil
	}
	s := l.session.Load()
	switch m := m.(type) {
	case KnownSuboptions1:
		l.ask(m.Commands)
		return nil
	case VMVCUUID:
		id, _ := ParseUUID(m.Text)
		return l.learn(askVCUUID, id)
	case VMName:
		return l.learn(askName, m.Name)
	case VMBIOSUUID:
		id, _ := ParseUUID(m.Text)
		return l.learn(askBIOSUUID, id)
	case VMLocationUUID:
		id, _ := ParseUUID(m.Text)
		return l.learn(askLocationUUID, id)
	case UnknownSuboption1:
		return l.unanswered(m.Unknown)
	case DoProxy:
		return l.doProxy(m)
	case VMotionBegin:
		l.sendMessage(s.begin(l, m.Sequence))
	case VMotionPeer:
		l.peer(m.SequenceAndSecret)
	case VMotionComplete:
		return l.complete(m.Sequence)
	case VMotionAbort:
		if !s.abort(l) {
			s.notify(l, Event{Kind: MoveIgnored, Err: fmt.Errorf("%v", CmdVMotionAbort)})
		}
	default:
		l.sendMessage(UnknownSuboption2{m.Command()})
		s.notify(l, Event{Kind: UnknownCommand, Err: fmt.Errorf("%v", m.Command())})
	}
	return nil
}

// mayMove reports whether m is about a vMotion from a port that was refused. It is answered: an open port, whatever it
// is for, must not keep its VM on a host.
func (l *link) mayMove(m Message) bool {
	switch m.(type) {
	case VMotionBegin, VMotionAbort:
		_, refusal := l.session.Load().standing(l)
		return refusal != nil
	}
	return false
}

// ask puts the questions that the host can answer, once.
func (l *link) ask(listed []byte) {
	if l.asked == nil || l.asked.asked != 0 {
		return
	}
	for _, q := range []struct {
		question
		Message
	}{
		{askVCUUID, GetVMVCUUID{}}, {askName, GetVMName{}},
		{askBIOSUUID, GetVMBIOSUUID{}}, {askLocationUUID, GetVMLocationUUID{}},
	} {
		if bytes.IndexByte(listed, byte(q.Command())) >= 0 {
			l.asked.asked |= q.question
			l.sendMessage(q.Message)
		}
	}
}

// learn takes an answer. The first one counts, but a name may change.
func (l *link) learn(q question, value string) error {
	if a := l.asked; a != nil {
		if a.answered&q == 0 {
			switch q {
			case askVCUUID:
				a.VCUUID = value
			case askBIOSUUID:
				a.BIOSUUID = value
			case askLocationUUID:
				a.LocationUUID = value
			}
		} else if q == askVCUUID && value != a.VCUUID {
			return ErrIdentityChanged
		}
		if q == askName {
			a.Name = value
		}
		a.answered |= q
	}
	if err := l.session.Load().learned(l, q, value); err != nil {
		return err
	}
	return l.progress()
}

// unanswered takes the host's word that it does not know a command of ours.
func (l *link) unanswered(command Command) error {
	if l.asked == nil {
		return nil
	}
	switch command {
	case CmdGetVMVCUUID:
		l.asked.answered |= askVCUUID
	case CmdGetVMName:
		l.asked.answered |= askName
	case CmdGetVMBIOSUUID:
		l.asked.answered |= askBIOSUUID
	case CmdGetVMLocationUUID:
		l.asked.answered |= askLocationUUID
	}
	return l.progress()
}

// doProxy answers the host's wish for our service. What is open stays so, whatever Admit says by now.
func (l *link) doProxy(m DoProxy) error {
	s := l.session.Load()
	same, isOpen := s.DoProxy() == m, s.isOpen(l)
	switch {
	case isOpen && !same:
		return &ProtocolError{"DO-PROXY for another service on a port that is open"}
	case isOpen || l.inherited && same && s.wasAdmitted():
		l.sendMessage(WillProxy{})
		return l.progress()
	}
	if refusal := l.concentrator.cfg.Admit(m); refusal != nil {
		s.admit(l, m, refusal)
		l.sendMessage(WontProxy{})
	} else {
		s.admit(l, m, nil)
		l.sendMessage(WillProxy{})
	}
	return l.progress()
}

// progress does what has become possible by an answer or DO-PROXY.
func (l *link) progress() error {
	if l.stage != identifying {
		l.forget()
		return nil
	}
	s := l.session.Load()
	admitted, refusal := s.standing(l)
	if refusal != nil {
		if l.asked.known(false) { // so that the log can say which VM
			l.refuse(refusal)
		}
		return nil
	}
	opened, err := s.tryOpen(l, false)
	switch {
	case err != nil:
		return err
	case opened:
		l.setDeadline(settled, 0)
		l.forget()
	case admitted && l.asked.known(true) && !l.grace:
		l.grace = true
		l.setDeadline(identifying, l.concentrator.cfg.IdentityGrace)
	}
	return nil
}

// forget frees what is needed only until all is known.
func (l *link) forget() {
	if a := l.asked; a != nil && l.stage == settled && a.asked&^a.answered == 0 && l.session.Load().isOpen(l) {
		l.asked = nil
	}
}

// refuse keeps the connection for a while, and mute.
func (l *link) refuse(why error) {
	l.session.Load().notify(l, Event{Kind: PortRefused, Err: why})
	l.setDeadline(lingering, l.concentrator.cfg.RefusedLinger)
}

// peer takes the secret that the target of a vMotion shows. One that is wrong, used or expired gets nothing at all:
// not even the port that the connection's other claims would give it. A port that the connection has stays.
func (l *link) peer(sequenceAndSecret []byte) {
	s, sequence := l.concentrator.peer(l, sequenceAndSecret)
	if s == nil {
		l.sendMessage(UnknownSuboption2{CmdVMotionPeer})
		own := l.session.Load()
		own.notify(l, Event{Kind: PeerRefused})
		if !l.inherited && !own.isOpen(l) {
			l.setDeadline(lingering, l.concentrator.cfg.RefusedLinger)
		}
		return
	}
	l.inherited = true
	l.setDeadline(settled, 0)
	l.sendMessage(VMotionPeerOK{sequence})
	s.notify(l, Event{Kind: MovePeered})
}

// complete makes this connection the port's, if it is the one that waits for it.
func (l *link) complete(sequence []byte) error {
	s := l.session.Load()
	m := s.complete(l, sequence)
	if m == nil {
		s.notify(l, Event{Kind: MoveIgnored, Err: fmt.Errorf("%v", CmdVMotionComplete)})
		return nil
	}
	if m.named {
		if err := s.learned(l, askName, m.name); err != nil {
			return err
		}
	}
	if !s.isOpen(l) {
		l.setDeadline(identifying, l.concentrator.cfg.IdentifyTimeout)
	}
	return l.progress()
}
