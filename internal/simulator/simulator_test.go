package simulator_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vmw-cloudinit-metadata/internal/simulator"
	"vmw-cloudinit-metadata/packet"
	"vmw-cloudinit-metadata/vspc"
)

// echo sends each guest's bytes back to it.
type echo struct{ session *vspc.Session }

func (e echo) Receive(p []byte) { e.session.Send(bytes.Clone(p), nil) }
func (e echo) Closed(error)     {}

// server is a concentrator that echoes, at the other end of pipes.
type server struct {
	concentrator *vspc.Concentrator

	mu     sync.Mutex
	dialed int
	fail   map[int]error // by the number of the connection, from 1
}

func newServer() *server {
	return &server{
		concentrator: vspc.NewConcentrator(vspc.Config{Open: func(s *vspc.Session) vspc.Receiver { return echo{s} }}),
		fail:         make(map[int]error),
	}
}

func (s *server) dial(context.Context) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialed++
	if err := s.fail[s.dialed]; err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	go func() { _ = s.concentrator.Serve(far) }()
	return near, nil
}

func (s *server) connect(ctx context.Context) (*simulator.Port, error) {
	return simulator.Connect(ctx, s.dial, vspc.HostConfig{
		Identity:   vspc.Identity{Name: "web1", VCUUID: "50370a1b-4a5f-4c2e-9f0b-1d2c3b4a5f6e"},
		ServiceURI: "my-metadata",
	})
}

// bubble runs test in a synctest bubble, and takes the server down at the end.
func bubble(t *testing.T, test func(t *testing.T, s *server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		defer func() {
			if err := s.concentrator.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		test(t, s)
	})
}

func mustConnect(t *testing.T, s *server) *simulator.Port {
	t.Helper()
	port, err := s.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestPortCarriesItsBytesWhileItMoves sends a stream through an echo, a piece each millisecond, while the port moves.
func TestPortCarriesItsBytesWhileItMoves(t *testing.T) {
	bubble(t, func(t *testing.T, s *server) {
		port := mustConnect(t, s)
		defer port.Close()
		data := make([]byte, 64<<10)
		for i := range data {
			data[i] = byte(i * i / 3)
		}
		ctx, stop := context.WithCancel(t.Context())
		moved := make(chan simulator.Moves)
		go func() { moved <- port.MoveEvery(ctx, 700*time.Microsecond) }()
		go func() {
			for piece := data; len(piece) > 0; piece = piece[128:] {
				time.Sleep(time.Millisecond)
				if _, err := port.Write(piece[:128]); err != nil {
					t.Error(err)
					return
				}
			}
		}()
		got := make([]byte, len(data))
		if n, err := io.ReadFull(port, got); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes came back, equal: %v, %v", n, bytes.Equal(got, data), err)
		}
		stop()
		if moves := <-moved; moves.Done < 100 || moves.Refused+moves.Late+moves.Failed > 0 {
			t.Errorf("moves: %v", moves)
		}
	})
}

// drain reads the port as its guest, and returns what came when the port is closed.
func drain(port *simulator.Port) <-chan string {
	got := make(chan string, 1)
	go func() {
		all, _ := io.ReadAll(port)
		got <- string(all)
	}()
	return got
}

func TestTargetThatCanNotBeReached(t *testing.T) {
	bubble(t, func(t *testing.T, s *server) {
		port := mustConnect(t, s)
		got := drain(port)
		broken := errors.New("no route")
		s.fail[2] = broken
		if _, err := port.Move(t.Context()); !errors.Is(err, broken) || !strings.Contains(err.Error(), "the target host") {
			t.Errorf("Move: %v", err)
		}
		if _, err := port.Write([]byte("still here")); err != nil {
			t.Error(err)
		}
		if _, err := port.Move(t.Context()); err != nil {
			t.Errorf("second Move: %v", err)
		}
		synctest.Wait()
		port.Close()
		if back := <-got; back != "still here" {
			t.Errorf("the guest got %q", back)
		}
		if _, err := port.Move(t.Context()); err == nil {
			t.Error("a closed port moved")
		}
	})
}

