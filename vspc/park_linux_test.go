package vspc

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"vmw-cloudinit-metadata/internal/tlstest"
)

// lot is a port on a real connection, which can be parked.
type lot struct {
	t            *testing.T
	concentrator *Concentrator
	host         *Host
	session      *Session
	heard        chan string
	done         chan error
	poll         *poller
}

type hears chan string

func (h hears) Receive(p []byte) { h <- string(p) }
func (hears) Closed(error)       {}

// ways are those in which a host may speak with us.
func ways() []string { return []string{plain, telnets, inBand} }

const (
	plain   = "telnet"
	telnets = "telnets"
	inBand  = "TLS inside telnet"
)

func newLot(t *testing.T, way string) *lot {
	t.Helper()
	l := &lot{t: t, heard: make(chan string, 10), done: make(chan error, 1)}
	opened := make(chan *Session, 1)
	config := Config{Open: func(s *Session) Receiver {
		opened <- s
		return hears(l.heard)
	}}
	hostConfig := HostConfig{Identity: Identity{Name: "web", VCUUID: "502e71fa-1a2b-4c3d-8e4f-000000000001"}}
	serverTLS, clientTLS := tlstest.SelfSigned(t, "vspc.example.com")
	if way == inBand {
		config.TLS, hostConfig.TLS = serverTLS, clientTLS
	}
	l.concentrator = NewConcentrator(config)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ours, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if way == telnets {
		ours, conn = tls.Server(ours, serverTLS), tls.Client(conn, clientTLS)
	}
	l.concentrator.Start(ours, func(err error) { l.done <- err })
	l.poll = l.concentrator.keeper.poll
	l.host = NewHost(conn, hostConfig)
	t.Cleanup(func() { l.host.Close() })
	if err := l.host.Handshake(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.session = <-opened
	return l
}

// until waits for something that other goroutines do.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for start := time.Now(); !done(); runtime.Gosched() {
		if time.Since(start) > 20*time.Second {
			t.Fatalf("not %s", what)
		}
	}
}

func (l *lot) isParked() bool {
	k := &l.concentrator.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.parked) == 1
}

// park is what happens after some silence.
func (l *lot) park() {
	l.t.Helper()
	until(l.t, "parked", func() bool {
		l.concentrator.keeper.sweep()
		return l.isParked()
	})
}

// ends waits for the connection's end, and for the keeper's.
func (l *lot) ends(want error) {
	l.t.Helper()
	if err := <-l.done; !errors.Is(err, want) {
		l.t.Errorf("the connection ended with %v, want %v", err, want)
	}
	if l.concentrator.keeper.poll != nil {
		l.t.Error("the keeper outlives its last link")
	}
	if l.poll.file.SetReadDeadline(time.Time{}) == nil {
		l.t.Error("the keeper leaves its poller open")
	}
}

func TestAParkedPortWorks(t *testing.T) {
	for _, way := range ways() {
		t.Run(way, func(t *testing.T) { aParkedPortWorks(t, newLot(t, way)) })
	}
}

func aParkedPortWorks(t *testing.T, l *lot) {
	for range 3 {
		l.park()
		if _, err := l.host.Write([]byte("wake")); err != nil {
			t.Fatal(err)
		}
		if got := <-l.heard; got != "wake" {
			t.Fatalf("the guest said wake, and %q arrived", got)
		}
		if l.isParked() {
			t.Fatal("parked with data to read")
		}
	}

	l.park()
	answer := make([]byte, 6)
	if _, err := l.session.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(l.host, answer); err != nil || string(answer) != "answer" {
		t.Fatalf("the guest reads %q, %v", answer, err)
	}
	if !l.isParked() {
		t.Error("an answer to the guest wakes the goroutine that reads")
	}

	if _, err := l.host.Begin(t.Context(), []byte("seq1")); err != nil {
		t.Errorf("a parked port is to move: %v", err)
	}
	l.park()
	if err := l.host.Abort(); err != nil {
		t.Fatal(err)
	}
	l.park()
	l.host.Close()
	l.ends(io.EOF)
}

func TestAParkedPortEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(l *lot)
		want error
	}{
		"by its session": {func(l *lot) { l.session.Close() }, ErrClosed},
		"by a shutdown": {func(l *lot) {
			if err := l.concentrator.Shutdown(context.Background()); err != nil {
				l.t.Error(err)
			}
		}, ErrClosed},
	} {
		for _, way := range ways() {
			t.Run(name+", "+way, func(t *testing.T) {
				l := newLot(t, way)
				l.park()
				c.end(l)
				l.ends(c.want)
				refused := make(chan error, 1)
				if name == "by a shutdown" {
					ours, theirs := net.Pipe()
					defer theirs.Close()
					l.concentrator.Start(ours, func(err error) { refused <- err })
					if err := <-refused; !errors.Is(err, ErrClosed) {
						t.Errorf("Start after Shutdown ends with %v", err)
					}
				}
			})
		}
	}
}

func TestABusyPortIsNotParked(t *testing.T) {
	l := newLot(t, plain)
	l.park()
	for range 50 { // something comes between any two sweeps
		if _, err := l.host.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		<-l.heard
		l.concentrator.keeper.sweep()
		if l.isParked() {
			t.Fatal("parked, and something came since the last sweep")
		}
	}
	l.host.Close()
	l.ends(io.EOF)
}
