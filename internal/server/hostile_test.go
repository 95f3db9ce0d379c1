package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"vmw-cloudinit-metadata/internal/server"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/packet"
	"vmw-cloudinit-metadata/telnet"
	"vmw-cloudinit-metadata/vspc"
)

// served checks that the server still serves others.
func served(t *testing.T, address string) {
	t.Helper()
	h := bootAs(t, address, vspc.HostConfig{Identity: vspc.Identity{Name: "web", VCUUID: "99" + webID[2:]}, ServiceURI: uri})
	defer h.Close()
	if frame := ask(t, h, "!!REQUEST_METADATA#\n"); frame.Code != packet.ResponseMetaData {
		t.Errorf("another VM gets %s %s", frame.Code, frame.Data)
	}
}

// closes checks that the server ends a connection, whatever it says before.
func closes(t *testing.T, conn net.Conn) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err := io.Copy(io.Discard, conn)
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		t.Error("the connection is kept")
	}
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestWhatIsNoHostIsClosed(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	garbage := make([]byte, 300<<10)
	random.Read(garbage)
	agreed := telnet.AppendNegotiation(nil, telnet.WILL, vspc.Option)
	for name, says := range map[string][]byte{
		"nothing":                          nil,
		"garbage":                          garbage,
		"a web browser":                    []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"a TLS hello":                      {0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0},
		"data without end":                 bytes.Repeat([]byte("x"), 1<<20),
		"a subnegotiation without end":     append(agreed, append([]byte{255, 250, 232, 82}, bytes.Repeat([]byte("x"), 1<<20)...)...),
		"half a command":                   append(agreed, 255, 250),
		"a refusal of the option":          telnet.AppendNegotiation(nil, telnet.WONT, vspc.Option),
		"a command inside a command":       append(agreed, 255, 250, 232, 82, 255, 251, 1),
		"an end without a beginning":       append(agreed, 255, 240),
		"a command that can't be":          append(agreed, telnet.AppendSubnegotiation(nil, vspc.Option, []byte{70})...),
		"a name, and no more":              append(agreed, vspc.Append(nil, vspc.VMName{Name: "web"})...),
		"DO-PROXY, and no more":            append(agreed, vspc.Append(nil, vspc.DoProxy{Direction: vspc.Client, ServiceURI: uri})...),
		"requests, but no identity":        append(agreed, bytes.Repeat([]byte("!!REQUEST_METADATA#\n"), 10)...),
		"a start of TLS that nobody asked": append(agreed, telnet.AppendSubnegotiation(nil, telnet.Authentication, []byte{0, 7, 0, 1})...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, address, log := start(t, server.Config{IdentifyTimeout: 300 * time.Millisecond})
			conn := dial(t, address)
			conn.SetWriteDeadline(time.Now().Add(20 * time.Second))
			conn.Write(says) // the server may close before it has read all
			served(t, address)
			closes(t, conn)
			waitFor(t, func() bool { return s.Stats().Broken.Load() == 1 || strings.Contains(log.String(), "reset") })
			if s.Stats().Answers.Load() != 1 {
				t.Errorf("%d answers; the stranger got one", s.Stats().Answers.Load())
			}
		})
	}
}

func TestAHostThatNeverReadsIsClosed(t *testing.T) {
	_, address, _ := start(t, server.Config{})
	conn := dial(t, address)
	question := telnet.AppendNegotiation(nil, telnet.WILL, telnet.ComPort) // each is owed an answer
	flood := bytes.Repeat(question, 1<<20)
	conn.SetWriteDeadline(time.Now().Add(20 * time.Second))
	for range 100 {
		if _, err := conn.Write(flood); err != nil {
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
				t.Fatal("the server neither takes it nor closes the connection")
			}
			served(t, address)
			return
		}
	}
	t.Error("the server takes it all")
}

