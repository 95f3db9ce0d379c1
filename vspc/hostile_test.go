package vspc_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vmw-cloudinit-metadata/internal/tlstest"
	"vmw-cloudinit-metadata/telnet"
	"vmw-cloudinit-metadata/vspc"
)

// startOfTLS is the host's IS SSL START.
var startOfTLS = telnet.AppendSubnegotiation(nil, telnet.Authentication, []byte{0, 7, 0, 1})

// TestTLSIsNotStartedOnAnOpenPort has a host that starts TLS when the guest's data flows already.
func TestTLSIsNotStartedOnAnOpenPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(vspc.Config{TLS: new(tls.Config)})
		w := r.connect(t)
		w.say("ff fb 25 ff fb e8"+hostsList+doProxy+vcUUID+vmName+otherAnswer, 1<<20)
		w.hears()
		go func() {
			for range 100 {
				r.sessions[0].Send([]byte("data"), nil)
			}
		}()
		w.conn.Write(startOfTLS)
		time.Sleep(time.Second)
		if _, ok := errors.AsType[*vspc.ProtocolError](w.err()); !ok {
			t.Errorf("the connection ended with %v", w.err())
		}
		r.end(t)
	})
}

// TestAHostThatStartsTLSAndDoesNotRead checks that it is not kept longer than any other that is not identified.
func TestAHostThatStartsTLSAndDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(vspc.Config{TLS: new(tls.Config)})
		ours, theirs := net.Pipe()
		ended := make(chan error, 1)
		go func() { ended <- r.Serve(theirs) }()
		ours.Write(append(telnet.AppendNegotiation(nil, telnet.WILL, telnet.Authentication), startOfTLS...))
		time.Sleep(vspc.DefaultIdentifyTimeout + time.Second)
		synctest.Wait()
		select {
		case <-ended:
		default:
			t.Error("the connection is kept")
		}
		ours.Close()
	})
}

// TestPortsWithoutAHostAreBounded has a host that begins migrations, and disappears each time.
func TestPortsWithoutAHostAreBounded(t *testing.T) {
	const many = 1100
	for name, open := range map[string]bool{"open": true, "not open": false} {
		inBubble(t, name, func(t *testing.T) {
			r := newRoom(vspc.Config{})
			connect := func(newHost func(net.Conn) *vspc.Host) *vspc.Host {
				ours, theirs := net.Pipe()
				go r.Serve(theirs)
				return newHost(ours)
			}
			var moves []vspc.VMotion
			for i := range many {
				conf := vspc.HostConfig{Identity: vspc.Identity{Name: "vm", VCUUID: testUUID(i)}}
				conf.Variant.NoAuthentication, conf.Variant.NoDoProxy = true, !open
				h := connect(func(c net.Conn) *vspc.Host { return vspc.NewHost(c, conf) })
				if err := h.Handshake(t.Context()); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				move, err := h.Begin(t.Context(), []byte{1})
				if err != nil {
					t.Fatal(err)
				}
				h.Close()
				moves = append(moves, move)
			}
			synctest.Wait()
			kept := 0
			for _, move := range moves {
				h := connect(func(c net.Conn) *vspc.Host { return vspc.NewTarget(c, vspc.HostConfig{}, move) })
				if h.Peer(t.Context()) == nil {
					kept++
				}
				h.Close()
				synctest.Wait()
			}
			if kept < many/2 || kept == many {
				t.Errorf("%d of %d ports without a connection were kept", kept, many)
			}
			r.end(t)
		})
	}
}

// TestShutdownEndsPortsWithoutAHost has one whose source is gone, and whose target has not come.
func TestShutdownEndsPortsWithoutAHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(vspc.Config{})
		a := r.source(t)
		a.begin("seq1")
		var sent error
		r.sessions[0].Send([]byte("held"), func(err error) { sent = err })
		a.close()
		r.end(t)
		if !errors.Is(r.ears[0].closed, vspc.ErrClosed) || !errors.Is(sent, vspc.ErrClosed) {
			t.Errorf("the receiver was told %v, and the sender %v", r.ears[0].closed, sent)
		}
	})
}

