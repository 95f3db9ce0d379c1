package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"vmw-cloudinit-metadata/internal/server"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/packet"
	"vmw-cloudinit-metadata/vspc"
)

// TestShutdownWhileGuestsAsk has guests that never stop asking.
func TestShutdownWhileGuestsAsk(t *testing.T) {
	for range 5 {
		synctest.Test(t, func(t *testing.T) {
			driver := metadata.DriverFunc(func(context.Context, metadata.VM) (*metadata.Instance, error) {
				time.Sleep(time.Millisecond)
				return &metadata.Instance{}, nil
			})
			s, err := server.New(server.Config{Services: []server.Service{{URI: uri, Driver: driver}}})
			if err != nil {
				t.Fatal(err)
			}
			ln := newPipes()
			go s.Serve(t.Context(), ln)
			var guests sync.WaitGroup
			for i := range 4 {
				h := vspc.NewHost(ln.dial(), vspc.HostConfig{Identity: vspc.Identity{Name: fmt.Sprint("web", i)}, ServiceURI: uri})
				if err := h.Handshake(t.Context()); err != nil {
					t.Fatal(err)
				}
				guests.Go(func() {
					frames := packet.NewReader(h, 1<<20)
					for range 4 {
						h.Write([]byte("!!REQUEST_METADATA#\n"))
					}
					for {
						h.Write([]byte("!!REQUEST_METADATA#\n"))
						if _, err := frames.ReadFrame(); err != nil {
							h.Close()
							return
						}
					}
				})
			}
			time.Sleep(100 * time.Millisecond)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := s.Shutdown(ctx); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			guests.Wait()
		})
	}
}

// TestALogIsNotFlooded counts the lines that hosts and guests can provoke.
func TestALogIsNotFlooded(t *testing.T) {
	for name, tc := range map[string]struct {
		play func(t *testing.T, h *vspc.Host)
		line string
		most int
	}{
		"names": {func(t *testing.T, h *vspc.Host) {
			for i := range 500 {
				if err := h.Send(vspc.VMName{Name: fmt.Sprint("name", i)}); err != nil {
					t.Fatal(err)
				}
			}
		}, "port renamed", 1},
		"migrations": {func(t *testing.T, h *vspc.Host) {
			for range 500 {
				if err := h.Send(vspc.VMotionBegin{Sequence: []byte{1}}, vspc.VMotionAbort{}); err != nil {
					t.Fatal(err)
				}
			}
		}, "vMotion aborted", 1},
		"requests of a VM that is renamed": {func(t *testing.T, h *vspc.Host) {
			for i := range 100 {
				if err := h.Send(vspc.VMName{Name: fmt.Sprint("name", i)}); err != nil {
					t.Fatal(err)
				}
				ask(t, h, "!!REQUEST_METADATA#\n")
			}
		}, "code=not-found", 1},
	} {
		t.Run(name, func(t *testing.T) {
			_, address, log := start(t, server.Config{})
			h := boot(t, address, "web")
			tc.play(t, h)
			if frame := ask(t, h, "!!REQUEST_NONSENSE#\n"); frame.Code != packet.ResponseError {
				t.Errorf("%s", frame.Code)
			}
			if got := strings.Count(log.String(), tc.line); got < 1 || got > tc.most {
				t.Errorf("%d lines of %q", got, tc.line)
			}
		})
	}
}

// TestALineKeepsNoOtherBack has two lines within ten seconds that are not of one kind, or not about one VM.
func TestALineKeepsNoOtherBack(t *testing.T) {
	for name, tc := range map[string]struct {
		play  func(t *testing.T, address string, log *lines)
		lines []string
	}{
		"noise ahead of a request for wrong data": {func(t *testing.T, address string, _ *lines) {
			h := boot(t, address, "wrong")
			ask(t, h, "!!REQUEST_META\n")
			ask(t, h, "!!REQUEST_METADATA#\n")
		}, []string{"code=bad-request", "wrong.yaml:3:5"}},
		"a host that just leaves ahead of one that says nonsense": {func(t *testing.T, address string, log *lines) {
			dial(t, address).Close()
			waitFor(t, func() bool { return strings.Contains(log.String(), "connection ended") })
			closes(t, talk(t, address, "\xff\xf0"))
		}, []string{"level=DEBUG msg=\"connection ended\"", "level=WARN msg=\"connection ended\""}},
		"an open port that ends": {func(t *testing.T, address string, _ *lines) {
			h := boot(t, address, "web")
			ask(t, h, "!!REQUEST_METADATA#\n")
			if err := h.Send(vspc.VMVCUUID{Text: "99" + webID[2:]}); err != nil {
				t.Fatal(err)
			}
		}, []string{`level=WARN msg="connection ended"`, `level=WARN msg="port closed" vm.name=web vm.uuid=` + webID}},
		"two guests that do not wait": {func(t *testing.T, address string, log *lines) {
			for i := range 2 {
				h := bootAs(t, address, vspc.HostConfig{Identity: vspc.Identity{Name: "hangs", VCUUID: fmt.Sprint(i) + webID[1:]}, ServiceURI: uri})
				if _, err := h.Write(bytes.Repeat([]byte("!!REQUEST_METADATA#\n"), 20)); err != nil {
					t.Fatal(err)
				}
				waitFor(t, func() bool { return strings.Count(log.String(), "does not wait for its answers") > 0 })
			}
		}, []string{"does not wait for its answers; some of its requests are dropped\" vm.name=hangs vm.uuid=0", "are dropped\" vm.name=hangs vm.uuid=1"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, address, log := start(t, server.Config{RequestTimeout: time.Second})
			tc.play(t, address, log)
			for _, line := range tc.lines {
				for start := time.Now(); !strings.Contains(log.String(), line); runtime.Gosched() {
					if time.Since(start) > 5*time.Second {
						t.Fatalf("no line with %s:\n%s", line, log)
					}
				}
			}
		})
	}
}