func TestLimitsOnConnections(t *testing.T) {
	for _, tc := range []struct {
		name    string
		cfg     server.Config
		allowed int // connections of three
		log     string
	}{
		{"in all", server.Config{MaxConnections: 2}, 2, "--max-connections allows"},
		{"from an address", server.Config{MaxPerAddress: 2}, 2, "--max-connections-per-address"},
		{"no bound for an address", server.Config{MaxPerAddress: -1}, 3, ""},
		{"from other networks", server.Config{Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("::1/128")}}, 0, "--allow"},
		{"from these networks", server.Config{Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("127.0.0.0/8")}}, 3, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, address, log := start(t, tc.cfg)
			var conns []net.Conn
			for range 3 {
				conns = append(conns, dial(t, address))
			}
			for i, conn := range conns {
				if i >= tc.allowed {
					closes(t, conn)
				}
			}
			waitFor(t, func() bool { return s.Stats().Rejected.Load() == int64(3-tc.allowed) })
			if !strings.Contains(log.String(), tc.log) {
				t.Errorf("the log does not say why:\n%s", log)
			}
			if tc.allowed == 0 {
				return
			}
			enters := func() (conn net.Conn, ok bool) {
				conn = dial(t, address)
				conn.SetReadDeadline(time.Now().Add(20 * time.Second))
				n, _ := conn.Read(make([]byte, 1))
				return conn, n == 1
			}
			room := func() (conn net.Conn) {
				waitFor(t, func() (ok bool) { conn, ok = enters(); return ok })
				return conn
			}
			conns[0].Close() // what is closed makes room, for one
			conns[0] = room()
			if _, ok := enters(); ok != (tc.allowed == 3) {
				t.Errorf("one connection was closed and one opened; another may come: %v", ok)
			}
			for _, conn := range conns { // and for all
				conn.Close()
			}
			for range tc.allowed {
				room()
			}
		})
	}
}

// breathless is a listener that at first has no file descriptors left.
type breathless struct {
	net.Listener
	failures atomic.Int32
}

func (b *breathless) Accept() (net.Conn, error) {
	if b.failures.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return b.Listener.Accept()
}

func TestAcceptingRecoversFromAShortage(t *testing.T) {
	s, _, log := start(t, server.Config{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &breathless{Listener: ln}
	b.failures.Store(3)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Serve(ctx, b) }()
	served(t, ln.Addr().String())
	if s.Stats().AcceptPauses.Load() != 3 || !strings.Contains(log.String(), "LimitNOFILE") {
		t.Errorf("%d pauses\n%s", s.Stats().AcceptPauses.Load(), log)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// doomed is a listener that fails for good, or gives a last connection out when it is closed.
type doomed struct {
	pipes
	err  error
	last net.Conn
}

func (d *doomed) Accept() (net.Conn, error) {
	if d.err != nil {
		return nil, d.err
	}
	<-d.closed
	if last := d.last; last != nil {
		d.last = nil
		return last, nil
	}
	return nil, net.ErrClosed
}

func TestServeEndsWithItsListener(t *testing.T) {
	s, address, _ := start(t, server.Config{})
	broken := &doomed{pipes: *newPipes(), err: errors.New("the network card is on fire")}
	if err := s.Serve(t.Context(), broken); !errors.Is(err, broken.err) {
		t.Errorf("Serve: %v, want the listener's error", err)
	}
	select {
	case <-broken.closed:
	default:
		t.Error("a listener that failed is left open")
	}
	served(t, address)
}

func TestNothingIsTakenInAShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := server.New(server.Config{Services: []server.Service{{URI: uri, Driver: metadata.DriverFunc(inventory)}}})
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		ln := &doomed{pipes: *newPipes(), last: theirs}
		ended := make(chan error, 1)
		go func() { ended <- s.Serve(t.Context(), ln) }()
		synctest.Wait()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if n, err := ours.Read(make([]byte, 1)); n > 0 || err != io.EOF {
			t.Errorf("a connection that came in the shutdown is read %d bytes of, %v; want its end", n, err)
		}
		late := newPipes()
		if err := s.Serve(t.Context(), late); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve after Shutdown: %v", err)
		}
		select {
		case <-late.closed:
		default:
			t.Error("its listener is left open")
		}
	})
}

