package vspc_test

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"vmw-cloudinit-metadata/vspc"
)

// TestGoAheadPassesALongAnswer has a guest that reads as a serial line of 115,200 baud does, and a host that keeps
// little for it. With 1 MiB on its way, GOAHEAD has to come before the host's 5 s are over.
func TestGoAheadPassesALongAnswer(t *testing.T) {
	for name, start := range networks(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			goAheadPassesALongAnswer(t, start(t))
		})
	}
}

func goAheadPassesALongAnswer(t *testing.T, n *network) {
	small := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error { // later the window is open already
		var failed error
		err := raw.Control(func(fd uintptr) {
			failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10)
		})
		return errors.Join(err, failed)
	}}
	conn, err := small.Dial("tcp", n.address)
	if err != nil {
		t.Fatal(err)
	}
	h := vspc.NewHost(n.wrap(conn), n.host)
	defer h.Close()
	if err := h.Handshake(t.Context()); err != nil {
		t.Fatal(err)
	}
	session := <-n.sessions
	session.Send(make([]byte, 1<<20), nil)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { // the guest
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			if _, err := io.CopyN(io.Discard, h, 115); err != nil {
				return
			}
		}
	}()
	wait := time.NewTimer(time.Second / 2) // until all that can be full is
	<-wait.C
	start := time.Now()
	if _, err := h.Begin(ctx, []byte("seq")); err != nil {
		t.Fatalf("after %v: %v", time.Since(start), err)
	}
	t.Logf("GOAHEAD came after %v", time.Since(start))
}
