package vspc

import (
	"fmt"

	"vmw-cloudinit-metadata/telnet"
)

// Option is the code of VMware's telnet option, VMWARE-TELNET-EXT. The VM's side is the one that says WILL.
const Option telnet.Option = 232

// Command is the first byte of a subnegotiation of Option. The VM's side is spoken by the ESXi host; we are the proxy.
type Command byte

// The commands of VMware's "Using a Proxy with vSphere Virtual Serial Ports", and who sends each.
const (
	CmdKnownSuboptions1  Command = 0  // VM
	CmdKnownSuboptions2  Command = 1  // proxy
	CmdUnknownSuboption1 Command = 2  // VM
	CmdUnknownSuboption2 Command = 3  // proxy
	CmdVMotionBegin      Command = 40 // VM, on the source host
	CmdVMotionGoAhead    Command = 41 // proxy, to the source host
	CmdVMotionNotNow     Command = 43 // proxy, to the source host
	CmdVMotionPeer       Command = 44 // VM, on the target host
	CmdVMotionPeerOK     Command = 45 // proxy, to the target host
	CmdVMotionComplete   Command = 46 // VM, on the target host
	CmdVMotionAbort      Command = 48 // VM, on the source host
	CmdDoProxy           Command = 70 // VM
	CmdWillProxy         Command = 71 // proxy
	CmdWontProxy         Command = 73 // proxy
	CmdVMVCUUID          Command = 80 // VM
	CmdGetVMVCUUID       Command = 81 // proxy
	CmdVMName            Command = 82 // VM
	CmdGetVMName         Command = 83 // proxy
	CmdVMBIOSUUID        Command = 84 // VM
	CmdGetVMBIOSUUID     Command = 85 // proxy
	CmdVMLocationUUID    Command = 86 // VM
	CmdGetVMLocationUUID Command = 87 // proxy
)

func (c Command) String() string {
	switch c {
	case CmdKnownSuboptions1:
		return "KNOWN-SUBOPTIONS-1"
	case CmdKnownSuboptions2:
		return "KNOWN-SUBOPTIONS-2"
	case CmdUnknownSuboption1:
		return "UNKNOWN-SUBOPTION-RCVD-1"
	case CmdUnknownSuboption2:
		return "UNKNOWN-SUBOPTION-RCVD-2"
	case CmdVMotionBegin:
		return "VMOTION-BEGIN"
	case CmdVMotionGoAhead:
		return "VMOTION-GOAHEAD"
	case CmdVMotionNotNow:
		return "VMOTION-NOTNOW"
	case CmdVMotionPeer:
		return "VMOTION-PEER"
	case CmdVMotionPeerOK:
		return "VMOTION-PEER-OK"
	case CmdVMotionComplete:
		return "VMOTION-COMPLETE"
	case CmdVMotionAbort:
		return "VMOTION-ABORT"
	case CmdDoProxy:
		return "DO-PROXY"
	case CmdWillProxy:
		return "WILL-PROXY"
	case CmdWontProxy:
		return "WONT-PROXY"
	case CmdVMVCUUID:
		return "VM-VC-UUID"
	case CmdGetVMVCUUID:
		return "GET-VM-VC-UUID"
	case CmdVMName:
		return "VM-NAME"
	case CmdGetVMName:
		return "GET-VM-NAME"
	case CmdVMBIOSUUID:
		return "VM-BIOS-UUID"
	case CmdGetVMBIOSUUID:
		return "GET-VM-BIOS-UUID"
	case CmdVMLocationUUID:
		return "VM-LOCATION-UUID"
	case CmdGetVMLocationUUID:
		return "GET-VM-LOCATION-UUID"
	}
	return fmt.Sprintf("VMWARE-TELNET-EXT command %d", byte(c))
}

// Message is one command with its parameters: one of the types below.
type Message interface {
	// Command returns the command's code.
	Command() Command
	// AppendParams appends what follows the code, before telnet's doubling of FF.
	AppendParams(dst []byte) []byte
}

// Direction is a port's setting in vSphere, as DO-PROXY carries it. It never says who opens the connection: that is
// always the host.
type Direction byte

// The directions. A client's URI names the system to reach, a server's the point to listen on.
const (
	Client Direction = 'C'
	Server Direction = 'S'
)

func (d Direction) String() string {
	switch d {
	case Client:
		return "client"
	case Server:
		return "server"
	}
	return fmt.Sprintf("direction %#02x", byte(d))
}

