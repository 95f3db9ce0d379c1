package vspc

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"slices"

	"vmw-cloudinit-metadata/telnet"
)

// The buffers of the reading goroutine. An idle port holds the small one, which takes a short answer in one read; one
// that fills it is given the large one until the stream is thin again.
const (
	idleReadBuffer = 2 << 10
	busyReadBuffer = 16 << 10
)

// read is the reading goroutine.
func (h *Host) read() {
	err := h.readAll()
	select {
	case <-h.closed:
		err = net.ErrClosed
	default:
	}
	h.endErr = err
	close(h.ended)
}

func (h *Host) readAll() error {
	idle := make([]byte, idleReadBuffer)
	for buf := idle; ; {
		n, err := h.conn.Read(buf)
		if err := h.receive(buf[:n]); err != nil {
			return err
		}
		if err != nil {
			return err
		}
		switch {
		case n == len(buf) && n == len(idle):
			buf = make([]byte, busyReadBuffer)
		case n <= len(idle):
			buf = idle
		}
	}
}

// receive acts on what was read, in order: what follows data waits until Read has taken that.
func (h *Host) receive(in []byte) error {
	var data []byte // joined in place, ahead of in
	for len(in) > 0 {
		ev, n, err := h.decoder.Next(in)
		in = in[n:]
		if ev.Kind == telnet.Data {
			if data == nil {
				data = ev.Bytes
			} else {
				data = append(data, ev.Bytes...)
			}
			continue
		}
		if err := h.deliver(data); err != nil {
			return err
		}
		data = nil
		if err != nil {
			return err
		}
		switch {
		case ev.Kind == telnet.Negotiation:
			h.negotiate(ev.Command, ev.Option)
		case ev.Kind == telnet.Subnegotiation && ev.Option == Option:
			m, err := Parse(ev.Bytes)
			if err != nil {
				return err
			}
			h.act(m)
		case ev.Kind == telnet.Subnegotiation && ev.Option == telnet.Authentication:
			if h.authenticate(ev.Bytes) {
				if len(in) > 0 {
					return &ProtocolError{fmt.Sprintf("%d bytes between the consent to TLS and its start", len(in))}
				}
				return h.startTLS()
			}
		}
	}
	return h.deliver(data)
}

func (h *Host) deliver(data []byte) error {
	for len(data) > 0 {
		select {
		case h.data <- data:
			data = data[<-h.taken:]
		case <-h.closed:
			return net.ErrClosed
		}
	}
	return nil
}

// negotiate acts on WILL, WONT, DO and DONT.
func (h *Host) negotiate(verb telnet.Command, option telnet.Option) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var reply []byte
	switch {
	case option == Option && verb == telnet.DO && h.auth != authSettled:
		h.askedFor232 = true
	default:
		reply = h.options.Receive(reply, verb, option)
	}
	switch {
	case option == telnet.Authentication && verb == telnet.DONT && h.auth != authUntouched && h.auth != authSettled:
		h.openGate()
		reply = h.settleAuth(reply)
	case option == Option && verb == telnet.DONT:
		h.decide(ErrNotProxy)
		h.peer.settle(nil, ErrNotProxy)
	}
	h.queue(h.introduce(reply))
}

// introduce appends the host's first commands, once, when option 232 is agreed. h.mu is held.
func (h *Host) introduce(wire []byte) []byte {
	if h.introduced || !h.options.Enabled(telnet.Local, Option) {
		return wire
	}
	h.introduced = true
	wire = Append(wire, KnownSuboptions1{h.conf.Variant.Commands})
	switch {
	case h.target:
		wire = Append(wire, VMotionPeer{h.move.SequenceAndSecret})
		wire = h.options.Enable(wire, telnet.Local, telnet.ComPort)
	case h.conf.Variant.NoDoProxy:
		h.decide(nil)
	default:
		wire = Append(wire, DoProxy{h.conf.Direction, h.conf.ServiceURI})
	}
	return wire
}

// decide keeps the proxy's first verdict on the port. h.mu is held.
func (h *Host) decide(verdict error) {
	if !h.decided {
		h.decided, h.verdict = true, verdict
		close(h.proxying)
	}
}