// talk connects and says something.
func talk(t *testing.T, address, text string) net.Conn {
	t.Helper()
	conn := dial(t, address)
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// from is a connection of an address.
type from struct {
	net.Conn
	address string
}

func (f from) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(f.address), Port: 1} }

// TestEachAddressThatIsRefusedIsLogged has somebody who is refused all the time, and a host that is refused once.
func TestEachAddressThatIsRefusedIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(lines)
		s, err := server.New(server.Config{
			Services: []server.Service{{URI: uri, Driver: metadata.DriverFunc(inventory)}},
			Allow:    []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
			Logger:   slog.New(slog.NewTextHandler(log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		ln := newPipes()
		go s.Serve(t.Context(), ln)
		for _, address := range []string{"198.51.100.1", "198.51.100.1", "198.51.100.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"} {
			ours, theirs := net.Pipe()
			ln.conns <- from{theirs, address}
			if _, err := ours.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("%s: %v", address, err)
			}
		}
		for address, want := range map[string]int{"198.51.100.1": 1, "198.51.100.2": 1, "[2001:db8::1]": 1, "[2001:db8::2]": 0, "[2001:db8:0:1::1]": 1} {
			if got := strings.Count(log.String(), "remote="+address+":1"); got != want {
				t.Errorf("%d lines about %s, want %d\n%s", got, address, want, log)
			}
		}
		s.Shutdown(t.Context())
	})
}

// TestAMigrationThatEndsBreaksNothing counts a migration that fails, and looks how its target is seen to end.
func TestAMigrationThatEndsBreaksNothing(t *testing.T) {
	s, address, log := start(t, server.Config{})
	h := boot(t, address, "web")
	move, err := h.Begin(t.Context(), []byte("seq1"))
	if err != nil {
		t.Fatal(err)
	}
	target := vspc.NewTarget(dial(t, address), vspc.HostConfig{}, move)
	defer target.Close()
	if err := target.Peer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.Send(vspc.VMotionAbort{}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		return strings.Contains(log.String(), "connection ended") && strings.Contains(log.String(), "vMotion aborted")
	})
	if s.Stats().Broken.Load() != 0 || s.Stats().MovesFailed.Load() != 1 {
		t.Errorf("%d broken, %d failed:\n%s", s.Stats().Broken.Load(), s.Stats().MovesFailed.Load(), log)
	}
	again := boot(t, address, "web") // the port comes anew
	defer again.Close()
	waitFor(t, func() bool { return strings.Contains(log.String(), `msg="port replaced"`) })
	if !strings.Contains(log.String(), "former=127.0.0.1:") {
		t.Errorf("the log does not say where the port was:\n%s", log)
	}
}

func TestADocumentThatIsTooLarge(t *testing.T) {
	driver := metadata.DriverFunc(func(context.Context, metadata.VM) (*metadata.Instance, error) {
		return &metadata.Instance{UserData: bytes.Repeat([]byte("secret\n"), packet.MaxDocument/7+1)}, nil
	})
	_, address, log := start(t, server.Config{Services: []server.Service{{URI: uri, Driver: driver}}})
	h := boot(t, address, "web")
	for _, request := range []packet.Code{packet.RequestHello, packet.RequestUserData} {
		frame := ask(t, h, string(packet.AppendFrame(nil, request, (&packet.Hello{Versions: []int{2}, Nonce: "n"}).Append(nil))))
		refused, err := packet.ParseError(frame.Data)
		if frame.Code != packet.ResponseError || err != nil || refused.Code != packet.Invalid {
			t.Errorf("%s is answered by %s, %v, %v", request, frame.Code, refused, err)
		}
	}
	if !strings.Contains(log.String(), "user-data") || strings.Contains(log.String(), "secret") {
		t.Errorf("the log:\n%s", log)
	}
}

