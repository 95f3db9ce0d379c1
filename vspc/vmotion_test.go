package vspc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vmw-cloudinit-metadata/telnet"
	"vmw-cloudinit-metadata/vspc"
)

// understands returns the messages and the data that have come since the last call.
func (w *wire) understands() (messages []vspc.Message, data []byte) {
	w.t.Helper()
	var d telnet.Decoder
	for in := w.hears(); len(in) > 0; {
		ev, n, err := d.Next(in)
		if err != nil {
			w.t.Fatal(err)
		}
		switch ev.Kind {
		case telnet.Data:
			data = append(data, ev.Bytes...)
		case telnet.Subnegotiation:
			m, err := vspc.Parse(ev.Bytes)
			if err != nil {
				w.t.Fatal(err)
			}
			messages = append(messages, m)
		}
		in = in[n:]
	}
	return messages, data
}

// gets checks that exactly these messages and these data have come.
func (w *wire) gets(data string, messages ...vspc.Message) {
	w.t.Helper()
	got, gotData := w.understands()
	if len(got)+len(messages) > 0 && !reflect.DeepEqual(got, messages) || string(gotData) != data {
		w.t.Errorf("heard %v and %q, want %v and %q", got, gotData, messages, data)
	}
}

func (w *wire) send(messages ...vspc.Message) {
	w.t.Helper()
	var out []byte
	for _, m := range messages {
		out = vspc.Append(out, m)
	}
	if _, err := w.conn.Write(out); err != nil {
		w.t.Fatalf("write: %v", err)
	}
}

// guest sends what the guest writes, and waits until it is dealt with.
func (w *wire) guest(data string) {
	w.t.Helper()
	if _, err := w.conn.Write(telnet.AppendData(nil, []byte(data))); err != nil {
		w.t.Fatalf("write: %v", err)
	}
	synctest.Wait()
}

// source connects an ordinary port, up to where data flows.
func (r *room) source(t *testing.T) *wire {
	t.Helper()
	w := r.connect(t)
	w.say("ff fb e8"+hostsList+doProxy+vcUUID+vmName+otherAnswer, 1<<20)
	w.hears()
	return w
}

// target connects the target of a vMotion, up to where it may show a secret.
func (r *room) target(t *testing.T) *wire {
	t.Helper()
	w := r.connect(t)
	w.say("ff fb e8"+hostsList, 1<<20)
	w.hears()
	return w
}

// begin begins a vMotion, and returns the sequence and secret that the target has to show.
func (w *wire) begin(sequence string) []byte {
	w.t.Helper()
	w.send(vspc.VMotionBegin{Sequence: []byte(sequence)})
	messages, _ := w.understands()
	if len(messages) != 1 {
		w.t.Fatalf("BEGIN is answered by %v", messages)
	}
	goAhead, ok := messages[0].(vspc.VMotionGoAhead)
	if !ok || !bytes.HasPrefix(goAhead.SequenceAndSecret, []byte(sequence)) || len(goAhead.SequenceAndSecret) != len(sequence)+8 {
		w.t.Fatalf("BEGIN %x is answered by %#v", sequence, messages[0])
	}
	return goAhead.SequenceAndSecret
}

var sequences = []string{"\x44\xda\x87\xf1", "\x76\x19\xff\xe9", "\xff\xff\xf0\xff", "", "\xff", "0123456789abcdef"}

func inBubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func TestVMotion(t *testing.T) {
	for _, sequence := range sequences {
		inBubble(t, fmt.Sprintf("sequence %x", sequence), func(t *testing.T) {
			r := newRoom(vspc.Config{})
			a := r.source(t)
			s := r.sessions[0]
			s.Send([]byte("before\xff"), nil)
			a.gets("before\xff")
			secret := a.begin(sequence)
			s.Send([]byte("meanwhile\xff\xff"), nil)
			a.gets("")

			b := r.target(t)
			b.send(vspc.VMotionPeer{SequenceAndSecret: secret})
			b.gets("", vspc.VMotionPeerOK{Sequence: []byte(sequence)})
			b.say(vcUUID+vmName+"ff fb 2c", 1)
			b.wants("ff fe 2c")
			b.guest("early")
			b.gets("")
			b.send(vspc.VMotionComplete{Sequence: []byte(sequence)})
			b.gets("meanwhile\xff\xff")
			b.guest(", late")
			s.Send([]byte("after"), nil)
			b.gets("after")
			if got := r.ears[0].String(); got != "early, late" {
				t.Errorf("the guest said %q", got)
			}
			if err := a.err(); !errors.Is(err, vspc.ErrMoved) {
				t.Errorf("the source's connection ended with %v", err)
			}
			if want := []vspc.EventKind{vspc.PortOpened, vspc.MoveBegun, vspc.MovePeered, vspc.MoveCompleted}; !slices.Equal(r.kinds(), want) {
				t.Errorf("events %v, want %v", r.kinds(), want)
			}
			b.close()
			if len(r.sessions) != 1 || !errors.Is(r.ears[0].closed, io.EOF) || !slices.Contains(r.kinds(), vspc.PortClosed) {
				t.Errorf("%d sessions, closed with %v, %v", len(r.sessions), r.ears[0].closed, r.kinds())
			}
		})
	}
}