// TestFilesAreLeftToDrivers has more hosts come than there is room for.
func TestFilesAreLeftToDrivers(t *testing.T) {
	s, address, log := start(t, server.Config{RestAt: 2})
	speaks := func(conn net.Conn) bool {
		conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		n, _ := conn.Read(make([]byte, 1))
		return n == 1
	}
	first, second := dial(t, address), dial(t, address)
	if !speaks(first) || !speaks(second) {
		t.Fatal("there is room for two")
	}
	third := dial(t, address)
	waitFor(t, func() bool { return s.Stats().AcceptPauses.Load() > 1 })
	if count := s.Stats().Rejected.Load(); count > 0 || !strings.Contains(log.String(), "LimitNOFILE") || !strings.Contains(log.String(), "kept for the driver") {
		t.Errorf("%d connections are closed\n%s", count, log)
	}
	first.Close()
	if !speaks(third) {
		t.Error("the third does not get the place of the first")
	}
}

// TestAGuestThatFloods checks that a guest that asks and never listens costs the driver one question at a time, hurts
// nobody else, and can still be migrated.
func TestAGuestThatFloods(t *testing.T) {
	var asked atomic.Int64
	big := &metadata.Instance{UserData: bytes.Repeat([]byte("x"), 1<<20)}
	driver := metadata.DriverFunc(func(_ context.Context, vm metadata.VM) (*metadata.Instance, error) {
		if vm.Name == "web" {
			return &metadata.Instance{}, nil
		}
		asked.Add(1)
		return big, nil
	})
	s, address, _ := start(t, server.Config{Services: []server.Service{{URI: uri, Driver: driver}}})
	conn := dial(t, address)
	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	h := vspc.NewHost(conn, vspc.HostConfig{Identity: vspc.Identity{Name: "flood", VCUUID: webID}, ServiceURI: uri})
	defer h.Close()
	if err := h.Handshake(t.Context()); err != nil {
		t.Fatal(err)
	}
	const requests = 4_000
	flood := bytes.Repeat([]byte("!!REQUEST_USERDATA#\n"), 1000)
	for range requests / 1000 {
		if _, err := h.Write(flood); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, func() bool { return s.Stats().Requests.Load() == requests })
	if asked.Load() > 2 {
		t.Errorf("the driver was asked %d times, and the guest has not had its first answer", asked.Load())
	}
	if s.Stats().Dropped.Load() == 0 {
		t.Error("nothing was dropped, so all is kept")
	}
	served(t, address)

	// The guest's host now reads, up to the consent to a migration.
	go io.Copy(io.Discard, h)
	if _, err := h.Begin(t.Context(), []byte("seq1")); err != nil {
		t.Errorf("the flood keeps the VM from migrating: %v", err)
	}
}

// TestAGuestThatNeverPauses checks that a guest has so many answers a second and no more, and that others do not wait
// for it.
func TestAGuestThatNeverPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := server.New(server.Config{Services: []server.Service{{URI: uri, Driver: metadata.DriverFunc(inventory)}}})
		if err != nil {
			t.Fatal(err)
		}
		ln := newPipes()
		go s.Serve(t.Context(), ln)
		boot := func(id string) *vspc.Host {
			h := vspc.NewHost(ln.dial(), vspc.HostConfig{Identity: vspc.Identity{Name: "web", VCUUID: id}, ServiceURI: uri})
			if err := h.Handshake(t.Context()); err != nil {
				t.Fatal(err)
			}
			return h
		}
		ask := func(h *vspc.Host) {
			if _, err := h.Write([]byte("!!REQUEST_METADATA#\n")); err != nil {
				t.Error(err)
			}
			if frame, err := packet.NewReader(h, 1<<20).ReadFrame(); err != nil || frame.Code != packet.ResponseMetaData {
				t.Errorf("%s, %v", frame.Code, err)
			}
		}
		eager, patient := boot(webID), boot("502e71fa-1a2b-4c3d-8e4f-0123456789ab")
		var answers int
		var asking sync.WaitGroup
		start := time.Now()
		asking.Go(func() {
			for ; time.Since(start) < 10*time.Second; answers++ {
				ask(eager)
			}
		})
		time.Sleep(5 * time.Second) // the clock is the bubble's
		before := time.Now()
		ask(patient)
		if waited := time.Since(before); waited != 0 {
			t.Errorf("another guest waited for %v", waited)
		}
		asking.Wait()
		if answers < 850 || answers > 950 {
			t.Errorf("%d answers in 10 s; want 50 a second, and 400 more", answers)
		}
		if s.Stats().Throttled.Load() == 0 {
			t.Error("that is not counted")
		}
		eager.Close()
		patient.Close()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestThrottling has a guest that asks without a pause, with so many requests under way all the time. What is in a request