// act acts on a message of the proxy.
func (h *Host) act(m Message) {
	if h.conf.OnMessage != nil {
		h.conf.OnMessage(m)
	}
	var answers []Message
	switch m.(type) {
	case GetVMName, GetVMVCUUID, GetVMBIOSUUID, GetVMLocationUUID:
		answers = h.answer(m.Command())
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var wire []byte
	switch m := m.(type) {
	case KnownSuboptions2:
		h.proxyKnows = bytes.Clone(m.Commands)
	case WillProxy:
		h.decide(nil)
		wire = h.options.Enable(wire, telnet.Local, telnet.ComPort)
	case WontProxy:
		h.decide(ErrWontProxy)
	case VMotionGoAhead:
		if bytes.HasPrefix(m.SequenceAndSecret, h.begin.expects()) {
			h.begin.settle(bytes.Clone(m.SequenceAndSecret), nil)
		}
	case VMotionNotNow:
		if h.answersTo(h.begin, m.Sequence) {
			h.begin.settle(nil, ErrNotNow)
		}
	case VMotionPeerOK:
		if h.answersTo(h.peer, m.Sequence) {
			h.peer.settle(nil, nil)
		}
	case UnknownSuboption2:
		if m.Unknown == CmdVMotionPeer {
			h.peer.settle(nil, ErrPeerRefused)
		}
	case UnknownMessage:
		wire = Append(wire, UnknownSuboption1{m.Code})
	}
	for _, answer := range answers {
		wire = Append(wire, answer)
	}
	h.queue(wire)
}

// answer returns what a question about the VM is answered with.
func (h *Host) answer(question Command) []Message {
	if h.conf.Variant.Answer != nil {
		return h.conf.Variant.Answer(question)
	}
	spell := WireUUID
	if h.conf.Variant.RawUUIDs {
		spell = func(text string) string { return text }
	}
	id := h.conf.Identity
	switch question {
	case CmdGetVMName:
		return []Message{VMName{id.Name}}
	case CmdGetVMVCUUID:
		return []Message{VMVCUUID{spell(id.VCUUID)}}
	case CmdGetVMBIOSUUID:
		return []Message{VMBIOSUUID{spell(id.BIOSUUID)}}
	default:
		return []Message{VMLocationUUID{spell(id.LocationUUID)}}
	}
}

// authState is how far AUTHENTICATION has come. Option 232 waits for its end.
type authState uint8

const (
	authUntouched authState = iota
	authOffered             // WILL AUTHENTICATION was sent
	authStarted             // START was sent
	authSettled
)

// The subnegotiations of AUTHENTICATION (RFC 2941, section 2) that start TLS: type 7, SSL, and its own commands.
const (
	authIs       = 0
	authSend     = 1
	authReply    = 2
	authNull     = 0
	authSSL      = 7
	sslStart     = 1
	sslAccepted  = 2
	authPairSize = 2 // a type and its modifiers
)

// settleAuth ends AUTHENTICATION, and appends the offer of option 232 that waited for it. h.mu is held.
func (h *Host) settleAuth(wire []byte) []byte {
	h.auth = authSettled
	switch {
	case h.askedFor232:
		wire = h.options.Receive(wire, telnet.DO, Option)
	case !h.conf.Variant.WaitForDo:
		wire = h.options.Enable(wire, telnet.Local, Option)
	}
	return wire
}

// authenticate acts on a subnegotiation of AUTHENTICATION, and reports whether TLS starts now.
func (h *Host) authenticate(params []byte) (secure bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case len(params) > 0 && params[0] == authSend && h.auth == authOffered:
		for pair := range slices.Chunk(params[1:], authPairSize) {
			if pair[0] == authSSL && h.conf.TLS != nil {
				h.auth = authStarted
				h.queue(telnet.AppendSubnegotiation(nil, telnet.Authentication, []byte{authIs, authSSL, 0, sslStart}))
				h.gate = make(chan struct{})
				return false
			}
		}
		refusal := telnet.AppendSubnegotiation(nil, telnet.Authentication, []byte{authIs, authNull, 0})
		h.queue(h.introduce(h.settleAuth(refusal)))
	case len(params) >= 4 && params[0] == authReply && params[1] == authSSL && h.auth == authStarted:
		if params[3] == sslAccepted {
			return true
		}
		h.openGate()
		h.queue(h.introduce(h.settleAuth(nil)))
	}
	return false
}

// startTLS makes the connection a TLS client's, and says through it what waited.
func (h *Host) startTLS() error {
	h.writing <- struct{}{}
	defer h.endWrite()
	secure := tls.Client(h.raw, h.conf.TLS)
	if err := secure.Handshake(); err != nil {
		return fmt.Errorf("vspc: starting TLS: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conn = secure
	h.openGate()
	h.queue(h.introduce(h.settleAuth(nil)))
	return nil
}

// openGate lets out what waited for TLS. h.mu is held.
func (h *Host) openGate() {
	if h.gate != nil {
		close(h.gate)
		h.gate = nil
		h.queue(h.held)
		h.held = nil
	}
}