// TestAnOfferKeepsNoInstance has a driver whose instances are its own to keep: an offer holds what the guest fetches, and
// that is all that is counted for it.
func TestAnOfferKeepsNoInstance(t *testing.T) {
	var mu sync.Mutex
	var found []weak.Pointer[metadata.Instance]
	driver := metadata.DriverFunc(func(context.Context, metadata.VM) (*metadata.Instance, error) {
		instance := &metadata.Instance{UserData: bytes.Repeat([]byte("x"), 1<<20)}
		mu.Lock()
		defer mu.Unlock()
		found = append(found, weak.Make(instance))
		return instance, nil
	})
	_, address, _ := start(t, server.Config{Services: []server.Service{{URI: uri, Driver: driver}}})
	h := boot(t, address, "web")
	hello := packet.Hello{Versions: []int{2}, Encodings: []string{packet.Gzip}, Nonce: "n"}
	if frame := ask(t, h, string(packet.AppendFrame(nil, packet.RequestHello, hello.Append(nil)))); frame.Code != packet.ResponseHello {
		t.Fatalf("%s %s", frame.Code, frame.Data)
	}
	waitFor(t, func() bool {
		runtime.GC()
		mu.Lock()
		defer mu.Unlock()
		return len(found) == 1 && found[0].Value() == nil
	})
}

// TestWaitingRequestsAreBounded has requests wait that carry much, twice.
func TestWaitingRequestsAreBounded(t *testing.T) {
	release := make(chan struct{})
	driver := metadata.DriverFunc(func(context.Context, metadata.VM) (*metadata.Instance, error) {
		<-release
		return &metadata.Instance{}, nil
	})
	s, address, _ := start(t, server.Config{Services: []server.Service{{URI: uri, Driver: driver}}})
	h := boot(t, address, "web")
	large := packet.AppendFrame(nil, packet.RequestReport, make([]byte, 30<<10))
	for round := range int64(2) {
		// The first is being answered, two wait, and the fourth is one too many.
		for _, line := range [][]byte{[]byte("!!REQUEST_METADATA#\n"), large, large, large} {
			if _, err := h.Write(line); err != nil {
				t.Fatal(err)
			}
		}
		waitFor(t, func() bool { return s.Stats().Requests.Load() == 4*(round+1) })
		if got := s.Stats().Dropped.Load(); got != round+1 {
			t.Errorf("%d are dropped", got)
		}
		release <- struct{}{}
		h.SetReadDeadline(time.Now().Add(20 * time.Second))
		answers := packet.NewReader(h, 1<<20)
		for _, code := range []packet.Code{packet.ResponseMetaData, packet.ResponseError, packet.ResponseError} {
			if frame, err := answers.ReadFrame(); err != nil || frame.Code != code {
				t.Fatalf("%s, %v", frame.Code, err)
			}
		}
	}
}

// TestWaitingRequestsKeepTheirData has requests wait while others are read, into the same buffers.
func TestWaitingRequestsKeepTheirData(t *testing.T) {
	release := make(chan struct{})
	driver := metadata.DriverFunc(func(context.Context, metadata.VM) (*metadata.Instance, error) {
		<-release
		return &metadata.Instance{}, nil
	})
	s, address, _ := start(t, server.Config{Services: []server.Service{{URI: uri, Driver: driver}}})
	defer close(release)
	h := boot(t, address, "web")
	for i := range 8 {
		hello := packet.Hello{Versions: []int{2}, Nonce: fmt.Sprint("nonce ", i)}
		if _, err := h.Write(packet.AppendFrame(nil, packet.RequestHello, hello.Append(nil))); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { return s.Stats().Requests.Load() == int64(i+1) })
	}
	h.SetReadDeadline(time.Now().Add(20 * time.Second))
	answers := packet.NewReader(h, 1<<20)
	for i := range 8 {
		release <- struct{}{}
		frame, err := answers.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if reply, err := packet.ParseHelloReply(frame.Data); err != nil || reply.Nonce != fmt.Sprint("nonce ", i) {
			t.Errorf("answer %d: %v, %v", i, reply, err)
		}
	}
}

