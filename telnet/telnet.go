// Package telnet is the base layer of the telnet protocol: a push parser for its byte stream (RFC 854, RFC 855), an
// encoder, and the negotiation of options without loops (RFC 1143). It does no input or output of its own and takes
// nothing out of the data: a carriage return, NUL or XON is for the layer above.
package telnet

import (
	"bytes"
	"fmt"
)

// Command is a byte that follows IAC (RFC 854, "TELNET COMMAND STRUCTURE").
type Command byte

// The commands of RFC 854. Those from NOP to GA are the telnet functions.
const (
	SE   Command = 240 // end of a subnegotiation
	NOP  Command = 241
	DM   Command = 242 // data mark
	BRK  Command = 243 // break
	IP   Command = 244 // interrupt process
	AO   Command = 245 // abort output
	AYT  Command = 246 // are you there
	EC   Command = 247 // erase character
	EL   Command = 248 // erase line
	GA   Command = 249 // go ahead
	SB   Command = 250 // start of a subnegotiation
	WILL Command = 251
	WONT Command = 252
	DO   Command = 253
	DONT Command = 254
	IAC  Command = 255 // interpret as command; in data and parameters it is doubled
)

const iac = byte(IAC)

func (c Command) String() string {
	if c >= SE {
		return [...]string{"SE", "NOP", "DM", "BRK", "IP", "AO", "AYT", "EC", "EL", "GA", "SB",
			"WILL", "WONT", "DO", "DONT", "IAC"}[c-SE]
	}
	return fmt.Sprintf("command %d", byte(c))
}

// Option is the code of a telnet option.
type Option byte

// The options that a serial line over telnet meets.
const (
	Binary          Option = 0  // RFC 856
	Echo            Option = 1  // RFC 857
	SuppressGoAhead Option = 3  // RFC 858
	Authentication  Option = 37 // RFC 2941
	ComPort         Option = 44 // RFC 2217
)

func (o Option) String() string {
	switch o {
	case Binary:
		return "BINARY"
	case Echo:
		return "ECHO"
	case SuppressGoAhead:
		return "SUPPRESS-GO-AHEAD"
	case Authentication:
		return "AUTHENTICATION"
	case ComPort:
		return "COM-PORT-OPTION"
	}
	return fmt.Sprintf("option %d", byte(o))
}

// AppendData appends p as data: each IAC in it doubled (RFC 854).
func AppendData(dst, p []byte) []byte {
	for {
		i := bytes.IndexByte(p, iac)
		if i < 0 {
			return append(dst, p...)
		}
		dst = append(append(dst, p[:i+1]...), iac)
		p = p[i+1:]
	}
}

// AppendNegotiation appends IAC verb option; verb is WILL, WONT, DO or DONT.
func AppendNegotiation(dst []byte, verb Command, option Option) []byte {
	return append(dst, iac, byte(verb), byte(option))
}

// AppendSubnegotiation appends IAC SB option params IAC SE, each IAC in params, or as option, doubled (RFC 855).
func AppendSubnegotiation(dst []byte, option Option, params []byte) []byte {
	return append(AppendData(BeginSubnegotiation(dst, option), params), iac, byte(SE))
}

// BeginSubnegotiation appends IAC SB option. The caller appends the parameters as they are, and calls EndSubnegotiation.
func BeginSubnegotiation(dst []byte, option Option) []byte {
	dst = append(dst, iac, byte(SB), byte(option))
	if byte(option) == iac {
		dst = append(dst, iac)
	}
	return dst
}

// EndSubnegotiation doubles each IAC of the parameters, which start at dst[params], and appends IAC SE.
func EndSubnegotiation(dst []byte, params int) []byte {
	if bytes.IndexByte(dst[params:], iac) >= 0 {
		dst = AppendData(dst[:params], bytes.Clone(dst[params:]))
	}
	return append(dst, iac, byte(SE))
}