func TestVMotionPaths(t *testing.T) {
	const seq = "\x44\xda\x87\xf1"
	begin := vspc.VMotionBegin{Sequence: []byte(seq)}
	peerOK := vspc.VMotionPeerOK{Sequence: []byte(seq)}
	complete := vspc.VMotionComplete{Sequence: []byte(seq)}
	refused := vspc.UnknownSuboption2{Unknown: vspc.CmdVMotionPeer}
	peer := func(secret []byte) vspc.Message { return vspc.VMotionPeer{SequenceAndSecret: secret} }

	// Each runs with a port that is open on a, its session, and an answer that came after BEGIN.
	for name, play := range map[string]func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte){
		"the source ends before COMPLETE": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			b := r.target(t)
			b.send(peer(secret))
			b.gets("", peerOK)
			a.close()
			b.send(complete)
			b.gets("held")
		},
		"the source ends before PEER": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			a.close()
			b := r.target(t)
			b.send(peer(secret), complete)
			b.gets("held", peerOK)
		},
		"all in one segment": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			b := r.connect(t)
			out := unhex(t, "ff fb e8"+hostsList)
			out = vspc.Append(vspc.Append(out, peer(secret)), complete)
			out = append(out, unhex(t, vcUUID+vmName+"ff fb 2c"+hello)...)
			if _, err := b.conn.Write(out); err != nil {
				t.Fatal(err)
			}
			if _, data := b.understands(); string(data) != "held" || r.ears[0].String() != "hello" {
				t.Errorf("%q and %q", data, r.ears[0])
			}
		},
		"ABORT": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			b := r.target(t)
			b.send(peer(secret))
			b.gets("", peerOK)
			a.send(vspc.VMotionAbort{})
			a.gets("held")
			if err := b.err(); err == nil {
				t.Error("the target's connection goes on")
			}
			a.guest("here")
			if got := r.ears[0].String(); got != "here" {
				t.Errorf("the guest said %q", got)
			}
			again := r.target(t)
			again.send(peer(secret))
			again.gets("", refused)
		},
		"ABORT with something behind it": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			a.send(vspc.VMotionAbort{Ignored: []byte{7}})
			a.gets("held")
		},
		"no ABORT, but the guest speaks": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			a.guest("here")
			a.gets("held")
			if got := r.ears[0].String(); got != "here" {
				t.Errorf("the guest said %q", got)
			}
			s.Send([]byte("live"), nil)
			a.gets("live")
			b := r.target(t) // a later, honest attempt
			b.send(peer(secret))
			b.gets("", peerOK)
			s.Send([]byte("more"), nil)
			a.gets("")
			b.send(complete)
			b.gets("more")
		},
		"BEGIN twice": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			b := r.target(t)
			b.send(peer(secret))
			b.gets("", peerOK)
			second := a.begin("second")
			if err := b.err(); err == nil {
				t.Error("the first target's connection goes on")
			}
			c := r.target(t)
			c.send(peer(secret))
			c.gets("", refused)
			d := r.target(t)
			d.send(peer(second))
			d.gets("", vspc.VMotionPeerOK{Sequence: []byte("second")})
			d.send(vspc.VMotionComplete{Sequence: []byte("second")})
			d.gets("held")
		},
		"the target ends before COMPLETE": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			b := r.target(t)
			b.send(peer(secret))
			b.gets("", peerOK)
			b.close()
			a.gets("")
			again := r.target(t)
			again.send(peer(secret)) // a secret is good once
			again.gets("", refused)
			a.send(vspc.VMotionAbort{})
			a.gets("held")
		},
		"both end": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			b := r.target(t)
			b.send(peer(secret))
			b.gets("", peerOK)
			a.close()
			b.close()
			if r.ears[0].closed == nil {
				t.Error("the session goes on, and nobody can come for it")
			}
		},
		"the secret expires": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			time.Sleep(vspc.DefaultSecretLifetime)
			a.gets("held")
			b := r.target(t)
			b.send(peer(secret))
			b.gets("", refused)
		},
		"the secret expires with the source gone": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			a.close()
			time.Sleep(vspc.DefaultSecretLifetime)
			synctest.Wait()
			if !errors.Is(r.ears[0].closed, vspc.ErrMoveExpired) {
				t.Errorf("the session ended with %v", r.ears[0].closed)
			}
		},
		"a target that never completes": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			b := r.target(t)
			b.send(peer(secret))
			b.gets("", peerOK)
			time.Sleep(vspc.DefaultSecretLifetime)
			a.gets("held")
			if b.err() == nil {
				t.Error("the target's connection goes on")
			}
		},
		"wrong secrets": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			wrong := bytes.Clone(secret)
			wrong[len(wrong)-1] ^= 1
			var guessers []*wire
			for _, guess := range [][]byte{wrong, secret[:len(secret)-1], secret[:4], nil, append(bytes.Clone(secret), 0)} {
				b := r.target(t)
				guessers = append(guessers, b)
				b.send(peer(guess))
				b.gets("", refused)
				// Nothing else that it says brings it the port.
				b.say(doProxy+vcUUID+vmName+otherAnswer+hello, 1<<20)
				b.send(complete)
				b.gets("")
				if b.err() != nil {
					t.Error("the connection is closed at once")
				}
			}
			time.Sleep(vspc.DefaultRefusedLinger)
			for _, b := range guessers {
				if b.err() == nil {
					t.Error("the connection is kept for ever")
				}
			}
			if len(r.sessions) != 1 || r.ears[0].String() != "" {
				t.Errorf("%d sessions, and the guest said %q", len(r.sessions), r.ears[0])
			}
			b := r.target(t)
			b.send(peer(secret), complete)
			b.gets("held", peerOK)
		},
		"the secret twice at once": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			b, c := r.target(t), r.target(t)
			b.send(peer(secret))
			b.gets("", peerOK)
			c.send(peer(secret))
			c.gets("", refused)
			c.send(complete)
			c.gets("")
			b.send(complete)
			b.gets("held")
		},
		"the secret from the source itself": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			a.send(peer(secret))
			a.gets("", refused)
		},
		"the secret from another open port": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			b := r.connect(t)
			b.say("ff fb e8"+hostsList+"ff fa e8 46 53 78 ff f0"+vcUUID+vmName+otherAnswer, 1<<20)
			b.hears()
			b.send(peer(secret), complete)
			b.gets("", refused)
		},
		"COMPLETE where it has no meaning": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			a.send(complete)
			a.gets("")
			early := r.target(t)
			early.send(complete)
			early.gets("")
			b := r.target(t)
			b.send(peer(secret), vspc.VMotionComplete{Sequence: []byte("other")})
			b.gets("", peerOK)
			b.send(complete)
			b.gets("held")
		},
		"ABORT where it has no meaning": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			b := r.target(t)
			b.send(vspc.VMotionAbort{}, peer(secret), vspc.VMotionAbort{})
			b.gets("", peerOK)
			b.send(complete)
			b.gets("held")
			b.send(vspc.VMotionAbort{}) // no vMotion is under way any more
			s.Send([]byte("on"), nil)
			b.gets("on")
		},
		"the port comes anew": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			c := r.source(t)
			if !errors.Is(r.ears[0].closed, vspc.ErrReplaced) || len(r.sessions) != 2 {
				t.Fatalf("the first session ended with %v", r.ears[0].closed)
			}
			c.gets("") // what was for the former boot is gone with it
			b := r.target(t)
			b.send(peer(secret))
			b.gets("", refused)
			c.guest("anew")
			if r.ears[1].String() != "anew" {
				t.Errorf("%q", r.ears[1])
			}
		},
		"another VM claims to be the target": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			b := r.target(t)
			b.say("ff fa e8 50 "+strings.ReplaceAll(uuidHex, "38 39", "39 39")+"ff f0", 1<<20)
			b.send(peer(secret), complete)
			b.gets("held", peerOK)
			if id := s.Identity(); id.VCUUID != "01234567-89ab-cdef-fedc-ba9800000000" {
				t.Errorf("the identity is now %v", id)
			}
			c := r.target(t)
			c.send(peer(b.begin("seq2")), vspc.VMotionComplete{Sequence: []byte("seq2")})
			c.gets("", vspc.VMotionPeerOK{Sequence: []byte("seq2")})
			c.say("ff fa e8 50 "+strings.ReplaceAll(uuidHex, "38 39", "39 39")+"ff f0", 1<<20) // now that it has the port
			if id := s.Identity(); c.err() != nil || id.VCUUID != "01234567-89ab-cdef-fedc-ba9800000000" {
				t.Errorf("the identity is now %v, %v", id, c.err())
			}
		},
		"BEGIN from the target": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			b := r.target(t)
			b.send(peer(secret), vspc.VMotionBegin{Sequence: []byte("too early")})
			b.gets("", peerOK, vspc.VMotionNotNow{Sequence: []byte("too early")})
			b.send(complete)
			b.gets("held")
		},
		"the name changes on the way": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			b := r.target(t)
			b.send(vspc.VMName{Name: "renamed"}, peer(secret), complete)
			b.gets("held", peerOK)
			if s.Identity().Name != "renamed" || !slices.Contains(r.kinds(), vspc.PortRenamed) {
				t.Errorf("%v, %v", s.Identity(), r.kinds())
			}
			b.send(vspc.VMName{Name: "again"})
			synctest.Wait()
			if s.Identity().Name != "again" {
				t.Errorf("%v", s.Identity())
			}
		},
		"the name changes at the source, behind the target's word": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			b := r.target(t)
			b.send(vspc.VMName{Name: s.Identity().Name}, peer(secret))
			b.gets("", peerOK)
			a.send(vspc.VMName{Name: "renamed"})
			synctest.Wait()
			b.send(complete)
			b.gets("held")
			if s.Identity().Name != "renamed" {
				t.Errorf("the target takes back that the VM was renamed: %v", s.Identity())
			}
		},
		"the name changes at the target, behind PEER": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			b := r.target(t)
			b.send(peer(secret))
			b.gets("", peerOK)
			a.send(vspc.VMName{Name: "once"})
			synctest.Wait()
			b.send(vspc.VMName{Name: "twice"})
			synctest.Wait()
			if s.Identity().Name != "once" {
				t.Errorf("a target that has not completed renames the VM: %v", s.Identity())
			}
			b.send(complete)
			b.gets("held")
			if s.Identity().Name != "twice" {
				t.Errorf("%v", s.Identity())
			}
		},
		"DO-PROXY on the target": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			b := r.target(t)
			b.send(peer(secret))
			b.gets("", peerOK)
			b.say(doProxy, 1)
			b.gets("", vspc.WillProxy{})
			b.send(complete)
			b.gets("held")
		},
		"too much from a target that does not complete": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			b := r.target(t)
			b.send(peer(secret))
			b.guest(strings.Repeat("x", vspc.MaxEarlyData))
			b.gets("", peerOK)
			b.guest("y")
			if err := b.err(); !errors.Is(err, vspc.ErrTooMuchEarlyData) {
				t.Errorf("the target's connection ended with %v", err)
			}
			a.send(vspc.VMotionAbort{})
			a.gets("held")
		},
		"and again": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			b := r.target(t)
			b.send(peer(secret), complete)
			b.gets("held", peerOK)
			secret = b.begin("back")
			s.Send([]byte("second"), nil)
			c := r.target(t)
			c.send(peer(secret), vspc.VMotionComplete{Sequence: []byte("back")})
			c.gets("second", vspc.VMotionPeerOK{Sequence: []byte("back")})
		},
		"the session is closed": func(t *testing.T, r *room, a *wire, s *vspc.Session, secret []byte) {
			a.close()
			s.Close()
			synctest.Wait()
			if r.ears[0].closed == nil {
				t.Error("the receiver was not told")
			}
			b := r.target(t)
			b.send(peer(secret))
			b.gets("", refused)
		},
	} {
		inBubble(t, name, func(t *testing.T) {
			r := newRoom(vspc.Config{})
			a := r.source(t)
			s := r.sessions[0]
			a.send(begin)
			messages, _ := a.understands()
			secret := messages[0].(vspc.VMotionGoAhead).SequenceAndSecret
			s.Send([]byte("held"), nil)
			a.gets("")
			play(t, r, a, s, secret)
			if err := r.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		})
	}
}

func TestVMotionIsRefusedWhileShuttingDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(vspc.Config{})
		a := r.source(t)
		secret := a.begin("seq1") // holds back what is sent, so that Shutdown has something to wait for
		r.sessions[0].Send([]byte("held"), nil)
		done := make(chan error)
		go func() { done <- r.Shutdown(t.Context()) }()
		synctest.Wait()
		a.send(vspc.VMotionBegin{Sequence: []byte("seq2")})
		a.gets("", vspc.VMotionNotNow{Sequence: []byte("seq2")})
		if !slices.Contains(r.kinds(), vspc.MoveRefused) {
			t.Errorf("the owner is told %v", r.kinds())
		}
		b := r.target(t)
		b.send(vspc.VMotionPeer{SequenceAndSecret: secret}, vspc.VMotionComplete{Sequence: []byte("seq1")})
		b.gets("held", vspc.VMotionPeerOK{Sequence: []byte("seq1")})
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := b.err(); !errors.Is(err, vspc.ErrClosed) {
			t.Errorf("the connection ended with %v", err)
		}
	})
}

// TestAMovedVMKeepsItsName has targets that say who the VM is in part, in other orders, or not at all.
func TestAMovedVMKeepsItsName(t *testing.T) {
	for name, says := range map[string]struct{ before, after string }{
		"nothing":                     {"", ""},
		"the name, and then the rest": {"", vmName + vcUUID + otherAnswer},
		"the same, before PEER":       {vmName + vcUUID + otherAnswer, ""},
		"all but the name":            {"", vcUUID + otherAnswer},
		"the same before PEER":        {vcUUID + otherAnswer, ""},
	} {
		inBubble(t, name, func(t *testing.T) {
			r := newRoom(vspc.Config{})
			a := r.source(t)
			was := r.sessions[0].Identity()
			secret := a.begin("seq1")
			b := r.target(t)
			b.say(says.before, 1<<20)
			b.send(vspc.VMotionPeer{SequenceAndSecret: secret})
			b.say(says.after, 1<<20)
			b.send(vspc.VMotionComplete{Sequence: []byte("seq1")})
			b.gets("", vspc.VMotionPeerOK{Sequence: []byte("seq1")})
			if now := r.sessions[0].Identity(); now != was || slices.Contains(r.kinds(), vspc.PortRenamed) {
				t.Errorf("it is now %+v, and was %+v; %v", now, was, r.kinds())
			}
			r.end(t)
		})
	}
}

