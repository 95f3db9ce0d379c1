//go:build linux

package floor_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"vmw-cloudinit-metadata/bench/answers"
	"vmw-cloudinit-metadata/bench/floor"
	"vmw-cloudinit-metadata/telnet"
	"vmw-cloudinit-metadata/vspc"
)

// set has a small answer, an empty one, and one that no socket takes at once.
func set() *answers.Set {
	return &answers.Set{
		answers.MetaData.Line([]byte(`{"instance-id":"i"}`)), answers.NetworkData.Line(nil),
		answers.UserData.Line(bytes.Repeat([]byte("user-data\n"), 300_000)),
	}
}

// serve starts a floor over TCP and returns a connection to it.
func serve(t *testing.T, handle func(net.Conn)) net.Conn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- floor.Serve(listener, handle) }()
	t.Cleanup(func() {
		listener.Close()
		if err := <-ended; err != nil {
			t.Errorf("Serve ended with %v, want nil after its listener was closed", err)
		}
	})
	return dial(t, listener.Addr().String())
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func epoll(t *testing.T, threads int) *floor.Epoll {
	t.Helper()
	e, err := floor.NewEpoll(netip.MustParseAddrPort("127.0.0.1:0"), threads, set())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- e.Serve() }()
	t.Cleanup(func() {
		e.Close()
		if err := <-ended; err != nil {
			t.Errorf("Serve ended with %v, want nil after Close", err)
		}
	})
	return e
}

// ask has each question answered, whole and in pieces, behind noise that gets no answer.
func ask(t *testing.T, conn io.ReadWriter) {
	t.Helper()
	reader, want := bufio.NewReader(conn), set()
	for q := range answers.Questions {
		for _, pieces := range []int{1, 2, 30} {
			request := append([]byte("localhost login:\n"+strings.Repeat("x", 500)+"\n!!RESPONSE_METADATA#\n"), q.AppendRequest(nil)...)
			for piece := range slices.Chunk(request, (len(request)+pieces-1)/pieces) {
				if _, err := conn.Write(piece); err != nil {
					t.Fatal(err)
				}
			}
			got, err := reader.ReadBytes('\n')
			if err != nil {
				t.Fatalf("%s in %d pieces: %v", q, pieces, err)
			}
			if !bytes.Equal(got, want[q]) {
				t.Fatalf("%s in %d pieces is answered with %d bytes %q…, want %d", q, pieces, len(got), got[:min(len(got), 60)], len(want[q]))
			}
		}
	}
}

func TestLinesAnswers(t *testing.T) { ask(t, serve(t, floor.Lines(set()))) }

func TestEpollAnswers(t *testing.T) {
	for threads := 1; threads <= 2; threads++ {
		e := epoll(t, threads)
		address, err := e.Address()
		if err != nil {
			t.Fatal(err)
		}
		// Some for each thread.
		for range 8 {
			ask(t, dial(t, address.String()))
		}
	}
}