// The messages. Byte slices in what Parse returns point into its input. A sequence and a secret are arbitrary bytes of
// arbitrary length; nothing on the wire says where one ends and the other begins.
type (
	// KnownSuboptions1 lists the commands that the VM's side understands.
	KnownSuboptions1 struct{ Commands []byte }
	// KnownSuboptions2 lists ours. It is the required answer to KnownSuboptions1, and may come unasked.
	KnownSuboptions2 struct{ Commands []byte }
	// UnknownSuboption1 says that the VM's side did not understand a command.
	UnknownSuboption1 struct{ Unknown Command }
	// UnknownSuboption2 says that we did not. It is also the answer to a VMotionPeer that matches nothing.
	UnknownSuboption2 struct{ Unknown Command }

	// VMotionBegin announces a migration. The source waits 5 s (serialN.vmotionLimit) for GoAhead or NotNow.
	VMotionBegin struct{ Sequence []byte }
	// VMotionGoAhead lets the VM move: the sequence, and behind it a secret for the target to show.
	VMotionGoAhead struct{ SequenceAndSecret []byte }
	// VMotionNotNow keeps the VM where it is.
	VMotionNotNow struct{ Sequence []byte }
	// VMotionPeer shows, from the target, what VMotionGoAhead told the source.
	VMotionPeer struct{ SequenceAndSecret []byte }
	// VMotionPeerOK accepts the target's connection as the port's next one.
	VMotionPeerOK struct{ Sequence []byte }
	// VMotionComplete says, from the target, that the VM runs there now.
	VMotionComplete struct{ Sequence []byte }
	// VMotionAbort says, from the source, that the VM stays. No parameters are documented; any are kept and ignored.
	VMotionAbort struct{ Ignored []byte }

	// DoProxy asks for the proxy's service; ServiceURI is the port's URI in vSphere, any text at all.
	DoProxy struct {
		Direction  Direction
		ServiceURI string
	}
	// WillProxy agrees to DoProxy: data may flow.
	WillProxy struct{}
	// WontProxy refuses DoProxy.
	WontProxy struct{}

	// VMVCUUID is vc.uuid as the VM's side writes it; ParseUUID of it may fail.
	VMVCUUID struct{ Text string }
	// GetVMVCUUID asks for VMVCUUID.
	GetVMVCUUID struct{}
	// VMName is the display name: usually UTF-8, but any bytes may come.
	VMName struct{ Name string }
	// GetVMName asks for VMName.
	GetVMName struct{}
	// VMBIOSUUID is uuid.bios, as VMVCUUID.
	VMBIOSUUID struct{ Text string }
	// GetVMBIOSUUID asks for VMBIOSUUID.
	GetVMBIOSUUID struct{}
	// VMLocationUUID is uuid.location, as VMVCUUID.
	VMLocationUUID struct{ Text string }
	// GetVMLocationUUID asks for VMLocationUUID.
	GetVMLocationUUID struct{}

	// UnknownMessage is a command that has no meaning here. It is answered with an UnknownSuboption.
	UnknownMessage struct {
		Code   Command
		Params []byte
	}
)

// The codes of the messages.
func (KnownSuboptions1) Command() Command  { return CmdKnownSuboptions1 }
func (KnownSuboptions2) Command() Command  { return CmdKnownSuboptions2 }
func (UnknownSuboption1) Command() Command { return CmdUnknownSuboption1 }
func (UnknownSuboption2) Command() Command { return CmdUnknownSuboption2 }
func (VMotionBegin) Command() Command      { return CmdVMotionBegin }
func (VMotionGoAhead) Command() Command    { return CmdVMotionGoAhead }
func (VMotionNotNow) Command() Command     { return CmdVMotionNotNow }
func (VMotionPeer) Command() Command       { return CmdVMotionPeer }
func (VMotionPeerOK) Command() Command     { return CmdVMotionPeerOK }
func (VMotionComplete) Command() Command   { return CmdVMotionComplete }
func (VMotionAbort) Command() Command      { return CmdVMotionAbort }
func (DoProxy) Command() Command           { return CmdDoProxy }
func (WillProxy) Command() Command         { return CmdWillProxy }
func (WontProxy) Command() Command         { return CmdWontProxy }
func (VMVCUUID) Command() Command          { return CmdVMVCUUID }
func (GetVMVCUUID) Command() Command       { return CmdGetVMVCUUID }
func (VMName) Command() Command            { return CmdVMName }
func (GetVMName) Command() Command         { return CmdGetVMName }
func (VMBIOSUUID) Command() Command        { return CmdVMBIOSUUID }
func (GetVMBIOSUUID) Command() Command     { return CmdGetVMBIOSUUID }
func (VMLocationUUID) Command() Command    { return CmdVMLocationUUID }
func (GetVMLocationUUID) Command() Command { return CmdGetVMLocationUUID }
func (m UnknownMessage) Command() Command  { return m.Code }