func testUUID(i int) string {
	const digits = "0123456789abcdef"
	id := []byte("42133800-0a6a-b9b4-b647-3007991cf1d6")
	for at := 7; at > 3; at-- {
		id[at] = digits[i&15]
		i >>= 4
	}
	return string(id)
}

// stuck is a receiver that takes its time.
type stuck struct {
	ears
	release chan struct{}
}

func (s *stuck) Receive(p []byte) {
	s.ears.Receive(p)
	<-s.release
}

// TestCloseCountsWhateverElseHappens closes a session whose connection is broken already, and whose migration could
// bring it another.
func TestCloseCountsWhateverElseHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var session *vspc.Session
		receiver := &stuck{release: make(chan struct{})}
		c := vspc.NewConcentrator(vspc.Config{Open: func(s *vspc.Session) vspc.Receiver {
			session = s
			return receiver
		}})
		r := &room{Concentrator: c}
		w := r.source(t)
		w.begin("seq1")
		session.Send([]byte("held"), nil)
		w.conn.Write([]byte("the VM goes on")) // and what is held is sent, to nobody
		w.conn.Close()
		synctest.Wait()
		session.Close()
		close(receiver.release)
		synctest.Wait()
		if !errors.Is(receiver.closed, vspc.ErrClosed) {
			t.Errorf("the receiver was told %v", receiver.closed)
		}
		time.Sleep(vspc.DefaultSecretLifetime)
	})
}

// TestCloseMeetsComplete closes a session at the moment at which its target completes.
func TestCloseMeetsComplete(t *testing.T) {
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			r := newRoom(vspc.Config{})
			a := r.source(t)
			secret := a.begin("seq1")
			b := r.target(t)
			b.send(vspc.VMotionPeer{SequenceAndSecret: secret})
			a.close()
			go r.sessions[0].Close()
			b.conn.Write(vspc.Append(nil, vspc.VMotionComplete{Sequence: []byte("seq1")}))
			synctest.Wait()
			if r.ears[0].closed == nil || b.err() == nil {
				t.Errorf("receiver closed with %v, connection with %v", r.ears[0].closed, b.err())
			}
			b.close()
		})
	}
}

func TestPeerOutOfPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const seq = "seq1"
		ok := vspc.VMotionPeerOK{Sequence: []byte(seq)}
		refused := vspc.UnknownSuboption2{Unknown: vspc.CmdVMotionPeer}
		r := newRoom(vspc.Config{})
		a := r.source(t)
		peer := vspc.VMotionPeer{SequenceAndSecret: a.begin(seq)}
		b := r.target(t)
		b.send(peer)
		b.gets("", ok)
		b.send(peer) // it asks again
		b.gets("", ok)
		b.send(vspc.VMotionPeer{SequenceAndSecret: []byte("other")})
		b.gets("", refused)
		b.send(vspc.VMotionComplete{Sequence: []byte(seq)})
		b.send(peer)
		b.gets("", refused)
		b.guest("here")
		synctest.Wait()
		time.Sleep(2 * vspc.DefaultRefusedLinger)
		r.sessions[0].Send([]byte("there"), nil)
		b.gets("there")
		if got := r.ears[0].String(); got != "here" {
			t.Errorf("the guest said %q, %v", got, b.err())
		}
		if !slices.Contains(r.kinds(), vspc.PeerRefused) {
			t.Errorf("the owner is told %v", r.kinds())
		}
		r.end(t)
	})
}

// TestASecretOnAnOpenPort has a host that shows one where its VM's port is open already.
func TestASecretOnAnOpenPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(vspc.Config{})
		a := r.source(t)
		for _, secret := range [][]byte{[]byte("seq1 and a guess"), a.begin("seq1")} {
			a.send(vspc.VMotionPeer{SequenceAndSecret: secret})
			a.gets("", vspc.UnknownSuboption2{Unknown: vspc.CmdVMotionPeer})
		}
		a.send(vspc.VMotionAbort{})
		time.Sleep(2 * vspc.DefaultRefusedLinger)
		a.guest("here")
		r.sessions[0].Send([]byte("there"), nil)
		a.gets("there")
		if got := r.ears[0].String(); got != "here" || a.err() != nil {
			t.Errorf("the guest said %q, %v", got, a.err())
		}
		r.end(t)
	})
}

