package vspc

import "syscall"

// notSentLowWater is how much the kernel holds of what it can't yet send to a host (TCP_NOTSENT_LOWAT). Whatever
// waits in the kernel delays a VMOTION-GOAHEAD, which has 5 s: at a guest's 11,520 bytes a second this is a third of
// a second. What waits with us does not.
const notSentLowWater = 4 << 10

// receiveBuffer is how much the kernel takes from a host ahead of us, roughly. What a guest that floods its port has sent
// stands ahead of its host's VMOTION-BEGIN.
const receiveBuffer = 32 << 10

const tcpNotSentLowAt = 25 // TCP_NOTSENT_LOWAT of linux/tcp.h, on all architectures

// limitQueues sets the limits. If they can't be set, as in a sandbox, the connection works all the same.
func limitQueues(raw syscall.RawConn) {
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowAt, notSentLowWater)
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, receiveBuffer)
	})
}
