// Package simulator plays a virtual machine on ESXi hosts: a serial port that is connected to a server, moves from
// host to host, and has a program, a QEMU guest or a person behind it.
package simulator

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"sync"
	"time"

	"vmw-cloudinit-metadata/vspc"
)

// Dialer opens a connection to the server, as an ESXi host does for each port and each migration's target.
type Dialer func(ctx context.Context) (net.Conn, error)

// Port is the guest's side of one serial port. Read and Write are the guest's; Move may run at the same time as both.
type Port struct {
	dial Dialer
	conf vspc.HostConfig

	running chan struct{} // full while the guest writes, which a stunned VM does not, and while the VM is stunned

	mu     sync.Mutex
	host   *vspc.Host    // where the VM is
	moved  chan struct{} // closed when host is another one
	closed bool
}

// refusedLinger is how long a refused host stays: it is asked which VM it has, for the server's log.
const refusedLinger = 200 * time.Millisecond

// Connect opens a connection and returns when the server has agreed to serve the port. Close ends it.
func Connect(ctx context.Context, dial Dialer, conf vspc.HostConfig) (*Port, error) {
	conn, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	host := vspc.NewHost(conn, conf)
	if err := host.Handshake(ctx); err != nil {
		if errors.Is(err, vspc.ErrWontProxy) {
			_ = host.SetReadDeadline(time.Now().Add(refusedLinger))
			_, _ = host.Read(make([]byte, 1))
		}
		_ = host.Close()
		return nil, err
	}
	return &Port{dial: dial, conf: conf, host: host, running: make(chan struct{}, 1), moved: make(chan struct{})}, nil
}

func (p *Port) where() (*vspc.Host, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.host, p.moved
}

// Read reads what the server sends to the guest. A migration does not interrupt it.
func (p *Port) Read(b []byte) (int, error) {
	for {
		host, moved := p.where()
		n, err := host.Read(b)
		if n > 0 || err == nil {
			return n, nil
		}
		select {
		case <-moved: // the source's end does not matter any more
			continue
		default:
		}
		// A source that ended while its VM moves is not the end either.
		p.running <- struct{}{}
		again, _ := p.where()
		<-p.running
		if again == host {
			return 0, err
		}
	}
}

// Write sends the guest's bytes. While the VM moves, it waits: the VM is stunned.
func (p *Port) Write(b []byte) (int, error) {
	p.running <- struct{}{}
	defer func() { <-p.running }()
	host, _ := p.where()
	return host.Write(b)
}

// Close closes the port's connection.
func (p *Port) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	_ = p.host.Close() // nothing is left to be done about an error
}

// Times are how long a migration kept the VM waiting.
type Times struct {
	// Consent is from VMOTION-BEGIN to the server's answer.
	Consent time.Duration
	// Stunned is how long the VM stood still for the serial port's sake: all of the migration here.
	Stunned time.Duration
}

// Move moves the VM to another host, on another connection. On an error it runs on where it was. Somebody must be in
// Read at the time: the server's consent comes behind what it has sent to the guest.
func (p *Port) Move(ctx context.Context) (Times, error) {
	p.running <- struct{}{}
	defer func() { <-p.running }()
	source, _ := p.where()
	var times Times
	begun := time.Now()
	var sequence [4]byte
	_, _ = rand.Read(sequence[:])
	move, err := source.Begin(ctx, sequence[:])
	times.Consent = time.Since(begun)
	if err != nil {
		return times, err
	}
	target, err := p.peer(ctx, move)
	if err != nil {
		return times, errors.Join(targetError{err}, source.Abort())
	}
	// A host may close the source's connection ahead of the target's VMOTION-COMPLETE, or behind it.
	sourceFirst := sequence[0]&1 == 0
	p.mu.Lock()
	closed := p.closed
	p.host = target
	close(p.moved)
	p.moved = make(chan struct{})
	p.mu.Unlock()
	if sourceFirst || closed {
		_ = source.Close()
	}
	err = target.Complete()
	_ = source.Close()
	if closed {
		_ = target.Close()
		return times, net.ErrClosed
	}
	times.Stunned = time.Since(begun)
	return times, err
}

// targetError is what went wrong with a migration's target, and leaves the source alone.
type targetError struct{ error }

func (e targetError) Error() string { return "the target host: " + e.error.Error() }
func (e targetError) Unwrap() error { return e.error }

func (p *Port) peer(ctx context.Context, move vspc.VMotion) (*vspc.Host, error) {
	conn, err := p.dial(ctx)
	if err != nil {
		return nil, err
	}
	target := vspc.NewTarget(conn, p.conf, move)
	if err := target.Peer(ctx); err != nil {
		_ = target.Close()
		return nil, err
	}
	return target, nil
}
