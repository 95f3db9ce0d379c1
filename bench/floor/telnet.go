//go:build linux

package floor

import (
	"net"
	"slices"

	"vmw-cloudinit-metadata/bench/answers"
	"vmw-cloudinit-metadata/telnet"
	"vmw-cloudinit-metadata/vspc"
)

// ticket is the secret that every GOAHEAD of the floor's carries: it checks none.
const ticket = "\x01\x02\x03\x04\x05\x06\x07\x08"

// Telnet answers lines inside a telnet stream, and says on the wire what an ESXi host waits for: options, the proxy's
// consent, vMotion's answers. It keeps no state of a VM and believes everything, so it is no server of any use.
func Telnet(set *answers.Set) func(net.Conn) {
	return func(conn net.Conn) {
		defer conn.Close()
		p := port{set: set}
		p.greet()
		if _, err := conn.Write(p.out); err != nil {
			return
		}
		in := make([]byte, 4096) // as much as bufio.Reader has
		for {
			n, err := conn.Read(in)
			if err != nil {
				return
			}
			p.out = p.out[:0]
			if p.receive(in[:n]) != nil {
				return
			}
			if len(p.out) > 0 {
				if _, err := conn.Write(p.out); err != nil {
					return
				}
			}
			if p.answer != nil {
				if _, err := conn.Write(p.answer); err != nil {
					return
				}
				p.answer = nil
			}
		}
	}
}

// port is one connection of Telnet's.
type port struct {
	set        *answers.Set
	decoder    telnet.Decoder
	negotiator telnet.Negotiator
	line       []byte
	out        []byte // to be sent
	answer     []byte // to be sent behind it, from the set
}

// greet asks for the options as a proxy does that does not wait for the host.
func (p *port) greet() {
	for _, option := range [...]telnet.Option{telnet.Binary, telnet.SuppressGoAhead, telnet.Echo} {
		p.out = p.negotiator.Enable(p.out, telnet.Local, option)
	}
	for _, option := range [...]telnet.Option{telnet.Binary, telnet.SuppressGoAhead, vspc.Option} {
		p.out = p.negotiator.Enable(p.out, telnet.Remote, option)
	}
}

// receive takes in what came, and leaves in out and answer what is to be sent. Guests ask one thing at a time; of
// answers due at once, all but the last go into out.
func (p *port) receive(in []byte) error {
	for {
		event, n, err := p.decoder.Next(in)
		if err != nil {
			return err
		}
		in = in[n:]
		switch event.Kind {
		case telnet.None:
			return nil
		case telnet.Negotiation:
			p.out = p.negotiator.Receive(p.out, event.Command, event.Option)
		case telnet.Subnegotiation:
			if event.Option == vspc.Option {
				p.command(event.Bytes)
			}
		case telnet.Data:
			p.data(event.Bytes)
		case telnet.Function:
		}
	}
}

func (p *port) data(data []byte) {
	for _, c := range data {
		if c != '\n' {
			if len(p.line) < 128 {
				p.line = append(p.line, c)
			}
			continue
		}
		if q, ok := answers.Parse(p.line); ok {
			p.out = append(p.out, p.answer...)
			p.answer = p.set[q]
		}
		p.line = p.line[:0]
	}
}

// command answers one of option 232. What came before it is sent before it.
func (p *port) command(params []byte) {
	p.out = append(p.out, p.answer...)
	p.answer = nil
	if len(params) == 0 {
		return
	}
	rest := params[1:]
	switch vspc.Command(params[0]) {
	case vspc.CmdKnownSuboptions1:
		p.out = vspc.Append(p.out, vspc.KnownSuboptions2{Commands: rest})
		for _, get := range [...]vspc.Message{vspc.GetVMVCUUID{}, vspc.GetVMName{}, vspc.GetVMBIOSUUID{}, vspc.GetVMLocationUUID{}} {
			p.out = vspc.Append(p.out, get)
		}
	case vspc.CmdDoProxy:
		p.out = vspc.Append(p.out, vspc.WillProxy{})
	case vspc.CmdVMotionBegin:
		p.out = vspc.Append(p.out, vspc.VMotionGoAhead{SequenceAndSecret: slices.Concat(rest, []byte(ticket))})
	case vspc.CmdVMotionPeer:
		p.out = vspc.Append(p.out, vspc.VMotionPeerOK{Sequence: rest[:max(len(rest)-len(ticket), 0)]})
	default:
	}
}