// TestShutdownHasALimit has a vMotion whose target never comes.
func TestShutdownHasALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(vspc.Config{})
		a := r.source(t)
		a.begin("seq1")
		sent := make(chan error, 1)
		r.sessions[0].Send([]byte("held"), func(err error) { sent <- err })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := r.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-sent; !errors.Is(err, vspc.ErrClosed) || !errors.Is(a.err(), vspc.ErrClosed) {
			t.Errorf("sending ended with %v, the connection with %v", err, a.err())
		}
		ours, theirs := net.Pipe()
		ended := make(chan error, 2)
		r.Start(theirs, func(err error) { ended <- err })
		if n, err := ours.Read(make([]byte, 1)); n > 0 || err != io.EOF {
			t.Errorf("a later connection is told something: %d bytes, %v", n, err)
		}
		synctest.Wait()
		if err := <-ended; !errors.Is(err, vspc.ErrClosed) || len(ended) > 0 {
			t.Errorf("it ended with %v, and %d times more", err, len(ended))
		}
	})
}

func TestVMotionOfAPortThatIsNotOpenYet(t *testing.T) {
	const before, between, after = "before PEER", "before COMPLETE", "after COMPLETE"
	for _, identified := range []string{before, between, after} {
		inBubble(t, "identified "+identified, func(t *testing.T) {
			r := newRoom(vspc.Config{})
			a := r.connect(t)
			a.say("ff fb e8"+hostsList+doProxy, 1<<20)
			a.guest("he")
			a.hears()
			secret := a.begin("seq1")
			b := r.target(t)
			identify := func(when string) {
				if when == identified {
					b.say(vcUUID+vmName+otherAnswer, 1<<20)
				}
			}
			identify(before)
			b.send(vspc.VMotionPeer{SequenceAndSecret: secret})
			b.guest("ll")
			identify(between)
			b.send(vspc.VMotionComplete{Sequence: []byte("seq1")})
			b.guest("o")
			b.gets("", vspc.VMotionPeerOK{Sequence: []byte("seq1")})
			identify(after)
			synctest.Wait()
			r.checkOpened(t)
			b.close()
		})
	}
}