// scripted is a server that agrees to everything at once, and then says what it is told.
func scripted(says ...[]byte) simulator.Dialer {
	return func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		go func() {
			_, _ = fmt.Fprint(far, "\xff\xfd\xe8\xff\xfe\x25") // DO 232, DONT AUTHENTICATION
			_, _ = far.Write(vspc.Append(nil, vspc.WillProxy{}))
			for _, wire := range says {
				_, _ = far.Write(wire)
			}
		}()
		return near, nil
	}
}

func TestMovesAreCounted(t *testing.T) {
	refusal := vspc.Append(nil, vspc.VMotionNotNow{}) // of no sequence in particular
	for _, tc := range []struct {
		name string
		dial simulator.Dialer
		want string
	}{
		{"too late", scripted(), "0 moves, 0 refused, 2 too late, 0 failed; the last reason: vspc: VMOTION-BEGIN: the proxy did not answer the migration in time"},
		{"lost", func(context.Context) (net.Conn, error) {
			near, err := scripted()(t.Context())
			time.AfterFunc(5*time.Second, func() { near.Close() })
			return near, err
		}, "0 moves, 0 refused, 0 too late, 1 failed; the last reason: vspc: VMOTION-BEGIN: io: read/write on closed pipe"},
		{"an answer to nothing", scripted(refusal), "0 moves, 0 refused, 2 too late, 0 failed; the last reason: vspc: VMOTION-BEGIN: the proxy did not answer the migration in time"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				port, err := simulator.Connect(t.Context(), tc.dial, vspc.HostConfig{})
				if err != nil {
					t.Fatal(err)
				}
				drained := drain(port)
				ctx, cancel := context.WithTimeout(t.Context(), 13*time.Second)
				defer cancel()
				if moves := port.MoveEvery(ctx, time.Second).String(); moves != tc.want {
					t.Errorf("moves: %s\n want: %s", moves, tc.want)
				}
				port.Close()
				<-drained
			})
		})
	}
}

func TestMovesThatAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server net.Conn
		dial := func(ctx context.Context) (near net.Conn, err error) {
			near, server = net.Pipe()
			go func() { _, _ = fmt.Fprint(server, "\xff\xfd\xe8\xff\xfe\x25\xff\xfa\xe8\x47\xff\xf0") }()
			go func() { _, _ = io.Copy(refuser{server}, server) }()
			return near, nil
		}
		port, err := simulator.Connect(t.Context(), dial, vspc.HostConfig{})
		if err != nil {
			t.Fatal(err)
		}
		drained := drain(port)
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		if moves := port.MoveEvery(ctx, time.Second); moves.Refused != 3 || moves.Done+moves.Late+moves.Failed > 0 {
			t.Errorf("moves: %v", moves)
		}
		port.Close()
		<-drained
	})
}

// refuser answers each VMOTION-BEGIN, which comes in a write of its own, with VMOTION-NOTNOW.
type refuser struct{ conn net.Conn }

func (r refuser) Write(p []byte) (int, error) {
	if bytes.HasPrefix(p, []byte("\xff\xfa\xe8\x28")) {
		answer := bytes.Clone(p)
		answer[3] = 0x2b
		go func() { _, _ = r.conn.Write(answer) }()
	}
	return len(p), nil
}

func TestConnectIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wrong := errors.New("wrong URI")
		c := vspc.NewConcentrator(vspc.Config{Admit: func(vspc.DoProxy) error { return wrong }})
		_, err := simulator.Connect(t.Context(), func(context.Context) (net.Conn, error) {
			near, far := net.Pipe()
			go func() { _ = c.Serve(far) }()
			return near, nil
		}, vspc.HostConfig{ServiceURI: "other"})
		if !errors.Is(err, vspc.ErrWontProxy) {
			t.Errorf("Connect: %v", err)
		}
		if err := c.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestLine(t *testing.T) {
	bubble(t, func(t *testing.T, s *server) {
		s.fail[1] = errors.New("not up yet")
		var told []string
		ports := make(chan *simulator.Port, 2)
		line := simulator.Line{
			Connect: s.connect,
			Connected: func(port *simulator.Port) {
				told = append(told, "connected")
				ports <- port
			},
			Lost: func(err error) { told = append(told, "lost: "+err.Error()) },
		}
		near, program := net.Pipe()
		carried := make(chan error)
		go func() { carried <- line.Carry(t.Context(), near) }()

		mustSay(t, program, "into the void") // there is no server yet
		first := <-ports
		exchange(t, program, "hello")
		first.Close() // as if the connection were lost
		second := <-ports
		exchange(t, program, "hello again")
		program.Close()
		if err := <-carried; err != nil {
			t.Errorf("Carry: %v", err)
		}
		if _, err := second.Write([]byte("x")); err == nil {
			t.Error("the port is still open")
		}
		want := "[lost: not up yet connected lost: use of closed network connection connected]"
		if fmt.Sprint(told) != want {
			t.Errorf("told %v, want %v", told, want)
		}
	})
}

func mustSay(t *testing.T, program net.Conn, text string) {
	t.Helper()
	if _, err := program.Write([]byte(text)); err != nil {
		t.Error(err)
	}
}

func exchange(t *testing.T, program net.Conn, text string) {
	t.Helper()
	mustSay(t, program, text)
	got := make([]byte, len(text))
	if _, err := io.ReadFull(program, got); err != nil || string(got) != text {
		t.Errorf("the program got %q, %v; want %q", got, err, text)
	}
}

func TestLineEndsWithItsContext(t *testing.T) {
	for _, fail := range []error{nil, errors.New("not up")} {
		bubble(t, func(t *testing.T, s *server) {
			for i := range 10 {
				s.fail[i] = fail
			}
			stop := errors.New("enough")
			ctx, cancel := context.WithCancelCause(t.Context())
			near, program := net.Pipe()
			time.AfterFunc(2500*time.Millisecond, func() { cancel(stop) })
			line := simulator.Line{Connect: s.connect}
			if err := line.Carry(ctx, near); err != stop {
				t.Errorf("Carry: %v", err)
			}
			if _, err := program.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("the program's end: %v", err)
			}
		})
	}
}

// conversation is a server's side of a serial line: what it says, whatever it is asked.
type conversation struct {
	io.Reader
	asked bytes.Buffer
}

func (c *conversation) Write(p []byte) (int, error) { return c.asked.Write(p) }

func TestGuestAsks(t *testing.T) {
	answer := func(code packet.Code, data string) string { return string(packet.AppendFrame(nil, code, []byte(data))) }
	refusal := func(request packet.Code) string {
		return string((&packet.Error{Request: request, Code: packet.Denied, Message: "no"}).AppendFrame(nil))
	}
	for _, tc := range []struct{ name, server, want, err string }{
		{"an answer", answer(packet.ResponseUserData, "#cloud-config\n"), "#cloud-config\n", ""},
		{"an empty answer", answer(packet.ResponseUserData, ""), "", ""},
		{"behind noise and another's answer", "login: \n" + answer(packet.ResponseMetaData, "{}") + refusal(packet.RequestMetaData) + answer(packet.ResponseUserData, "x"), "x", ""},
		{"a refusal", refusal(packet.RequestUserData), "", "no"},
		{"damaged", "!!RESPONSE_USERDATA#a\n", "", packet.ErrBadBase64.Error()},
		{"a damaged refusal", "!!RESPONSE_ERROR#YQ==\n", "", "waiting for user-data: "},
		{"silence", "", "", io.EOF.Error()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &conversation{Reader: strings.NewReader(tc.server)}
			got, err := simulator.NewGuest(c).Ask(packet.UserData)
			if string(got) != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%q, %v; want %q, %q", got, err, tc.want, tc.err)
			}
			if _, refused := errors.AsType[*packet.Error](err); refused != (tc.name == "a refusal") {
				t.Errorf("%T", err)
			}
			if c.asked.String() != "!!REQUEST_USERDATA#\n" {
				t.Errorf("asked %q", c.asked.String())
			}
		})
	}
}
