package telnet

import (
	"bytes"
	"fmt"
)

// DefaultMaxSubnegotiation is the limit on a subnegotiation's parameters unless a Decoder says otherwise. The longest
// that means anything on a serial line is a name or a URI; this leaves it ample room and costs a liar's peer little.
const DefaultMaxSubnegotiation = 4 << 10

// Kind says what an Event is.
type Kind uint8

// The kinds of events. None comes when the input is used up.
const (
	None Kind = iota
	Data
	Negotiation
	Subnegotiation
	Function
)

// Event is one thing that the peer said.
type Event struct {
	Kind Kind
	// Command is the verb of a Negotiation (WILL, WONT, DO, DONT), or the byte after IAC of a Function.
	Command Command
	// Option is that of a Negotiation or a Subnegotiation.
	Option Option
	// Bytes are the data, or a subnegotiation's parameters, with doubled IACs made single. They are valid, and may be
	// changed, until the next call of Next or until the caller reuses the input. What is appended to data may overwrite
	// input that is not used up yet.
	Bytes []byte
}

// ProtocolError says that the peer broke telnet's framing. What follows in the stream means nothing.
type ProtocolError struct{ Problem string }

func (e *ProtocolError) Error() string { return "telnet: " + e.Problem }

// Decoder splits a telnet stream into events, whatever the chunks it arrives in; only data is cut where a chunk
// ends. The zero value is ready to use and holds no memory between events. It is not for concurrent use.
type Decoder struct {
	// MaxSubnegotiation bounds the parameters of a subnegotiation, in bytes; 0 means DefaultMaxSubnegotiation.
	MaxSubnegotiation int

	state   state
	command Command
	option  Option
	params  []byte // of a subnegotiation that came in pieces or with doubled IACs
}

type state uint8

const (
	inData        state = iota
	afterIAC            // in data
	afterVerb           // WILL and its like: the option follows
	afterSB             // the option of a subnegotiation follows
	afterSBIAC          // the option is 255, doubled; or the body is empty
	inParams            // of a subnegotiation
	afterParamIAC       // in parameters
)

// Next takes the next event from the front of src, and says how many bytes of src it has used up. With Kind None all
// of src is used, and the rest of an event is awaited. The error is a *ProtocolError; it ends the stream.
func (d *Decoder) Next(src []byte) (ev Event, n int, err error) {
	for n < len(src) {
		c := src[n]
		switch d.state {
		case inData:
			i := bytes.IndexByte(src[n:], iac)
			switch {
			case i < 0:
				return Event{Kind: Data, Bytes: src[n:]}, len(src), nil
			case n+i+1 < len(src) && src[n+i+1] == iac:
				return Event{Kind: Data, Bytes: src[n : n+i+1]}, n + i + 2, nil
			case i > 0:
				d.state = afterIAC
				return Event{Kind: Data, Bytes: src[n : n+i]}, n + i + 1, nil
			}
			d.state = afterIAC
			n++
		case afterIAC:
			n++
			d.command = Command(c)
			switch d.command {
			case IAC:
				d.state = inData
				return Event{Kind: Data, Bytes: src[n-1 : n]}, n, nil
			case SB:
				d.state = afterSB
			case WILL, WONT, DO, DONT:
				d.state = afterVerb
			case SE:
				return Event{}, n, &ProtocolError{"the end of a subnegotiation that never began"}
			default:
				d.state = inData
				return Event{Kind: Function, Command: d.command}, n, nil
			}
		case afterVerb:
			n++
			d.state = inData
			return Event{Kind: Negotiation, Command: d.command, Option: Option(c)}, n, nil
		case afterSB:
			n++
			d.option = Option(c)
			d.state = inParams
			if c == iac {
				d.state = afterSBIAC
			}
		case afterSBIAC:
			n++
			if c != iac {
				return Event{}, n, &ProtocolError{"a subnegotiation without an option"}
			}
			d.state = inParams
		case inParams:
			i := bytes.IndexByte(src[n:], iac)
			if i >= 0 && n+i+1 < len(src) && src[n+i+1] == byte(SE) && d.params == nil {
				params := src[n : n+i : n+i]
				if err := d.bound(len(params)); err != nil {
					return Event{}, n, err
				}
				d.state = inData
				return Event{Kind: Subnegotiation, Option: d.option, Bytes: params}, n + i + 2, nil
			}
			part := src[n:]
			if i >= 0 {
				part = part[:i]
				d.state = afterParamIAC
				n++
			}
			if err := d.bound(len(d.params) + len(part)); err != nil {
				return Event{}, n, err
			}
			d.params = append(d.params, part...)
			n += len(part)
		case afterParamIAC:
			n++
			switch c {
			case iac:
				d.params = append(d.params, iac) // what comes next is bounded
				d.state = inParams
			case byte(SE):
				params := d.params
				d.params, d.state = nil, inData
				return Event{Kind: Subnegotiation, Option: d.option, Bytes: params}, n, nil
			default:
				return Event{}, n, &ProtocolError{fmt.Sprintf("%v inside a subnegotiation of %v", Command(c), d.option)}
			}
		}
	}
	return Event{}, n, nil
}

func (d *Decoder) bound(length int) error {
	limit := d.MaxSubnegotiation
	if limit <= 0 {
		limit = DefaultMaxSubnegotiation
	}
	if length > limit {
		return &ProtocolError{fmt.Sprintf("a subnegotiation of %v has more than %d bytes", d.option, limit)}
	}
	return nil
}