// TestTheServiceOfAnOpenPortStays has a host that asks for another service when the port is open.
func TestTheServiceOfAnOpenPortStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(vspc.Config{Admit: func(m vspc.DoProxy) error {
			if m.ServiceURI == "bad" {
				return errors.New("not ours")
			}
			return nil
		}})
		for _, uri := range []string{"other", "bad"} {
			a := r.source(t)
			a.say(doProxy, 1)
			a.gets("", vspc.WillProxy{})
			a.send(vspc.DoProxy{Direction: vspc.Server, ServiceURI: uri})
			if _, ok := errors.AsType[*vspc.ProtocolError](a.err()); !ok {
				t.Errorf("%s: the connection ended with %v", uri, a.err())
			}
		}
		r.end(t)
	})
}

// TestAnOpenPortIsNotRefused has the owner change his mind about ports while one is open, and moves.
func TestAnOpenPortIsNotRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changed atomic.Bool
		r := newRoom(vspc.Config{Admit: func(vspc.DoProxy) error {
			if changed.Load() {
				return errors.New("not ours any more")
			}
			return nil
		}})
		a := r.source(t)
		changed.Store(true)
		a.say(doProxy, 1)
		a.gets("", vspc.WillProxy{})
		secret := a.begin("seq1")
		b := r.target(t)
		b.send(vspc.VMotionPeer{SequenceAndSecret: secret})
		b.gets("", vspc.VMotionPeerOK{Sequence: []byte("seq1")})
		b.say(doProxy, 1)
		b.gets("", vspc.WillProxy{})
		b.send(vspc.DoProxy{Direction: vspc.Server, ServiceURI: "another"})
		b.gets("", vspc.WontProxy{})
		b.send(vspc.VMotionComplete{Sequence: []byte("seq1")})
		r.sessions[0].Send([]byte("answer"), nil)
		b.gets("answer")
		r.end(t)
	})
}

// TestARefusedPortCanMove checks that a port with a wrong URI does not keep its VM where it is.
func TestARefusedPortCanMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(vspc.Config{Admit: func(m vspc.DoProxy) error { return errors.New("not ours") }})
		a := r.source(t)
		a.begin("seq1")
		a.send(vspc.VMotionAbort{})
		a.gets("")
		secret := a.begin("seq2")
		b := r.target(t)
		b.send(vspc.VMotionPeer{SequenceAndSecret: secret})
		b.gets("", vspc.VMotionPeerOK{Sequence: []byte("seq2")})
		b.send(vspc.VMotionComplete{Sequence: []byte("seq2")})
		b.say(vcUUID+vmName+otherAnswer+hello, 1<<20)
		b.gets("")
		if !errors.Is(a.err(), vspc.ErrMoved) || len(r.sessions) != 0 {
			t.Errorf("%v, %d sessions", a.err(), len(r.sessions))
		}
		time.Sleep(vspc.DefaultRefusedLinger)
		if !errors.Is(b.err(), vspc.ErrRefused) {
			t.Errorf("the target's connection ended with %v", b.err())
		}
		r.end(t)
	})
}

