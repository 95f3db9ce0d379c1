package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"vmw-cloudinit-metadata/vspc"
)

const (
	// acceptPause is how long accepting rests when the system has no file or memory left for another connection.
	// What comes meanwhile waits in the kernel.
	acceptPause = 100 * time.Millisecond
	// keepAlive finds hosts that are gone without a word: after about as long as hosts take to find a dead proxy
	// (5 minutes and some probes), so that ports of a host that lost its power do not stay for hours.
	keepAliveIdle     = 2 * time.Minute
	keepAliveInterval = 15 * time.Second
	keepAliveCount    = 4
	// sniffTimeout is how long a client may be silent before it is taken for one without TLS. A TLS client speaks
	// first and at once; a host that waits for us to speak loses this time, which a vMotion's target has.
	sniffTimeout = 2 * time.Second
	// sniffTimeoutTLS is the same where the address has other connections with TLS: the first words of a busy host, or
	// those that the network has lost once, may come late. A vMotion's target can still be told in time.
	sniffTimeoutTLS = 4 * time.Second
)

// Listen listens at a TCP address, for Serve, with the keep-alive that finds dead hosts.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	var config net.ListenConfig
	setKeepAlive(&config)
	config.SetMultipathTCP(false) // no ESXi host speaks it
	return config.Listen(ctx, "tcp", address)
}

// Serve accepts connections from ln until ctx is done, ln fails, or the server is shut down, and closes ln. The
// connections go on.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		ln.Close()
		return net.ErrClosed
	}
	s.listeners[ln] = struct{}{}
	s.mu.Unlock()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	defer func() {
		ln.Close()
		s.mu.Lock()
		delete(s.listeners, ln)
		s.mu.Unlock()
	}()
	for {
		conn, err := s.accept(ln)
		switch {
		case err == nil:
			s.welcome(conn)
		case ctx.Err() != nil || s.isStopping():
			return nil
		case err == errFull || isShortage(err):
			s.stats.AcceptPauses.Add(1)
			s.quiet.log(s.log, slog.LevelError, "accept", "can't take more connections for now; raise the limit on open files (LimitNOFILE=, ulimit -n)",
				"error", err, "connections", s.connectionCount())
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
		default:
			return fmt.Errorf("accepting on %s: %w", ln.Addr(), err)
		}
	}
}

// errFull says that there are as many connections as Config.RestAt allows.
var errFull = errors.New("the other files that may be open are kept for the driver")

// accept takes the next connection, if there is room for it.
func (s *Server) accept(ln net.Listener) (net.Conn, error) {
	if s.cfg.RestAt > 0 && s.connectionCount() >= s.cfg.RestAt {
		return nil, errFull
	}
	return ln.Accept()
}

// welcome starts the life of a connection, if there is room for it.
func (s *Server) welcome(conn net.Conn) {
	address := addressOf(conn.RemoteAddr())
	if why := s.enter(address); why != "" {
		s.stats.Rejected.Add(1)
		s.quiet.log(s.log, slog.LevelWarn, why+" "+vicinity(address), "connection refused: "+why, "remote", conn.RemoteAddr().String())
		conn.Close()
		return
	}
	if s.cfg.TLS == nil {
		s.start(conn, address)
		return
	}
	go func() {
		encrypted, err := speaksTLS(s.life, conn, s.patience(address))
		secured := conn
		if err == nil && encrypted {
			secured, err = s.secure(conn)
		}
		switch {
		case s.life.Err() != nil: // it has said nothing that is worth waiting for
			s.left(conn.RemoteAddr(), vspc.ErrClosed)
		case err == nil:
			s.start(secured, address)
			return
		case encrypted:
			s.tlsFailed(conn.RemoteAddr(), err)
		default:
			s.left(conn.RemoteAddr(), err)
		}
		conn.Close()
		s.leave(address)
	}()
}

func (s *Server) start(conn net.Conn, address netip.Addr) {
	remote := conn.RemoteAddr()
	_, encrypted := conn.(*tls.Conn)
	if encrypted {
		s.countEncrypted(address, 1)
	}
	s.concentrator.Start(conn, func(err error) {
		s.left(remote, err)
		if encrypted {
			s.countEncrypted(address, -1)
		}
		s.leave(address)
	})
}

// secure starts TLS on conn.
func (s *Server) secure(conn net.Conn) (net.Conn, error) {
	secure := tls.Server(conn, s.cfg.TLS)
	ctx, cancel := context.WithTimeout(s.life, handshakeTimeout)
	defer cancel()
	return secure, secure.HandshakeContext(ctx)
}

// handshakeTimeout bounds a TLS handshake: a few round trips, with time to spare for a host in trouble.
const handshakeTimeout = 15 * time.Second

// enter counts a connection in, or says why it may not come in.
func (s *Server) enter(address netip.Addr) string {
	if len(s.cfg.Allow) > 0 && !s.allows(address) {
		return "its address is in none of the networks that --allow names"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopping:
		return "the server is shutting down"
	case s.cfg.MaxConnections > 0 && s.connections >= s.cfg.MaxConnections:
		return "there are as many connections as --max-connections allows"
	case s.cfg.MaxPerAddress > 0 && s.perAddress[address].all >= s.cfg.MaxPerAddress:
		return "there are as many connections from its address as --max-connections-per-address allows"
	}
	s.connections++
	count := s.perAddress[address]
	count.all++
	s.perAddress[address] = count
	s.serving.Add(1)
	return ""
}

// patience is how long a client at address may be silent before it is taken for one without TLS.
func (s *Server) patience(address netip.Addr) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.perAddress[address].encrypted > 0 {
		return sniffTimeoutTLS
	}
	return sniffTimeout
}

// counts are an address's connections.
type counts struct{ all, encrypted int }

// countEncrypted adds one or takes one off.
func (s *Server) countEncrypted(address netip.Addr, change int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	count := s.perAddress[address]
	count.encrypted += change
	s.perAddress[address] = count
}

func (s *Server) leave(address netip.Addr) {
	s.mu.Lock()
	s.connections--
	count := s.perAddress[address]
	count.all--
	s.perAddress[address] = count
	if count.all == 0 {
		delete(s.perAddress, address)
	}
	s.mu.Unlock()
	s.serving.Done()
}

func (s *Server) connectionCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connections
}

func (s *Server) allows(address netip.Addr) bool {
	for _, network := range s.cfg.Allow {
		if network.Contains(address) {
			return true
		}
	}
	return false
}

// vicinity is what log lines about an address are kept apart from those about others by. Whoever has one address of IPv6
// has as many as he likes of its /64.
func vicinity(address netip.Addr) string {
	if address.Is6() {
		return netip.PrefixFrom(address, 64).Masked().String()
	}
	return address.String()
}

// addressOf returns the address without its port and zone, and an IPv4 address as one; the zero Addr if it has none.
func addressOf(addr net.Addr) netip.Addr {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
