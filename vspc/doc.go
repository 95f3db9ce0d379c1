// Package vspc speaks VMware's virtual serial port concentrator (proxy) protocol: telnet option 232, by which an ESXi
// host hands a VM's serial port to us, says which VM it is, and takes the port along when the VM moves.
//
// The host always opens the connection. A [Concentrator] is our end of all of them: it is given connections, and gives
// a [Session] for each port, which lives on when its VM moves and another connection takes its place. [Message] and its
// types are the protocol's commands; [Host] is the host's end, for tests and simulators.
package vspc