// TestEachMigrationEndsOnce counts how the migrations end, by the events.
func TestEachMigrationEndsOnce(t *testing.T) {
	ends := []vspc.EventKind{vspc.MoveCompleted, vspc.MoveAborted, vspc.MoveResumed, vspc.MoveReplaced, vspc.MoveExpired}
	for name, tc := range map[string]struct {
		play func(r *room, a, b *wire)
		want []vspc.EventKind
	}{
		"resumed, ABORT": {func(r *room, a, b *wire) { a.guest("x"); a.guest("y"); a.send(vspc.VMotionAbort{}) }, []vspc.EventKind{vspc.MoveResumed}},
		"BEGIN, ABORT": {func(r *room, a, b *wire) { a.begin("again"); a.send(vspc.VMotionAbort{}) },
			[]vspc.EventKind{vspc.MoveReplaced, vspc.MoveAborted}},
		"resumed, expired": {func(r *room, a, b *wire) { a.guest("x"); time.Sleep(vspc.DefaultSecretLifetime) }, []vspc.EventKind{vspc.MoveResumed}},
		"resumed, BEGIN": {func(r *room, a, b *wire) { a.guest("x"); a.begin("again"); a.send(vspc.VMotionAbort{}) },
			[]vspc.EventKind{vspc.MoveResumed, vspc.MoveAborted}},
		"resumed, and the VM ends where it stayed": {func(r *room, a, b *wire) {
			a.guest("x")
			synctest.Wait()
			b.close()
			synctest.Wait()
			a.close()
		}, []vspc.EventKind{vspc.MoveResumed}},
		"both ends are lost, the source first": {func(r *room, a, b *wire) { a.close(); b.close() }, []vspc.EventKind{vspc.MoveExpired}},
		"both ends are lost, the target first": {func(r *room, a, b *wire) { b.close(); a.close() }, []vspc.EventKind{vspc.MoveExpired}},
		"expired":                              {func(r *room, a, b *wire) { time.Sleep(vspc.DefaultSecretLifetime) }, []vspc.EventKind{vspc.MoveExpired}},
		"Shutdown":                             {func(r *room, a, b *wire) {}, nil},
	} {
		inBubble(t, name, func(t *testing.T) {
			r := newRoom(vspc.Config{})
			a := r.source(t)
			secret := a.begin("seq1")
			b := r.target(t)
			b.send(vspc.VMotionPeer{SequenceAndSecret: secret})
			synctest.Wait()
			tc.play(r, a, b)
			synctest.Wait()
			r.end(t)
			got := slices.DeleteFunc(r.kinds(), func(k vspc.EventKind) bool { return !slices.Contains(ends, k) })
			if !slices.Equal(got, tc.want) {
				t.Errorf("%v, want %v", got, tc.want)
			}
			if name != "Shutdown" && strings.Contains(name, "lost") != (r.ears[0].closed != nil && errors.Is(r.ears[0].closed, vspc.ErrMoveExpired)) {
				t.Errorf("closed with %v", r.ears[0].closed)
			}
			if err := b.err(); name != "Shutdown" && !strings.Contains(name, "lost") && !strings.Contains(name, "ends") && !errors.Is(err, vspc.ErrMoveEnded) {
				t.Errorf("the target's connection ended with %v", err)
			}
		})
	}
}

func TestAReplacedPortSaysWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(vspc.Config{})
		r.source(t)
		r.source(t)
		synctest.Wait()
		for _, ev := range r.events {
			if ev.Kind == vspc.PortReplaced && ev.Former == "pipe" && ev.Remote.String() == "pipe" {
				r.end(t)
				return
			}
		}
		t.Errorf("%+v", r.events)
		r.end(t)
	})
}

// TestShutdownAtAnyMoment plays random parts of the lives of some ports while the concentrator shuts down, and checks that
// nothing is left.
func TestShutdownAtAnyMoment(t *testing.T) {
	for seed := range uint64(number(t, "VMOTION_SHUTDOWNS", 300)) {
		inBubble(t, fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := newRoom(vspc.Config{})
			var playing sync.WaitGroup
			var mu sync.Mutex
			var wires []net.Conn
			var served sync.WaitGroup
			connect := func() net.Conn {
				ours, theirs := net.Pipe()
				served.Go(func() { r.Serve(theirs) })
				mu.Lock()
				defer mu.Unlock()
				wires = append(wires, ours)
				return ours
			}
			sent, done := 0, 0
			for port := range uint64(3) {
				playing.Go(func() {
					random := rand.New(rand.NewPCG(seed, port))
					pause := func() { time.Sleep(time.Duration(random.IntN(100))) }
					conf := vspc.HostConfig{Identity: vspc.Identity{Name: "vm", VCUUID: testUUID(int(port))}}
					h := vspc.NewHost(connect(), conf)
					go io.Copy(io.Discard, h)
					defer func() { h.Close() }()
					pause()
					if h.Handshake(t.Context()) != nil {
						return
					}
					for range 3 {
						pause()
						r.mu.Lock()
						sessions := slices.Clone(r.sessions)
						r.mu.Unlock()
						for _, s := range sessions {
							mu.Lock()
							sent++
							mu.Unlock()
							s.Send(make([]byte, random.IntN(10_000)), func(error) {
								mu.Lock()
								defer mu.Unlock()
								done++
							})
						}
						move, err := h.Begin(t.Context(), []byte("seq"))
						if err != nil {
							return
						}
						switch random.IntN(4) {
						case 0:
							h.Close()
						case 1:
							h.Send(vspc.VMotionAbort{})
						case 2:
							h.Write([]byte("resumed"))
						}
						pause()
						target := vspc.NewTarget(connect(), conf, move)
						go io.Copy(io.Discard, target)
						if target.Peer(t.Context()) != nil {
							target.Close()
							return
						}
						pause()
						if random.IntN(4) == 0 {
							h.Close()
						}
						target.Complete()
						h.Close()
						h = target
					}
				})
			}
			time.Sleep(time.Duration(seed))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			r.Shutdown(ctx)
			playing.Wait()
			served.Wait()
			synctest.Wait()
			for i, e := range r.ears {
				if e.closed == nil {
					t.Errorf("port %d is open", i)
				}
			}
			if sent != done {
				t.Errorf("%d of %d senders were told", done, sent)
			}
			late := r.connect(t)
			if err := late.err(); !errors.Is(err, vspc.ErrClosed) {
				t.Errorf("a connection after Shutdown ends with %v", err)
			}
			for _, w := range wires {
				w.Close()
			}
		})
	}
}