// that has to wait outlives the buffer it came in, and takes no room once it is answered.
func TestThrottling(t *testing.T) {
	for _, atOnce := range []int{1, 5} {
		t.Run(strconv.Itoa(atOnce), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const requests, burst = 1000, 400
				s, ln := inBubble(t, server.Config{})
				h := vspc.NewHost(ln.dial(), vspc.HostConfig{Identity: vspc.Identity{Name: "web", VCUUID: webID}, ServiceURI: uri})
				if err := h.Handshake(t.Context()); err != nil {
					t.Fatal(err)
				}
				write := func(p []byte) {
					if _, err := h.Write(p); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				ask := func(i int) {
					report := packet.Report{BootID: "b", Stage: "seed"}
					if i > burst { // all before has to fit into what a connection may send at once
						report.InstanceID = strings.Repeat("i", 200)
					}
					write(packet.AppendFrame(nil, packet.RequestReport, report.Append(nil)))
					if i > burst && i%10 == 0 {
						write(append(bytes.Repeat([]byte("x"), 500), '\n'))
					}
				}
				start, answers := time.Now(), packet.NewReader(h, 1<<20)
				for i := range atOnce {
					ask(i)
				}
				for i := range requests {
					if frame, err := answers.ReadFrame(); err != nil || frame.Code != packet.ResponseReport {
						t.Fatalf("answer %d: %s %s, %v", i, frame.Code, frame.Data, err)
					}
					synctest.Wait() // the server knows that it is out
					if i+atOnce < requests {
						ask(i + atOnce)
					}
				}
				if took, want := time.Since(start), (requests-burst)*time.Second/50; took != want {
					t.Errorf("it took %v; want nothing for %d, and %v for the rest", took, burst, want)
				}
				if dropped := s.Stats().Dropped.Load(); dropped != 0 {
					t.Errorf("%d were dropped", dropped)
				}
				h.Close()
			})
		})
	}
}

// TestNoiseIsReadWithRests has a guest whose console goes to the port: it must not take the processor from others.
func TestNoiseIsReadWithRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ln := inBubble(t, server.Config{})
		h := vspc.NewHost(ln.dial(), vspc.HostConfig{Identity: vspc.Identity{Name: "web", VCUUID: webID}, ServiceURI: uri})
		defer h.Close()
		if err := h.Handshake(t.Context()); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for range 256 {
			if _, err := h.Write(append(bytes.Repeat([]byte("x"), 1023), '\n')); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took < time.Second { // the clock is the bubble's
			t.Errorf("256 KiB were read in %v", took)
		}
		time.Sleep(time.Second) // the last rest
	})
}

// TestAPortMayCloseWhileItsGuestIsThrottled has a request whose turn comes when nobody is there any more.
func TestAPortMayCloseWhileItsGuestIsThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ln := inBubble(t, server.Config{})
		h := vspc.NewHost(ln.dial(), vspc.HostConfig{Identity: vspc.Identity{Name: "web", VCUUID: webID}, ServiceURI: uri})
		if err := h.Handshake(t.Context()); err != nil {
			t.Fatal(err)
		}
		answers := packet.NewReader(h, 1<<20)
		for s.Stats().Throttled.Load() == 0 {
			if _, err := h.Write([]byte("!!REQUEST_METADATA#\n")); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if s.Stats().Throttled.Load() == 0 {
				if _, err := answers.ReadFrame(); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
		}
		answered := s.Stats().Answers.Load()
		h.Close()
		time.Sleep(time.Minute) // the clock is the bubble's
		if now := s.Stats().Answers.Load(); now != answered || s.Stats().Ports.Load() != 0 {
			t.Errorf("%d answers after the port was closed; %d ports", now-answered, s.Stats().Ports.Load())
		}
	})
}