func TestEpollOutlivesItsClients(t *testing.T) {
	e := epoll(t, 1)
	address, err := e.Address()
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		conn := dial(t, address.String())
		// Goes away with a large answer under way; its file descriptor is the next one's.
		if _, err := conn.Write(answers.UserData.AppendRequest(nil)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	ask(t, dial(t, address.String()))
}

// host is the least that an ESXi host says; Read gives the guest's side of the data.
type host struct {
	t          *testing.T
	conn       net.Conn
	decoder    telnet.Decoder
	negotiator telnet.Negotiator
	in         []byte
	data       []byte
	messages   []vspc.Message
}

func newHost(t *testing.T, conn net.Conn) *host {
	h := &host{t: t, conn: conn}
	h.negotiator.Accept = func(telnet.Side, telnet.Option) bool { return true }
	h.write(h.negotiator.Enable(nil, telnet.Local, telnet.Authentication))
	return h
}

func (h *host) write(p []byte) {
	h.t.Helper()
	if _, err := h.conn.Write(p); err != nil {
		h.t.Fatal(err)
	}
}

// step takes in one event.
func (h *host) step() error {
	event, n, err := h.decoder.Next(h.in)
	if err != nil {
		return err
	}
	h.in = h.in[n:]
	switch event.Kind {
	case telnet.None:
		buffer := make([]byte, 64<<10)
		n, err := h.conn.Read(buffer)
		h.in = buffer[:n]
		return err
	case telnet.Negotiation:
		h.write(h.negotiator.Receive(nil, event.Command, event.Option))
	case telnet.Subnegotiation:
		message, err := vspc.Parse(bytes.Clone(event.Bytes))
		if err != nil {
			return err
		}
		h.messages = append(h.messages, message)
	case telnet.Data:
		h.data = append(h.data, event.Bytes...)
	case telnet.Function:
		h.t.Errorf("a function %v", event.Command)
	}
	return nil
}

func (h *host) until(done func() bool) {
	h.t.Helper()
	for !done() {
		if err := h.step(); err != nil {
			h.t.Fatal(err)
		}
	}
}

func (h *host) expect(want vspc.Message) {
	h.t.Helper()
	h.until(func() bool { return len(h.messages) > 0 })
	got := h.messages[0]
	h.messages = h.messages[1:]
	if !bytes.Equal(vspc.Append(nil, got), vspc.Append(nil, want)) {
		h.t.Fatalf("the floor says %v %+v, want %v %+v", got.Command(), got, want.Command(), want)
	}
}

func (h *host) Write(p []byte) (int, error) {
	h.write(telnet.AppendData(nil, p))
	return len(p), nil
}

func (h *host) Read(p []byte) (int, error) {
	for len(h.data) == 0 {
		if err := h.step(); err != nil {
			return 0, err
		}
	}
	n := copy(p, h.data)
	h.data = h.data[n:]
	return n, nil
}

func TestTelnetSpeaksToAHost(t *testing.T) {
	h := newHost(t, serve(t, floor.Telnet(set())))
	h.until(func() bool {
		return h.negotiator.Enabled(telnet.Local, vspc.Option) &&
			h.negotiator.Enabled(telnet.Local, telnet.Binary) && h.negotiator.Enabled(telnet.Remote, telnet.Binary) &&
			!h.negotiator.Pending(telnet.Local, telnet.Authentication)
	})
	if h.negotiator.Enabled(telnet.Local, telnet.Authentication) {
		t.Error("the floor agrees to AUTHENTICATION")
	}
	known := []byte{0, 1, 40, 41, 44, 45, 46, 70, 71, 80, 81, 82, 83, 84, 85, 86, 87}
	h.write(vspc.Append(nil, vspc.KnownSuboptions1{Commands: known}))
	h.write(vspc.Append(nil, vspc.DoProxy{Direction: vspc.Client, ServiceURI: "any"}))
	for _, want := range []vspc.Message{
		vspc.KnownSuboptions2{Commands: known}, vspc.GetVMVCUUID{}, vspc.GetVMName{}, vspc.GetVMBIOSUUID{},
		vspc.GetVMLocationUUID{}, vspc.WillProxy{},
	} {
		h.expect(want)
	}
	h.write(vspc.Append(nil, vspc.VMName{Name: "vm\xff\n!!REQUEST_METADATA#\n"})) // no question: it is not data
	ask(t, h)

	// A vMotion in one segment with a question before it and one behind it: nothing changes places.
	sequence := []byte{0xff, 0xff, 0xf0, 0xff}
	segment := answers.MetaData.AppendRequest(nil)
	segment = vspc.Append(segment, vspc.VMotionBegin{Sequence: sequence})
	segment = vspc.Append(segment, vspc.VMotionPeer{SequenceAndSecret: append(bytes.Clone(sequence), "\x01\x02\x03\x04\x05\x06\x07\x08"...)})
	segment = answers.NetworkData.AppendRequest(segment)
	h.write(segment)
	h.expect(vspc.VMotionGoAhead{SequenceAndSecret: append(bytes.Clone(sequence), "\x01\x02\x03\x04\x05\x06\x07\x08"...)})
	if !bytes.Equal(h.data, set()[answers.MetaData]) {
		t.Errorf("%q came before GOAHEAD, want the answer to the question before BEGIN", h.data)
	}
	h.data = nil
	h.expect(vspc.VMotionPeerOK{Sequence: sequence})
	h.until(func() bool { return bytes.Contains(h.data, []byte("\n")) })
	if !bytes.Equal(h.data, set()[answers.NetworkData]) {
		t.Errorf("%q came behind PEER-OK, want the answer to the question behind PEER", h.data)
	}
	h.data = nil
	ask(t, h)
}