// TestWhichPortsAreOne has VMs without a VC UUID, and looks which of them replace each other.
func TestWhichPortsAreOne(t *testing.T) {
	a, b := testUUID(1), testUUID(2)
	for _, tc := range []struct {
		first, second vspc.Identity
		same          bool
	}{
		{vspc.Identity{VCUUID: a, BIOSUUID: a}, vspc.Identity{VCUUID: a, BIOSUUID: b}, true},
		{vspc.Identity{VCUUID: a, BIOSUUID: a, LocationUUID: a}, vspc.Identity{VCUUID: b, BIOSUUID: a, LocationUUID: a}, false},
		{vspc.Identity{BIOSUUID: a, LocationUUID: a}, vspc.Identity{BIOSUUID: a, LocationUUID: a}, true},
		{vspc.Identity{BIOSUUID: a, LocationUUID: a}, vspc.Identity{BIOSUUID: a, LocationUUID: b}, false},
		{vspc.Identity{BIOSUUID: a, LocationUUID: a}, vspc.Identity{BIOSUUID: b, LocationUUID: a}, false},
		{vspc.Identity{BIOSUUID: a}, vspc.Identity{BIOSUUID: a}, false},
		{vspc.Identity{LocationUUID: a}, vspc.Identity{LocationUUID: a}, false},
		{vspc.Identity{}, vspc.Identity{}, false},
	} {
		inBubble(t, fmt.Sprintf("%v and %v", tc.first, tc.second), func(t *testing.T) {
			r := newRoom(vspc.Config{})
			var hosts []*vspc.Host
			for _, id := range []vspc.Identity{tc.first, tc.second} {
				id.Name = "vm" // names tell no VM from another
				ours, theirs := net.Pipe()
				go r.Serve(theirs)
				h := vspc.NewHost(ours, vspc.HostConfig{Identity: id})
				hosts = append(hosts, h)
				if err := h.Handshake(t.Context()); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			if len(r.ears) != 2 || errors.Is(r.ears[0].closed, vspc.ErrReplaced) != tc.same {
				t.Errorf("%d ports, the first closed with %v", len(r.ears), r.ears[0].closed)
			}
			for _, h := range hosts {
				h.Close()
			}
			r.end(t)
		})
	}
}

func TestOpenMayCloseThePort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &room{Concentrator: vspc.NewConcentrator(vspc.Config{Open: func(*vspc.Session) vspc.Receiver { return nil }})}
		w := r.connect(t)
		w.say("ff fb e8"+hostsList+doProxy+vcUUID+vmName+otherAnswer, 1<<20)
		if err := w.err(); !errors.Is(err, vspc.ErrRefused) {
			t.Errorf("the connection ended with %v", err)
		}
	})
}

// TestAPortClosedAloneIsSaidToBe: what is logged of it must not say that all ports are closed.
func TestAPortClosedAloneIsSaidToBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &room{Concentrator: vspc.NewConcentrator(vspc.Config{Open: func(s *vspc.Session) vspc.Receiver {
			s.Close()
			return nil
		}})}
		w := r.connect(t)
		w.say("ff fb e8"+hostsList+doProxy+vcUUID+vmName+otherAnswer, 1<<20)
		if err := w.err(); !errors.Is(err, vspc.ErrClosed) || strings.Contains(err.Error(), "concentrator") {
			t.Errorf("the connection ended with: %v", err)
		}
	})
}

func TestStartWithNobodyToTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := vspc.NewConcentrator(vspc.Config{})
		served, host := net.Pipe()
		c.Start(served, nil)
		host.Close()
		synctest.Wait()
		if err := c.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		late, host := net.Pipe()
		c.Start(late, nil)
		if _, err := host.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("a connection after Shutdown: %v, want it closed", err)
		}
	})
}

// TestTLSLeavesNoDeadline has a port whose TLS was started inside telnet, and that is quiet for longer than any of the
// times at the start.
func TestTLSLeavesNoDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		serverTLS, _ := tlstest.SelfSigned(t, "vspc.example.com")
		r := newRoom(vspc.Config{TLS: serverTLS})
		ours, theirs := net.Pipe()
		go r.Serve(theirs)
		h := vspc.NewHost(ours, vspc.HostConfig{Identity: vspc.Identity{Name: "vm"}, TLS: &tls.Config{InsecureSkipVerify: true}})
		if err := h.Handshake(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		got := make([]byte, 4)
		r.sessions[0].Send([]byte("late"), nil)
		if _, err := io.ReadFull(h, got); err != nil || string(got) != "late" {
			t.Errorf("%q, %v", got, err)
		}
		if _, err := h.Write([]byte("too")); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if r.ears[0].String() != "too" {
			t.Errorf("the guest said %q", r.ears[0])
		}
		h.Close()
		time.Sleep(time.Minute) // TLS says goodbye
	})
}

func TestTLSIsNotStartedUnasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(vspc.Config{TLS: new(tls.Config)})
		w := r.connect(t)
		w.conn.Write(startOfTLS)
		if _, ok := errors.AsType[*vspc.ProtocolError](w.err()); !ok {
			t.Errorf("the connection ended with %v", w.err())
		}
	})
}

// TestAHostThatGoesOnWithoutTLS has one that offers none where it is required, and takes no notice of a refusal.
func TestAHostThatGoesOnWithoutTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(vspc.Config{TLS: new(tls.Config), RequireTLS: true})
		w := r.connect(t)
		w.wants("ff fd 25")
		w.say("ff fb e8 ff fb 00 ff fb 03 ff fd 00 ff fd 03 ff fd 01", 1<<20)
		w.wants("ff fe e8 ff fe 00 ff fe 03 ff fc 00 ff fc 03 ff fc 01")
		w.say(hostsList+doProxy+vcUUID+vmName+otherAnswer, 1<<20)
		w.guest(strings.Repeat("x", 2*vspc.MaxEarlyData)) // it is not kept
		w.wants("")
		time.Sleep(vspc.DefaultIdentifyTimeout)
		if err := w.err(); !errors.Is(err, vspc.ErrTLSRequired) || len(r.sessions) != 0 {
			t.Errorf("%d sessions, %v", len(r.sessions), err)
		}
	})
}

// TestOptionsMayBeTurnedOffAndOn has a host that changes its mind on an open port, and asks for what it can't have.
func TestOptionsMayBeTurnedOffAndOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(vspc.Config{TLS: new(tls.Config)})
		w := r.source(t)
		w.say("ff fd 00 ff fd 03 ff fd 01 ff fb 00 ff fb 03", 1<<20) // it agrees to our greeting
		w.wants("")
		for _, turn := range []turn{
			{"ff fe 00 ff fd 00", "ff fc 00 ff fb 00"},
			{"ff fe 01 ff fd 01", "ff fc 01 ff fb 01"},
			{"ff fe 03 ff fd 03", "ff fc 03 ff fb 03"},
			{"ff fc 00 ff fb 00", "ff fe 00 ff fd 00"},
			{"ff fc 03 ff fb 03", "ff fe 03 ff fd 03"},
			{"ff fc e8 ff fb e8", "ff fe e8 ff fd e8" + ourList},
			{"ff fb 01", "ff fe 01"}, // the echo is ours
			{"ff fd e8", "ff fc e8"}, // the commands are the host's
			{"ff fb 25", "ff fe 25"}, // it is too late for TLS
			{"ff fd 25", "ff fc 25"},
			{"ff fb 2c ff fd 2c", "ff fe 2c ff fc 2c"},
		} {
			w.say(turn.host, 1<<20)
			w.wants(turn.proxy)
		}
		w.guest("here")
		if got := r.ears[0].String(); got != "here" {
			t.Errorf("the guest said %q, %v", got, w.err())
		}
		r.end(t)
	})
}