// The parameters of the messages.
func (m KnownSuboptions1) AppendParams(dst []byte) []byte  { return append(dst, m.Commands...) }
func (m KnownSuboptions2) AppendParams(dst []byte) []byte  { return append(dst, m.Commands...) }
func (m UnknownSuboption1) AppendParams(dst []byte) []byte { return append(dst, byte(m.Unknown)) }
func (m UnknownSuboption2) AppendParams(dst []byte) []byte { return append(dst, byte(m.Unknown)) }
func (m VMotionBegin) AppendParams(dst []byte) []byte      { return append(dst, m.Sequence...) }
func (m VMotionGoAhead) AppendParams(dst []byte) []byte    { return append(dst, m.SequenceAndSecret...) }
func (m VMotionNotNow) AppendParams(dst []byte) []byte     { return append(dst, m.Sequence...) }
func (m VMotionPeer) AppendParams(dst []byte) []byte       { return append(dst, m.SequenceAndSecret...) }
func (m VMotionPeerOK) AppendParams(dst []byte) []byte     { return append(dst, m.Sequence...) }
func (m VMotionComplete) AppendParams(dst []byte) []byte   { return append(dst, m.Sequence...) }
func (m VMotionAbort) AppendParams(dst []byte) []byte      { return append(dst, m.Ignored...) }
func (m DoProxy) AppendParams(dst []byte) []byte {
	return append(append(dst, byte(m.Direction)), m.ServiceURI...)
}
func (WillProxy) AppendParams(dst []byte) []byte         { return dst }
func (WontProxy) AppendParams(dst []byte) []byte         { return dst }
func (m VMVCUUID) AppendParams(dst []byte) []byte        { return append(dst, m.Text...) }
func (GetVMVCUUID) AppendParams(dst []byte) []byte       { return dst }
func (m VMName) AppendParams(dst []byte) []byte          { return append(dst, m.Name...) }
func (GetVMName) AppendParams(dst []byte) []byte         { return dst }
func (m VMBIOSUUID) AppendParams(dst []byte) []byte      { return append(dst, m.Text...) }
func (GetVMBIOSUUID) AppendParams(dst []byte) []byte     { return dst }
func (m VMLocationUUID) AppendParams(dst []byte) []byte  { return append(dst, m.Text...) }
func (GetVMLocationUUID) AppendParams(dst []byte) []byte { return dst }
func (m UnknownMessage) AppendParams(dst []byte) []byte  { return append(dst, m.Params...) }

// Append appends m as the wire has it: IAC SB 232 command parameters IAC SE, each FF inside doubled.
func Append(dst []byte, m Message) []byte {
	dst = telnet.BeginSubnegotiation(dst, Option)
	params := len(dst)
	return telnet.EndSubnegotiation(m.AppendParams(append(dst, byte(m.Command()))), params)
}

// Parse reads a message from the parameters of a subnegotiation of Option, as telnet.Decoder gives them. An unknown
// command is no error but an UnknownMessage. The error is a *ProtocolError: a known command with parameters that it
// can't have.
func Parse(params []byte) (Message, error) {
	if len(params) == 0 {
		return nil, &ProtocolError{"a command without a code"}
	}
	code, params := Command(params[0]), params[1:]
	switch code {
	case CmdKnownSuboptions1:
		return KnownSuboptions1{params}, nil
	case CmdKnownSuboptions2:
		return KnownSuboptions2{params}, nil
	case CmdVMotionBegin:
		return VMotionBegin{params}, nil
	case CmdVMotionGoAhead:
		return VMotionGoAhead{params}, nil
	case CmdVMotionNotNow:
		return VMotionNotNow{params}, nil
	case CmdVMotionPeer:
		return VMotionPeer{params}, nil
	case CmdVMotionPeerOK:
		return VMotionPeerOK{params}, nil
	case CmdVMotionComplete:
		return VMotionComplete{params}, nil
	case CmdVMotionAbort:
		return VMotionAbort{params}, nil
	case CmdVMVCUUID:
		return VMVCUUID{string(params)}, nil
	case CmdVMName:
		return VMName{string(params)}, nil
	case CmdVMBIOSUUID:
		return VMBIOSUUID{string(params)}, nil
	case CmdVMLocationUUID:
		return VMLocationUUID{string(params)}, nil
	case CmdDoProxy:
		if len(params) == 0 {
			return nil, &ProtocolError{"DO-PROXY without a direction"}
		}
		return DoProxy{Direction(params[0]), string(params[1:])}, nil
	case CmdUnknownSuboption1, CmdUnknownSuboption2:
		if len(params) != 1 {
			return nil, &ProtocolError{fmt.Sprintf("%v with %d bytes, not 1", code, len(params))}
		}
		if code == CmdUnknownSuboption1 {
			return UnknownSuboption1{Command(params[0])}, nil
		}
		return UnknownSuboption2{Command(params[0])}, nil
	}
	m, known := withoutParams(code)
	if !known {
		return UnknownMessage{code, params}, nil
	}
	if len(params) != 0 {
		return nil, &ProtocolError{fmt.Sprintf("%v with %d bytes, not none", code, len(params))}
	}
	return m, nil
}

func withoutParams(code Command) (Message, bool) {
	switch code {
	case CmdWillProxy:
		return WillProxy{}, true
	case CmdWontProxy:
		return WontProxy{}, true
	case CmdGetVMVCUUID:
		return GetVMVCUUID{}, true
	case CmdGetVMName:
		return GetVMName{}, true
	case CmdGetVMBIOSUUID:
		return GetVMBIOSUUID{}, true
	case CmdGetVMLocationUUID:
		return GetVMLocationUUID{}, true
	}
	return nil, false
}

// ProtocolError says that the peer sent something that the protocol does not have.
type ProtocolError struct{ Problem string }

func (e *ProtocolError) Error() string { return "vspc: " + e.Problem }
