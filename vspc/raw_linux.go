package vspc

import "syscall"

// notSentLowWater is how much the kernel holds of what it can't yet send to a host (TCP_NOTSENT_LOWAT). Whatever
// waits in the kernel delays a VMOTION-GOAHEAD, which has 5 s: at a guest's 11,520 bytes a second this is a third of
// a second. What waits with us does not.
const notSentLowWater = 4 << 10

const tcpNotSentLowAt = 25 // TCP_NOTSENT_LOWAT of linux/tcp.h, on all architectures

// limitUnsent sets the limit. If it can't be set, as in a sandbox, the connection works all the same.
func limitUnsent(raw syscall.RawConn) {
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowAt, notSentLowWater)
	})
}
