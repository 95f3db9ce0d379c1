package server_test

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmw-cloudinit-metadata/internal/server"
	"vmw-cloudinit-metadata/internal/tlspair"
	"vmw-cloudinit-metadata/internal/tlstest"
	"vmw-cloudinit-metadata/packet"
	"vmw-cloudinit-metadata/vspc"
)

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := tlspair.Create(cert, key, []string{"127.0.0.1"}, tlspair.ECDSA, time.Hour); err != nil {
		t.Fatal(err)
	}
	pair, err := tlspair.Load(cert, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := tlspair.LoadCAs(cert)
	if err != nil {
		t.Fatal(err)
	}
	trust := &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}

	for _, tc := range []struct {
		name            string
		cfg             server.Config
		telnets, inside bool
		served          bool
	}{
		{"offered, telnet", server.Config{TLS: pair.Config(nil)}, false, false, true},
		{"offered, telnets", server.Config{TLS: pair.Config(nil)}, true, false, true},
		{"offered, inside telnet", server.Config{TLS: pair.Config(nil)}, false, true, true},
		{"required, telnet", server.Config{TLS: pair.Config(nil), RequireTLS: true}, false, false, false},
		{"required, telnets", server.Config{TLS: pair.Config(nil), RequireTLS: true}, true, false, true},
		{"required, inside telnet", server.Config{TLS: pair.Config(nil), RequireTLS: true}, false, true, true},
		{"off, telnets", server.Config{}, true, false, false},
		{"off, inside telnet", server.Config{}, false, true, true}, // the host goes on without
		{"clients with certificates, telnets", server.Config{TLS: pair.Config(roots), RequireTLS: true}, true, false, false},
		{"clients with certificates, inside telnet", server.Config{TLS: pair.Config(roots), RequireTLS: true}, false, true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.cfg.IdentifyTimeout = 3 * time.Second
			_, address, log := start(t, tc.cfg)
			var conn net.Conn = dial(t, address)
			host := vspc.HostConfig{Identity: vspc.Identity{Name: "web", VCUUID: webID}, ServiceURI: uri}
			if tc.telnets {
				conn = tls.Client(conn, trust)
			}
			if tc.inside {
				host.TLS = trust
			}
			h := vspc.NewHost(conn, host)
			defer h.Close()
			err := h.Handshake(t.Context())
			if tc.served != (err == nil) {
				t.Fatalf("handshake: %v; log:\n%s", err, log)
			}
			if !tc.served {
				return
			}
			if frame := ask(t, h, "!!REQUEST_METADATA#\n"); frame.Code != packet.ResponseMetaData {
				t.Errorf("%s %s", frame.Code, frame.Data)
			}
			move, err := h.Begin(t.Context(), []byte("seq1"))
			if err != nil {
				t.Fatal(err)
			}
			next := dial(t, address)
			if tc.telnets {
				next = tls.Client(next, trust)
			}
			target := vspc.NewTarget(next, host, move)
			defer target.Close()
			if err := target.Peer(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := target.Complete(); err != nil {
				t.Fatal(err)
			}
			if frame := ask(t, target, "!!REQUEST_USERDATA#\n"); frame.Code != packet.ResponseUserData {
				t.Errorf("%s %s", frame.Code, frame.Data)
			}
		})
	}
	if _, err := server.New(server.Config{RequireTLS: true}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("TLS is required without a certificate: %v", err)
	}
}

// TestAHostThatDoesNotTrustUsIsLogged has hosts with another thumbprint than the certificate's.
func TestAHostThatDoesNotTrustUsIsLogged(t *testing.T) {
	certificate, _ := tlstest.SelfSigned(t, "vspc.example.com")
	_, wary := tlstest.SelfSigned(t, "vspc.example.com")
	s, address, log := start(t, server.Config{TLS: certificate})
	inside := vspc.NewHost(dial(t, address), vspc.HostConfig{TLS: wary})
	defer inside.Close()
	if err := inside.Handshake(t.Context()); err == nil {
		t.Error("the host is content")
	}
	waitFor(t, func() bool {
		return strings.Contains(log.String(), `level=WARN msg="TLS failed" remote=`+inside.LocalAddr().String())
	})

	// One host's trouble keeps no other's out of the log.
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	conn, err := dialer.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Skipf("this machine has no second address for itself: %v", err)
	}
	around := tls.Client(conn, wary)
	defer around.Close()
	if err := around.HandshakeContext(t.Context()); err == nil {
		t.Error("the host is content")
	}
	waitFor(t, func() bool { return strings.Contains(log.String(), `level=WARN msg="TLS failed" remote=127.0.0.2:`) })
	if broken := s.Stats().Broken.Load(); broken != 2 {
		t.Errorf("%d are broken", broken)
	}
}