// inBubble runs a server for connections in memory until the end of a bubble.
func inBubble(t *testing.T, cfg server.Config) (*server.Server, *pipes) {
	t.Helper()
	if cfg.Services == nil {
		cfg.Services = []server.Service{{URI: uri, Driver: metadata.DriverFunc(inventory)}}
	}
	s, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln := newPipes()
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), ln) }()
	t.Cleanup(func() {
		if err := errors.Join(s.Shutdown(context.Background()), <-served); err != nil {
			t.Error(err)
		}
	})
	return s, ln
}

// TestAGuestThatBeginsAgainAndAgain says another thing of itself each time, so that all has to be compressed anew.
func TestAGuestThatBeginsAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		driver := metadata.DriverFunc(func(context.Context, metadata.VM) (*metadata.Instance, error) {
			return &metadata.Instance{UserData: bytes.Repeat([]byte("x"), 1<<20)}, nil
		})
		s, err := server.New(server.Config{Services: []server.Service{{URI: uri, Driver: driver}}})
		if err != nil {
			t.Fatal(err)
		}
		ln := newPipes()
		go s.Serve(t.Context(), ln)
		h := vspc.NewHost(ln.dial(), vspc.HostConfig{Identity: vspc.Identity{Name: "web", VCUUID: webID}, ServiceURI: uri})
		if err := h.Handshake(t.Context()); err != nil {
			t.Fatal(err)
		}
		begin := func(i int) packet.Frame {
			hello := &packet.Hello{Versions: []int{2}, Agent: "test/1", Nonce: strconv.Itoa(i), Encodings: []string{packet.Gzip},
				NICs: []packet.NIC{{Name: "eth" + strconv.Itoa(i), MAC: "00:50:56:00:00:01"}}}
			if _, err := h.Write(packet.AppendFrame(nil, packet.RequestHello, hello.Append(nil))); err != nil {
				t.Fatal(err)
			}
			frame, err := packet.NewReader(h, 1<<20).ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			return frame
		}
		offers := 0
		for i := range 60 {
			frame := begin(i)
			if frame.Code == packet.ResponseHello {
				offers++
			} else if !strings.Contains(string(frame.Data), `"unavailable"`) {
				t.Fatalf("%s %s", frame.Code, frame.Data)
			}
		}
		if offers < 30 || offers > 40 {
			t.Errorf("%d times 1 MiB was prepared at once; want 32 MiB or little more", offers)
		}
		time.Sleep(10 * time.Second) // the clock is the bubble's
		if frame := begin(61); frame.Code != packet.ResponseHello {
			t.Errorf("%s %s after a while", frame.Code, frame.Data)
		}
		h.Close()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestAHangingDriverDelaysNobody(t *testing.T) {
	release := make(chan struct{})
	driver := metadata.DriverFunc(func(_ context.Context, vm metadata.VM) (*metadata.Instance, error) {
		if vm.Name == "hangs" {
			<-release // it does not even look at ctx
		}
		return &metadata.Instance{}, nil
	})
	_, address, _ := start(t, server.Config{Services: []server.Service{{URI: uri, Driver: driver}}})
	defer close(release)
	h := boot(t, address, "hangs")
	if _, err := h.Write([]byte("!!REQUEST_METADATA#\n")); err != nil {
		t.Fatal(err)
	}
	served(t, address)
	move, err := h.Begin(t.Context(), []byte("seq1"))
	if err != nil {
		t.Fatalf("BEGIN: %v", err)
	}
	target := vspc.NewTarget(dial(t, address), vspc.HostConfig{}, move)
	if err := target.Peer(t.Context()); err != nil {
		t.Fatalf("PEER: %v", err)
	}
	if err := target.Complete(); err != nil {
		t.Fatal(err)
	}
	release <- struct{}{}
	if frame := answer(t, target); frame.Code != packet.ResponseMetaData {
		t.Errorf("the target gets %s %s", frame.Code, frame.Data)
	}
}

func TestShutdownFinishesAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, release := make(chan struct{}), make(chan struct{})
		driver := metadata.DriverFunc(func(context.Context, metadata.VM) (*metadata.Instance, error) {
			close(asked)
			<-release
			return &metadata.Instance{}, nil
		})
		s, err := server.New(server.Config{Services: []server.Service{{URI: uri, Driver: driver}}})
		if err != nil {
			t.Fatal(err)
		}
		ln := newPipes()
		served := make(chan error, 1)
		go func() { served <- s.Serve(t.Context(), ln) }()
		h := vspc.NewHost(ln.dial(), vspc.HostConfig{Identity: vspc.Identity{Name: "web", VCUUID: webID}, ServiceURI: uri})
		if err := h.Handshake(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.Write([]byte("!!REQUEST_METADATA#\n"))
		<-asked
		down := make(chan error, 1)
		go func() { down <- s.Shutdown(t.Context()) }()
		synctest.Wait()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if _, err := h.Begin(t.Context(), []byte("seq1")); !errors.Is(err, vspc.ErrNotNow) {
			t.Errorf("a VM may begin to move, and no target can come: %v", err)
		}
		close(release)
		frame, err := packet.NewReader(h, 1<<20).ReadFrame()
		if err != nil || frame.Code != packet.ResponseMetaData {
			t.Errorf("%s, %v", frame.Code, err)
		}
		if err := <-down; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		h.Close()
	})
}

func TestShutdownHasALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		driver := metadata.DriverFunc(func(ctx context.Context, _ metadata.VM) (*metadata.Instance, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		s, err := server.New(server.Config{Services: []server.Service{{URI: uri, Driver: driver}}, RequestTimeout: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		ln := newPipes()
		go s.Serve(t.Context(), ln)
		h := vspc.NewHost(ln.dial(), vspc.HostConfig{Identity: vspc.Identity{Name: "web", VCUUID: webID}, ServiceURI: uri})
		if err := h.Handshake(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.Write([]byte("!!REQUEST_METADATA#\n"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v", err)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("it took %v", took)
		}
		h.Close()
	})
}

// pipes is a listener whose connections are in memory.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	wrap   func(net.Conn) net.Conn // what the server gets; nil means as it is
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	if p.wrap != nil {
		theirs = p.wrap(theirs)
	}
	p.conns <- theirs
	return ours
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func TestServicesCanBeReplaced(t *testing.T) {
	named := func(hostname string) metadata.Driver {
		return metadata.DriverFunc(func(context.Context, metadata.VM) (*metadata.Instance, error) {
			return &metadata.Instance{MetaData: map[string]any{"hostname": hostname}}, nil
		})
	}
	s, address, _ := start(t, server.Config{Services: []server.Service{{URI: uri, Driver: named("old")}, {URI: "other", Driver: named("other")}}})
	h := boot(t, address, "web")
	hears := func(h *vspc.Host, want string) {
		t.Helper()
		if frame := ask(t, h, "!!REQUEST_METADATA#\n"); !strings.Contains(string(frame.Data), want) {
			t.Errorf("%s %s, want %s", frame.Code, frame.Data, want)
		}
	}
	hears(h, `"hostname": "old"`)
	hears(bootAs(t, address, vspc.HostConfig{Identity: vspc.Identity{Name: "web", VCUUID: webID}, ServiceURI: "other"}), `"hostname": "other"`)
	for _, bad := range [][]server.Service{nil, {{URI: uri}}, {{Driver: named("x")}}, {{URI: "a?b", Driver: named("x")}}, {{URI: uri, Driver: named("x")}, {URI: uri, Driver: named("y")}}} {
		if err := s.SetServices(bad); err == nil {
			t.Errorf("SetServices(%v) is taken", bad)
		}
	}
	hears(h, `"hostname": "old"`)
	if err := s.SetServices([]server.Service{{URI: uri, Driver: named("new")}}); err != nil {
		t.Fatal(err)
	}
	hears(h, `"hostname": "new"`)
	if err := s.SetServices([]server.Service{{URI: "yet another", Driver: named("new")}}); err != nil {
		t.Fatal(err)
	}
	hears(h, `"not-found"`)
}