// TestEachHelloCounts has a guest that says other things of itself each time.
func TestEachHelloCounts(t *testing.T) {
	driver := metadata.DriverFunc(func(context.Context, metadata.VM) (*metadata.Instance, error) {
		return &metadata.Instance{Network: map[string]any{"address": "192.0.2.10/24"}, UserData: bytes.Repeat([]byte("x"), 1<<10)}, nil
	})
	_, address, _ := start(t, server.Config{Services: []server.Service{{URI: uri, Driver: driver}}})
	h := boot(t, address, "web")
	generations := map[string]string{}
	for _, hello := range []packet.Hello{
		{Nonce: "1", Encodings: []string{packet.Gzip}, NICs: []packet.NIC{{Name: "ens192", MAC: "00:50:56:00:00:01"}}},
		{Nonce: "2", NICs: []packet.NIC{{Name: "ens192", MAC: "00:50:56:00:00:01"}}},
		{Nonce: "3", Encodings: []string{packet.Gzip}, NICs: []packet.NIC{{Name: "ens192", MAC: "00:50:56:00:00:02"}}},
		{Nonce: "4", Encodings: []string{packet.Gzip}},
	} {
		hello.Versions = []int{2}
		frame := ask(t, h, string(packet.AppendFrame(nil, packet.RequestHello, hello.Append(nil))))
		reply, err := packet.ParseHelloReply(frame.Data)
		if err != nil {
			t.Fatal(err)
		}
		if encoded := reply.Documents[packet.UserData].Encoding == packet.Gzip; encoded != (len(hello.Encodings) > 0) {
			t.Errorf("hello %s: user-data is encoded: %v", hello.Nonce, encoded)
		}
		if former := generations[reply.Generation]; former != "" {
			t.Errorf("hello %s brings what hello %s did", hello.Nonce, former)
		}
		generations[reply.Generation] = hello.Nonce
		request := packet.ChunkRequest{Generation: reply.Generation, Document: packet.NetworkConfig, Length: 1000}
		frame = ask(t, h, string(packet.AppendFrame(nil, packet.RequestChunk, request.Append(nil))))
		if frame.Code != packet.ResponseChunk {
			t.Errorf("hello %s: %s %s", hello.Nonce, frame.Code, frame.Data)
		}
	}
}

// TestDefaults has a server whose Config says nothing of limits.
func TestDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ln := inBubble(t, server.Config{})
		h := vspc.NewHost(ln.dial(), vspc.HostConfig{Identity: vspc.Identity{Name: "hangs"}, ServiceURI: uri})
		defer h.Close()
		if err := h.Handshake(t.Context()); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := h.Write([]byte("!!REQUEST_METADATA#\n")); err != nil {
			t.Fatal(err)
		}
		if frame, err := packet.NewReader(h, 0).ReadFrame(); err != nil || !strings.Contains(string(frame.Data), `"unavailable"`) || time.Since(start) != server.DefaultRequestTimeout {
			t.Errorf("a driver that hangs: %s %s, %v after %v", frame.Code, frame.Data, err, time.Since(start))
		}
		for range server.DefaultMaxPerAddress - 1 {
			defer ln.dial().Close()
		}
		synctest.Wait()
		if rejected := s.Stats().Rejected.Load(); rejected != 0 {
			t.Errorf("%d of %d connections are rejected", rejected, server.DefaultMaxPerAddress)
		}
		if n, err := ln.dial().Read(make([]byte, 1)); n > 0 || err != io.EOF || s.Stats().Rejected.Load() != 1 {
			t.Errorf("one more is read %d bytes of, %v", n, err)
		}
	})
}

// zoned is a connection from a link-local address.
type zoned struct{ net.Conn }

func (zoned) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0", Port: 1}
}

func TestAllowTakesAddressesWithAZone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := server.New(server.Config{
			Services: []server.Service{{URI: uri, Driver: metadata.DriverFunc(inventory)}},
			Allow:    []netip.Prefix{netip.MustParsePrefix("fe80::/10")},
		})
		if err != nil {
			t.Fatal(err)
		}
		ln := newPipes()
		ln.wrap = func(c net.Conn) net.Conn { return zoned{c} }
		go s.Serve(t.Context(), ln)
		h := vspc.NewHost(ln.dial(), vspc.HostConfig{Identity: vspc.Identity{Name: "web"}, ServiceURI: uri})
		if err := h.Handshake(t.Context()); err != nil {
			t.Error(err)
		}
		h.Close()
		s.Shutdown(t.Context())
	})
}

// forgetful is a driver that can't recall.
type forgetful struct{ metadata.Driver }

func (forgetful) Recall(metadata.VM) metadata.Recollection { panic("driver bug") }

func TestADriverThatPanicsWhenItRecalls(t *testing.T) {
	driver := forgetful{metadata.DriverFunc(inventory)}
	_, address, _ := start(t, server.Config{Services: []server.Service{{URI: uri, Driver: driver}}})
	if frame := ask(t, boot(t, address, "web"), "!!REQUEST_METADATA#\n"); frame.Code != packet.ResponseMetaData {
		t.Errorf("%s %s", frame.Code, frame.Data)
	}
}
