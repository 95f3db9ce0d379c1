package vspc_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"net"
	"testing"
	"time"

	"vmw-cloudinit-metadata/internal/tlstest"
	"vmw-cloudinit-metadata/vspc"
)

// network is a Concentrator behind a real listener.
type network struct {
	*vspc.Concentrator
	sessions chan *vspc.Session
	dial     func() net.Conn
	address  string
	wrap     func(net.Conn) net.Conn // what dial does with a connection to address
	host     vspc.HostConfig
}

// networks are the ways in which a host can be connected.
func networks(t *testing.T) map[string]func(t *testing.T) *network {
	serverTLS, clientTLS := tlstest.SelfSigned(t, "vspc.example.com")
	listen := func(t *testing.T, cfg vspc.Config, wrapServer, wrapClient func(net.Conn) net.Conn) *network {
		n := &network{sessions: make(chan *vspc.Session, 1)}
		cfg.Open = func(s *vspc.Session) vspc.Receiver {
			n.sessions <- s
			return new(ears)
		}
		n.Concentrator = vspc.NewConcentrator(cfg)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				go n.Serve(wrapServer(conn))
			}
		}()
		n.address, n.wrap = ln.Addr().String(), wrapClient
		n.dial = func() net.Conn {
			conn, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			return wrapClient(conn)
		}
		t.Cleanup(func() {
			ln.Close()
			n.Shutdown(context.Background())
		})
		n.host = vspc.HostConfig{Identity: vspc.Identity{Name: "vm-00000", VCUUID: uuidText}, ServiceURI: "x"}
		return n
	}
	plain := func(c net.Conn) net.Conn { return c }
	return map[string]func(t *testing.T) *network{
		"telnet": func(t *testing.T) *network { return listen(t, vspc.Config{}, plain, plain) },
		"telnets": func(t *testing.T) *network {
			return listen(t, vspc.Config{RequireTLS: true, TLS: serverTLS},
				func(c net.Conn) net.Conn { return tls.Server(c, serverTLS) },
				func(c net.Conn) net.Conn { return tls.Client(c, clientTLS) })
		},
		"TLS inside telnet": func(t *testing.T) *network {
			n := listen(t, vspc.Config{RequireTLS: true, TLS: serverTLS}, plain, plain)
			n.host.TLS = clientTLS
			return n
		},
		"TLS offered inside telnet": func(t *testing.T) *network {
			n := listen(t, vspc.Config{TLS: serverTLS}, plain, plain)
			n.host.TLS = clientTLS
			return n
		},
	}
}

// boot connects a port.
func (n *network) boot(t *testing.T) (*vspc.Host, *vspc.Session) {
	t.Helper()
	h := vspc.NewHost(n.dial(), n.host)
	if err := h.Handshake(t.Context()); err != nil {
		t.Fatal(err)
	}
	return h, <-n.sessions
}

// move moves a port from h, whose guest reads on until GOAHEAD, and returns where the guest then is.
func (n *network) move(t *testing.T, h *vspc.Host, guest io.Writer, sequence []byte) *vspc.Host {
	t.Helper()
	began := make(chan vspc.VMotion)
	failed := make(chan error)
	go func() {
		move, err := h.Begin(t.Context(), sequence)
		if err != nil {
			failed <- err
			return
		}
		began <- move
	}()
	buf := make([]byte, 1000)
	for {
		h.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		k, err := h.Read(buf)
		guest.Write(buf[:k])
		if ne, ok := errors.AsType[net.Error](err); err != nil && (!ok || !ne.Timeout()) {
			t.Fatal(err)
		}
		select {
		case err := <-failed:
			t.Fatal(err)
		case move := <-began:
			target := vspc.NewTarget(n.dial(), n.host, move)
			if err := target.Peer(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := target.Complete(); err != nil {
				t.Fatal(err)
			}
			h.Close()
			return target
		default:
		}
	}
}

// TestAnswersMoveOverTCP sends 600 KB again and again, and moves the port in the middle. VMOTION_ANSWERS sets how often.
func TestAnswersMoveOverTCP(t *testing.T) {
	answers := number(t, "VMOTION_ANSWERS", 5)
	for name, start := range networks(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := start(t)
			h, session := n.boot(t)
			defer func() { h.Close() }()
			random := mathrand.New(mathrand.NewPCG(3, 3))
			for range answers {
				answer := make([]byte, 600<<10)
				for i := range answer {
					answer[i] = byte(random.Uint32()) | byte(random.Uint32())&0xf0 // many FFs
				}
				sent := make(chan error, 1)
				session.Send(answer, func(err error) { sent <- err })

				var guest bytes.Buffer
				at := random.IntN(len(answer))
				if _, err := io.CopyN(&guest, h, int64(at)); err != nil {
					t.Fatal(err)
				}
				h.SetReadDeadline(time.Time{})
				h = n.move(t, h, &guest, []byte{0xff, byte(at)})
				if _, err := io.CopyN(&guest, h, int64(len(answer)-guest.Len())); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(guest.Bytes(), answer) {
					t.Fatalf("what the guest got differs at byte %d, having moved behind %d", differ(guest.Bytes(), answer), at)
				}
				if err := <-sent; err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestTLSIsRequired(t *testing.T) {
	n := networks(t)["TLS inside telnet"](t)
	n.host.TLS = nil
	h := vspc.NewHost(n.dial(), n.host)
	defer h.Close()
	if err := h.Handshake(t.Context()); err == nil {
		t.Error("a host without TLS was served")
	}
}
