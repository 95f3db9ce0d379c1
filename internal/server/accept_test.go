package server

import (
	"crypto/tls"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"vmw-cloudinit-metadata/internal/tlstest"
	"vmw-cloudinit-metadata/metadata"
)

// TestAHostThatEncryptsHasMoreTime checks that a busy host's late first words are waited for, and no other's.
func TestAHostThatEncryptsHasMoreTime(t *testing.T) {
	serverTLS, clientTLS := tlstest.SelfSigned(t, "vspc.example.com")
	s, err := New(Config{TLS: serverTLS, Services: []Service{{URI: "x", Driver: metadata.DriverFunc(nil)}}})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(t.Context(), ln) }()
	address := netip.MustParseAddr("127.0.0.1")
	until := func(want time.Duration) {
		t.Helper()
		for start := time.Now(); s.patience(address) != want; runtime.Gosched() {
			if time.Since(start) > 20*time.Second {
				t.Fatalf("its first word is waited for for %v, want %v", s.patience(address), want)
			}
		}
	}
	until(sniffTimeout)
	conn, err := tls.Dial("tcp", ln.Addr().String(), clientTLS)
	if err != nil {
		t.Fatal(err)
	}
	until(sniffTimeoutTLS)
	if other := s.patience(netip.MustParseAddr("127.0.0.2")); other != sniffTimeout {
		t.Errorf("another host's is waited for for %v", other)
	}
	conn.Close()
	until(sniffTimeout)
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if len(s.perAddress) != 0 {
		t.Errorf("addresses without a connection are counted: %v", s.perAddress)
	}
}
