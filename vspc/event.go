package vspc

import (
	"fmt"
	"net"
)

// EventKind says what happened to a port.
type EventKind uint8

// What can happen to a port.
const (
	PortOpened     EventKind = iota + 1 // admitted, and its VM is known
	PortClosed                          // Err says why
	PortRefused                         // Err is Config.Admit's
	PortReplaced                        // the host has connected the port anew
	PortRenamed                         // the VM's name is another one now; Former is the old one
	MoveBegun                           // the source has leave to move
	MoveRefused                         // who began was told NOTNOW: we are shutting down, or the VM is not there
	MovePeered                          // the target has shown the secret
	MoveCompleted                       // the VM runs on the target
	MoveAborted                         // the source said that the VM stays
	MoveResumed                         // the guest speaks on the source: the VM stays
	MoveReplaced                        // the source begins again
	MoveExpired                         // the target never came
	PeerRefused                         // somebody showed a wrong, used or expired secret
	MoveIgnored                         // COMPLETE or ABORT, which Err names, for no vMotion that waits for it
	UnknownCommand                      // Err names it
	eventKinds
)

func (k EventKind) String() string {
	if k == 0 || k >= eventKinds {
		return fmt.Sprintf("event %d", uint8(k))
	}
	return [...]string{"port opened", "port closed", "port refused", "port replaced", "port renamed",
		"vMotion begun", "vMotion refused", "vMotion target arrived", "vMotion completed", "vMotion aborted",
		"vMotion ended, VM resumed at its source", "vMotion begun again", "vMotion expired",
		"vMotion target refused", "vMotion command ignored", "unknown command"}[k-1]
}

// Event is one thing that happened to a port.
type Event struct {
	Kind EventKind
	// Identity and DoProxy are what is known of the port so far; perhaps nothing.
	Identity Identity
	DoProxy  DoProxy
	// Remote is the address of the host that the event came from; nil if it came from none.
	Remote net.Addr
	// Err is the reason, where there is one.
	Err error
	// Former is the name that PortRenamed changed, or the address that PortReplaced's port had.
	Former string
}