// hasty is a TLS client's connection that says startOfTLS in one write with the first words of TLS, and takes the consent
// from what it reads.
type hasty struct {
	net.Conn
	said, heard bool
}

func (h *hasty) Write(p []byte) (int, error) {
	if h.said {
		return h.Conn.Write(p)
	}
	h.said = true
	go h.Conn.Write(append(slices.Clone(startOfTLS), p...)) // a pipe has no buffer, and the consent has to be read meanwhile
	return len(p), nil
}

func (h *hasty) Read(p []byte) (int, error) {
	if !h.heard {
		h.heard = true
		consent := telnet.AppendSubnegotiation(nil, telnet.Authentication, []byte{2, 7, 0, 2})
		got := make([]byte, len(consent))
		if _, err := io.ReadFull(h.Conn, got); err != nil || !slices.Equal(got, consent) {
			return 0, fmt.Errorf("heard % x, %v", got, err)
		}
	}
	return h.Conn.Read(p)
}

func TestTLSMayBeginInTheWriteThatStartsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		serverTLS, clientTLS := tlstest.SelfSigned(t, "vspc.example.com")
		r := newRoom(vspc.Config{TLS: serverTLS, RequireTLS: true})
		ours, theirs := net.Pipe()
		go r.Serve(theirs)
		hears := func(conn net.Conn, hex string) {
			t.Helper()
			want := unhex(t, hex)
			got := make([]byte, len(want))
			if _, err := io.ReadFull(conn, got); err != nil || !slices.Equal(got, want) {
				t.Fatalf("heard % x, %v, want % x", got, err, want)
			}
		}
		hears(ours, "ff fd 25")
		ours.Write(unhex(t, "ff fb 25"))
		hears(ours, "ff fa 25 01 07 00 ff f0")
		conn := tls.Client(&hasty{Conn: ours}, clientTLS)
		if err := conn.Handshake(); err != nil {
			t.Fatal(err)
		}
		hears(conn, greeting)
		conn.Close()
		time.Sleep(time.Minute) // TLS says goodbye
	})
}

// TestAFloodIsReadAtItsRate measures a bubble's time, which stands still while nothing rests.
func TestAFloodIsReadAtItsRate(t *testing.T) {
	const flood = 256 << 10
	for _, rate := range []int{0, 32 << 10} {
		inBubble(t, fmt.Sprintf("%d a second", rate), func(t *testing.T) {
			r := newRoom(vspc.Config{MaxRate: rate})
			w := r.source(t)
			start := time.Now()
			for range flood >> 10 {
				w.guest(strings.Repeat("x", 1<<10))
			}
			if took := time.Since(start); (took > time.Second) != (rate > 0) {
				t.Errorf("%d bytes took %v", flood, took)
			}
			time.Sleep(time.Second) // the last rest
			r.end(t)
		})
	}
}

// TestWhatAWrongSecretEarns checks that what comes behind it is neither kept nor counted.
func TestWhatAWrongSecretEarns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(vspc.Config{})
		w := r.target(t)
		w.send(vspc.VMotionPeer{SequenceAndSecret: []byte("wrong")})
		for range 3 {
			w.guest(strings.Repeat("x", vspc.MaxEarlyData))
		}
		w.send(vspc.VMotionBegin{Sequence: []byte("seq1")}) // it has no port to move
		w.gets("", vspc.UnknownSuboption2{Unknown: vspc.CmdVMotionPeer})
		if err := w.err(); err != nil {
			t.Errorf("the connection ended with %v", err)
		}
		r.end(t)
	})
}

func TestQuestionsArePutOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(vspc.Config{})
		w := r.connect(t)
		w.say("ff fb e8"+hostsList, 1<<20)
		w.hears()
		w.say(hostsList, 1<<20)
		w.wants("")
		r.end(t)
	})
}
