package telnet

// Side says whose use of an option is meant. Each side's use is negotiated on its own.
type Side uint8

// Local is our use of an option (we say WILL, the peer DO), Remote is the peer's (he says WILL, we DO).
const (
	Local Side = iota
	Remote
)

// Negotiator keeps the state of the options of one connection by the Q method of RFC 1143, so that crossing requests
// and repeated ones never start a loop. The zero value refuses all options. It is not for concurrent use.
type Negotiator struct {
	// Accept says whether a peer's request to enable an option is granted. Nil refuses all; what we asked for
	// ourselves with Enable is not asked here again.
	Accept func(side Side, option Option) bool

	options []negotiation // those that are not in their initial state; a handful
}

// usualOptions is how many of them there are, as a rule.
const usualOptions = 8

type negotiation struct {
	side   Side
	option Option
	state  qState
}

// qState joins RFC 1143's states with its queue bit.
type qState uint8

const (
	no qState = iota
	yes
	wantNo        // queue EMPTY
	wantNoThenYes // queue OPPOSITE
	wantYes       // queue EMPTY
	wantYesThenNo // queue OPPOSITE
)

// Enabled reports whether both sides have agreed on the use of option by side.
func (n *Negotiator) Enabled(side Side, option Option) bool { return n.get(side, option) == yes }

// Pending reports whether a request of ours for option is still unanswered.
func (n *Negotiator) Pending(side Side, option Option) bool { return n.get(side, option) >= wantNo }

// Enable asks the peer for the use of option by side, and appends what is to be sent to dst.
func (n *Negotiator) Enable(dst []byte, side Side, option Option) []byte {
	switch n.get(side, option) {
	case no:
		n.set(side, option, wantYes)
		return AppendNegotiation(dst, positive(side), option)
	case wantNo:
		n.set(side, option, wantNoThenYes)
	case wantYesThenNo:
		n.set(side, option, wantYes)
	}
	return dst
}

// Disable ends the use of option by side, and appends what is to be sent to dst.
func (n *Negotiator) Disable(dst []byte, side Side, option Option) []byte {
	switch n.get(side, option) {
	case yes:
		n.set(side, option, wantNo)
		return AppendNegotiation(dst, negative(side), option)
	case wantYes:
		n.set(side, option, wantYesThenNo)
	case wantNoThenYes:
		n.set(side, option, wantNo)
	}
	return dst
}

// Receive takes a Negotiation event's verb and option, and appends the answer, if one is due, to dst.
func (n *Negotiator) Receive(dst []byte, verb Command, option Option) []byte {
	side, agreed := Remote, verb == WILL || verb == DO
	if verb == DO || verb == DONT {
		side = Local
	}
	state := n.get(side, option)
	switch {
	case agreed && state == no:
		if n.Accept == nil || !n.Accept(side, option) {
			return AppendNegotiation(dst, negative(side), option)
		}
		n.set(side, option, yes)
		return AppendNegotiation(dst, positive(side), option)
	case agreed && state == wantNo: // the peer answered a request to stop with a consent to go on
		n.set(side, option, no)
	case agreed && state == wantYesThenNo:
		n.set(side, option, wantNo)
		return AppendNegotiation(dst, negative(side), option)
	case agreed:
		n.set(side, option, yes)
	case state == yes:
		n.set(side, option, no)
		return AppendNegotiation(dst, negative(side), option)
	case state == wantNoThenYes:
		n.set(side, option, wantYes)
		return AppendNegotiation(dst, positive(side), option)
	default:
		n.set(side, option, no)
	}
	return dst
}

func positive(side Side) Command {
	if side == Local {
		return WILL
	}
	return DO
}

func negative(side Side) Command { return positive(side) + 1 }

func (n *Negotiator) get(side Side, option Option) qState {
	for _, o := range n.options {
		if o.option == option && o.side == side {
			return o.state
		}
	}
	return no
}

func (n *Negotiator) set(side Side, option Option, state qState) {
	for i, o := range n.options {
		if o.option == option && o.side == side {
			n.options[i].state = state
			return
		}
	}
	if state != no {
		if n.options == nil {
			n.options = make([]negotiation, 0, usualOptions)
		}
		n.options = append(n.options, negotiation{side, option, state})
	}
}