// TestAHostMayWaitForUsToSpeak has a host without TLS that says nothing on its own.
func TestAHostMayWaitForUsToSpeak(t *testing.T) {
	t.Parallel() // it takes the time that a client has to begin TLS
	certificate, _ := tlstest.SelfSigned(t, "vspc.example.com")
	_, address, log := start(t, server.Config{TLS: certificate})
	h := bootAs(t, address, vspc.HostConfig{
		Identity: vspc.Identity{Name: "web", VCUUID: webID}, ServiceURI: uri, Variant: vspc.HostVariant{NoAuthentication: true, WaitForDo: true},
	})
	if frame := ask(t, h, "!!REQUEST_METADATA#\n"); frame.Code != packet.ResponseMetaData {
		t.Errorf("%s %s; log:\n%s", frame.Code, frame.Data, log)
	}
}

// TestAClientWhoseTLSFailsIsClosed has one that begins TLS, and waits for the end of what it says next.
func TestAClientWhoseTLSFailsIsClosed(t *testing.T) {
	certificate, _ := tlstest.SelfSigned(t, "vspc.example.com")
	s, address, _ := start(t, server.Config{TLS: certificate})
	conn := talk(t, address, "\x16\x03\x01\x00\x04nope")
	closes(t, conn)
	waitFor(t, func() bool { return s.Stats().Broken.Load() == 1 })
	served(t, address)
}

// TestAResetBeforeTheFirstByte checks that a health check that resets its connection is no broken one where there is a
// certificate, as it is none where there is not.
func TestAResetBeforeTheFirstByte(t *testing.T) {
	certificate, _ := tlstest.SelfSigned(t, "vspc.example.com")
	for name, cfg := range map[string]server.Config{"with a certificate": {TLS: certificate}, "without": {}} {
		t.Run(name, func(t *testing.T) {
			s, address, log := start(t, cfg)
			conn := dial(t, address).(*net.TCPConn)
			conn.SetLinger(0)
			conn.Close()
			waitFor(t, func() bool { return strings.Contains(log.String(), "remote="+conn.LocalAddr().String()) })
			if broken := s.Stats().Broken.Load(); broken != 0 || !strings.Contains(log.String(), "level=DEBUG msg=\"connection ended\"") {
				t.Errorf("%d broken; log:\n%s", broken, log)
			}
		})
	}
}

// TestShutdownDoesNotWaitForWhoHasNotSpoken has clients that are silent, or stop in the middle of their first word.
func TestShutdownDoesNotWaitForWhoHasNotSpoken(t *testing.T) {
	certificate, trust := tlstest.SelfSigned(t, "vspc.example.com")
	for name, cfg := range map[string]server.Config{"with a certificate": {TLS: certificate}, "TLS required": {TLS: certificate, RequireTLS: true}, "without": {}} {
		t.Run(name, func(t *testing.T) {
			s, address, log := start(t, cfg)
			for _, word := range []string{"", "\x16", "\x16\x03\x01\x01\x00", "\xff", "\xff\xfb"} {
				if _, err := dial(t, address).Write([]byte(word)); err != nil {
					t.Fatal(err)
				}
			}
			// Connections are taken in their order: once this one is served, the others are held.
			var conn net.Conn = dial(t, address)
			if cfg.RequireTLS {
				conn = tls.Client(conn, trust)
			}
			h := vspc.NewHost(conn, vspc.HostConfig{Identity: vspc.Identity{Name: "web", VCUUID: webID}, ServiceURI: uri})
			defer h.Close()
			if err := h.Handshake(t.Context()); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if err := s.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > time.Second { // a silent client would have two
				t.Errorf("it took %v", took)
			}
			if broken := s.Stats().Broken.Load(); broken != 0 || strings.Contains(log.String(), "level=WARN") {
				t.Errorf("%d broken; log:\n%s", broken, log)
			}
		})
	}
}
