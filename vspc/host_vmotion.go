package vspc

import (
	"bytes"
	"context"
	"fmt"
	"net"
)

// VMotion is what the source host of a migration tells the target: its own sequence, and the proxy's whole answer,
// which is the sequence with a secret behind it.
type VMotion struct{ Sequence, SequenceAndSecret []byte }

// Begin announces a migration and waits for the proxy's consent. The error is an ErrNotNow, an ErrVMotionLimit, ctx's
// cause, or what ended the connection; in each case the VM simply runs on. One Begin may wait at a time.
func (h *Host) Begin(ctx context.Context, sequence []byte) (VMotion, error) {
	r := newRequest(sequence)
	h.mu.Lock()
	h.begin = r
	h.queue(Append(nil, VMotionBegin{r.sequence}))
	h.mu.Unlock()
	h.startReading()
	if err := h.request(ctx, &h.begin, r); err != nil {
		return VMotion{}, fmt.Errorf("vspc: VMOTION-BEGIN: %w", err)
	}
	return VMotion{Sequence: r.sequence, SequenceAndSecret: r.result}, nil
}

// Abort tells the proxy, on the source, that the VM stays.
func (h *Host) Abort() error { return h.Send(VMotionAbort{}) }

// NewTarget makes the Host at the other end of a migration, over a new connection to the same proxy. Its first words
// are Peer, not Handshake. Like NewHost otherwise.
func NewTarget(conn net.Conn, conf HostConfig, move VMotion) *Host {
	h := NewHost(conn, conf)
	h.target, h.move = true, move
	return h
}

// Peer opens the target's conversation, shows the secret, and waits until the proxy accepts it; another call shows it
// again. The error is an ErrPeerRefused, an ErrNotProxy, an ErrVMotionLimit, ctx's cause, or what ended the connection.
func (h *Host) Peer(ctx context.Context) error {
	r := newRequest(h.move.Sequence)
	h.mu.Lock()
	h.peer = r
	again := h.introduced
	if again {
		h.queue(Append(nil, VMotionPeer{h.move.SequenceAndSecret}))
	}
	h.mu.Unlock()
	if !again {
		h.open()
	}
	if err := h.request(ctx, &h.peer, r); err != nil {
		return fmt.Errorf("vspc: VMOTION-PEER: %w", err)
	}
	return nil
}

// Complete tells the proxy, on the target, that the VM runs there now.
func (h *Host) Complete() error { return h.Send(VMotionComplete{h.move.Sequence}) }

// request is a question of ours that the proxy will answer.
type request struct {
	sequence []byte
	done     chan struct{}
	result   []byte
	err      error
}

func newRequest(sequence []byte) *request {
	return &request{sequence: bytes.Clone(sequence), done: make(chan struct{})}
}

// settle keeps the first answer. A nil request waits for none.
func (r *request) settle(result []byte, err error) {
	if r == nil {
		return
	}
	select {
	case <-r.done:
	default:
		r.result, r.err = result, err
		close(r.done)
	}
}

func (r *request) expects() []byte {
	if r == nil {
		return nil
	}
	return r.sequence
}

// answersTo reports whether an answer with this sequence is meant for r. h.mu is held.
func (h *Host) answersTo(r *request, sequence []byte) bool {
	if h.conf.Variant.StrictSequence {
		return bytes.Equal(sequence, r.expects())
	}
	return bytes.HasPrefix(sequence, r.expects())
}

// request waits for r's answer, for VMotionLimit at most, and clears the place where r was left.
func (h *Host) request(ctx context.Context, place **request, r *request) error {
	ctx, cancel := context.WithTimeoutCause(ctx, h.conf.VMotionLimit, ErrVMotionLimit)
	defer cancel()
	err := h.wait(ctx, r.done)
	h.mu.Lock()
	defer h.mu.Unlock()
	if *place == r {
		*place = nil
	}
	if err != nil {
		return err
	}
	return r.err
}
