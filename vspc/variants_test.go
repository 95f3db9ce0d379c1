package vspc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vmw-cloudinit-metadata/telnet"
	"vmw-cloudinit-metadata/vspc"
)

// asked connects an admitted port, up to where its VM has to be identified.
func (r *room) asked(t *testing.T) *wire {
	t.Helper()
	w := r.connect(t)
	w.say("ff fb e8"+hostsList+doProxy, 1<<20)
	w.hears()
	return w
}

// others answers the questions that a test is not about.
func (w *wire) others(answered vspc.Command) {
	w.t.Helper()
	for _, m := range []vspc.Message{
		vspc.VMVCUUID{Text: uuidText}, vspc.VMName{Name: "vm"}, vspc.VMBIOSUUID{}, vspc.VMLocationUUID{},
	} {
		if m.Command() != answered {
			w.send(m)
		}
	}
	synctest.Wait()
}

// end closes everything, and waits until it is.
func (r *room) end(t *testing.T) {
	t.Helper()
	if err := r.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	synctest.Wait()
}

func TestUUIDSpellings(t *testing.T) {
	const id = "01234567-89ab-cdef-fedc-ba9800000000"
	for spelling, want := range map[string]string{
		uuidText:                            id,
		strings.ToUpper(uuidText):           id,
		id:                                  id,
		strings.ToUpper(id):                 id,
		strings.ReplaceAll(id, "-", ""):     id,
		"":                                  "",
		"none":                              "",
		uuidText + " 00":                    "",
		uuidText[:len(uuidText)-1]:          "",
		"{" + id + "}":                      "",
		strings.Repeat("\xff", 47):          "",
		strings.Repeat("0", 32):             "",
		strings.ReplaceAll(id, "a", "\x00"): "",
	} {
		inBubble(t, fmt.Sprintf("%q", spelling), func(t *testing.T) {
			r := newRoom(vspc.Config{})
			w := r.asked(t)
			w.send(vspc.VMVCUUID{Text: spelling})
			w.others(vspc.CmdVMVCUUID)
			if len(r.sessions) != 1 {
				t.Fatalf("%d sessions, %v", len(r.sessions), w.err())
			}
			if got := r.sessions[0].Identity(); got.VCUUID != want || got.Name != "vm" {
				t.Errorf("identity %+v, want the VC UUID %q", got, want)
			}
			w.close()
		})
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{
		"", "web1", "Büro (1) 東京", "\xff\xfe\xf0 not UTF-8", "..%2f..%2fetc%2fpasswd", "../\x00\n!!REQUEST_METADATA#\n",
		strings.Repeat("n", telnet.DefaultMaxSubnegotiation-1),
	} {
		inBubble(t, fmt.Sprintf("%.40q", name), func(t *testing.T) {
			r := newRoom(vspc.Config{})
			w := r.asked(t)
			w.send(vspc.VMName{Name: name})
			w.others(vspc.CmdVMName)
			if len(r.sessions) != 1 || r.sessions[0].Identity().Name != name {
				t.Fatalf("%d sessions, %v", len(r.sessions), w.err())
			}
			if heard := r.ears[0].String(); heard != "" {
				t.Errorf("the guest is said to have said %q", heard)
			}
			w.close()
		})
	}
	inBubble(t, "64 KiB", func(t *testing.T) {
		r := newRoom(vspc.Config{})
		w := r.asked(t)
		wire := vspc.Append(nil, vspc.VMName{Name: strings.Repeat("n", 64<<10)})
		if _, err := w.conn.Write(wire); err == nil {
			t.Error("all of it was taken")
		}
		if _, ok := errors.AsType[*telnet.ProtocolError](w.err()); !ok || len(r.sessions) != 0 {
			t.Errorf("%d sessions, %v", len(r.sessions), w.err())
		}
	})
}

func TestIdentity(t *testing.T) {
	const otherUUID = "ff ff ff ff 89 ab cd ef-fe dc ba 98 00 00 00 00"
	vcUUID, name := vspc.VMVCUUID{Text: uuidText}, vspc.VMName{Name: "vm"}
	rest := []vspc.Message{vspc.VMBIOSUUID{Text: uuidText}, vspc.VMLocationUUID{Text: uuidText}}
	// Each runs with an admitted port that has been asked who its VM is, and a guest that has spoken.
	for test, play := range map[string]func(t *testing.T, r *room, w *wire){
		"no answer": func(t *testing.T, r *room, w *wire) {
			time.Sleep(vspc.DefaultIdentifyTimeout)
			if err := w.err(); !errors.Is(err, vspc.ErrNotIdentified) || len(r.sessions) != 0 {
				t.Errorf("%d sessions, %v", len(r.sessions), err)
			}
		},
		"empty answers": func(t *testing.T, r *room, w *wire) {
			w.send(vspc.VMVCUUID{}, vspc.VMName{}, vspc.VMBIOSUUID{}, vspc.VMLocationUUID{})
			time.Sleep(vspc.DefaultIdentifyTimeout)
			if err := w.err(); !errors.Is(err, vspc.ErrNotIdentified) || len(r.sessions) != 0 {
				t.Errorf("%d sessions, %v", len(r.sessions), err)
			}
		},
		"one answer": func(t *testing.T, r *room, w *wire) {
			w.send(vcUUID)
			time.Sleep(vspc.DefaultIdentityGrace - 1)
			synctest.Wait()
			if r.count() != 0 {
				t.Fatal("the rest was not waited for")
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			if len(r.sessions) != 1 || r.ears[0].String() != "early" {
				t.Fatalf("%d sessions, %v", len(r.sessions), w.err())
			}
			time.Sleep(time.Hour)
			w.guest(", late")
			synctest.Wait()
			if r.ears[0].String() != "early, late" {
				t.Errorf("the guest said %q", r.ears[0])
			}
		},
		"answers that trickle in": func(t *testing.T, r *room, w *wire) {
			w.send(vcUUID)
			time.Sleep(vspc.DefaultIdentityGrace - 1)
			w.send(name)
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			if r.count() != 1 {
				t.Errorf("%d sessions: each answer gives the next one more time", r.count())
			}
		},
		"an answer that names no VM": func(t *testing.T, r *room, w *wire) {
			w.send(rest[0])
			time.Sleep(vspc.DefaultIdentifyTimeout - 1)
			w.send(rest[1], name, vcUUID)
			synctest.Wait()
			if r.count() != 1 {
				t.Errorf("%d sessions, %v", r.count(), w.err())
			}
		},
		"a host that can't answer for the VC UUID": func(t *testing.T, r *room, w *wire) {
			w.send(append(rest, name, vspc.UnknownSuboption1{Unknown: vspc.CmdGetVMVCUUID})...)
			synctest.Wait()
			if r.count() != 1 || r.sessions[0].Identity().Name != "vm" {
				t.Errorf("%d sessions, %v", r.count(), w.err())
			}
		},
		"a host that can't answer for the name, and says so again": func(t *testing.T, r *room, w *wire) {
			w.send(append(rest, vcUUID, vspc.UnknownSuboption1{Unknown: vspc.CmdGetVMName})...)
			synctest.Wait()
			if r.count() != 1 || r.sessions[0].Identity().VCUUID == "" {
				t.Fatalf("%d sessions, %v", r.count(), w.err())
			}
			w.send(vspc.UnknownSuboption1{Unknown: vspc.CmdGetVMName})
			w.guest(", late")
			if got := r.ears[0].String(); got != "early, late" {
				t.Errorf("the guest said %q, %v", got, w.err())
			}
		},
		"an answer that comes too late changes nothing but the name": func(t *testing.T, r *room, w *wire) {
			w.send(vcUUID)
			time.Sleep(vspc.DefaultIdentityGrace)
			synctest.Wait()
			w.send(rest...)
			w.send(name)
			synctest.Wait()
			if got := r.sessions[0].Identity(); got.BIOSUUID != "" || got.Name != "vm" {
				t.Errorf("identity %+v", got)
			}
		},
		"a VC UUID that comes too late": func(t *testing.T, r *room, w *wire) {
			w.send(append(rest, name)...)
			time.Sleep(vspc.DefaultIdentityGrace)
			synctest.Wait()
			w.send(vcUUID)
			if err := w.err(); err != nil || r.sessions[0].Identity().VCUUID != "" {
				t.Errorf("%v; identity %+v", err, r.sessions[0].Identity())
			}
		},
		"answers in another order": func(t *testing.T, r *room, w *wire) {
			w.send(rest[1], name, rest[0])
			synctest.Wait()
			if len(r.sessions) != 0 {
				t.Error("the VC UUID was not waited for")
			}
			w.send(vcUUID)
			synctest.Wait()
			if len(r.sessions) != 1 || r.sessions[0].Identity().VCUUID == "" {
				t.Errorf("%d sessions, %v", len(r.sessions), w.err())
			}
		},
		"the same answers again": func(t *testing.T, r *room, w *wire) {
			for range 3 {
				w.send(vcUUID, vcUUID, name, name)
				w.send(rest...)
			}
			synctest.Wait()
			if len(r.sessions) != 1 || slices.Contains(r.kinds(), vspc.PortRenamed) {
				t.Errorf("%d sessions, %v, %v", len(r.sessions), r.kinds(), w.err())
			}
		},
		"another VC UUID": func(t *testing.T, r *room, w *wire) {
			w.send(vcUUID, vspc.VMVCUUID{Text: otherUUID})
			if err := w.err(); !errors.Is(err, vspc.ErrIdentityChanged) || len(r.sessions) != 0 {
				t.Errorf("%d sessions, %v", len(r.sessions), err)
			}
		},
		"another VC UUID for an open port": func(t *testing.T, r *room, w *wire) {
			w.send(append(rest, vcUUID, name)...)
			w.send(vspc.VMVCUUID{Text: otherUUID})
			if err := w.err(); !errors.Is(err, vspc.ErrIdentityChanged) || !errors.Is(r.ears[0].closed, vspc.ErrIdentityChanged) {
				t.Errorf("%v; the receiver was told %v", err, r.ears[0].closed)
			}
		},
		"another BIOS UUID": func(t *testing.T, r *room, w *wire) {
			w.send(append(rest, vspc.VMBIOSUUID{Text: otherUUID}, vcUUID, name, vspc.VMBIOSUUID{Text: otherUUID})...)
			synctest.Wait()
			if got := r.sessions[0].Identity().BIOSUUID; got != "01234567-89ab-cdef-fedc-ba9800000000" {
				t.Errorf("the BIOS UUID is now %s", got)
			}
		},
		"another name": func(t *testing.T, r *room, w *wire) {
			w.send(append(rest, vcUUID, name, vspc.VMName{Name: "renamed"})...)
			synctest.Wait()
			if r.sessions[0].Identity().Name != "renamed" || !slices.Contains(r.kinds(), vspc.PortRenamed) {
				t.Errorf("%+v, %v", r.sessions[0].Identity(), r.kinds())
			}
		},
	} {
		inBubble(t, test, func(t *testing.T) {
			r := newRoom(vspc.Config{})
			w := r.asked(t)
			w.guest("early")
			play(t, r, w)
			r.end(t)
		})
	}
}

func TestDataAheadOfItsTurn(t *testing.T) {
	for test, play := range map[string]func(t *testing.T, r *room, w *wire){
		"before DO-PROXY": func(t *testing.T, r *room, w *wire) {
			w.guest("one ")
			w.say("ff fb e8"+hostsList, 1<<20)
			w.guest("two ")
			w.say(doProxy, 1)
			w.guest("three ")
			w.say(vcUUID, 1)
			w.guest("four")
			w.say(vmName+otherAnswer, 1)
			synctest.Wait()
			if len(r.ears) != 1 || r.ears[0].String() != "one two three four" {
				t.Errorf("%d sessions, %v", len(r.ears), w.err())
			}
		},
		"too much of it": func(t *testing.T, r *room, w *wire) {
			w.guest(strings.Repeat("x", vspc.MaxEarlyData))
			if err := w.err(); err != nil {
				t.Errorf("at the limit: %v", err)
			}
			w.guest("y")
			if err := w.err(); !errors.Is(err, vspc.ErrTooMuchEarlyData) {
				t.Errorf("beyond the limit: %v", err)
			}
		},
		"before a late DO-PROXY": func(t *testing.T, r *room, w *wire) {
			w.say("ff fb e8"+hostsList+vcUUID+vmName+hello, 1<<20)
			time.Sleep(vspc.DefaultIdentifyTimeout - 1)
			w.say(doProxy+otherAnswer, 1<<20)
			synctest.Wait()
			if r.count() != 1 || r.ears[0].String() != "hello" {
				t.Errorf("%d sessions, %v", r.count(), w.err())
			}
		},
		"with no DO-PROXY at all": func(t *testing.T, r *room, w *wire) {
			w.say("ff fb e8"+hostsList+vcUUID+vmName+otherAnswer+hello, 1<<20)
			time.Sleep(vspc.DefaultIdentifyTimeout)
			if err := w.err(); !errors.Is(err, vspc.ErrNotIdentified) || len(r.sessions) != 0 {
				t.Errorf("%d sessions, %v", len(r.sessions), err)
			}
		},
	} {
		inBubble(t, test, func(t *testing.T) {
			r := newRoom(vspc.Config{})
			play(t, r, r.connect(t))
			r.end(t)
		})
	}
}

func TestRefusedPortIsMute(t *testing.T) {
	for _, identity := range []string{"", vcUUID + vmName + otherAnswer} {
		inBubble(t, fmt.Sprintf("identified %v", identity != ""), func(t *testing.T) {
			r := newRoom(vspc.Config{Admit: func(m vspc.DoProxy) error { return errors.New("not ours") }})
			w := r.connect(t)
			w.say("ff fb e8"+hostsList+hello+doProxy, 1<<20)
			if messages, _ := w.understands(); !slices.Contains(messages, vspc.Message(vspc.WontProxy{})) {
				t.Errorf("DO-PROXY is answered by %v", messages)
			}
			w.say(identity+hello, 1<<20)
			time.Sleep(vspc.DefaultIdentifyTimeout)
			if err := w.err(); err != nil {
				t.Errorf("closed early: %v", err)
			}
			w.guest(strings.Repeat("x", 2*vspc.MaxEarlyData)) // it is not kept, so there can't be too much
			w.gets("")
			time.Sleep(vspc.DefaultRefusedLinger)
			if err := w.err(); !errors.Is(err, vspc.ErrRefused) {
				t.Errorf("ended with %v", err)
			}
			if len(r.sessions) != 0 || !slices.Equal(r.kinds(), []vspc.EventKind{vspc.PortRefused}) {
				t.Errorf("%d sessions, %v", len(r.sessions), r.kinds())
			}
		})
	}
}

func TestHostRefusesTheOption(t *testing.T) {
	for test, words := range map[string]string{
		"silence":                     "",
		"WONT":                        "ff fc e8",
		"commands without an option":  hostsList + doProxy + vcUUID + vmName + otherAnswer + hello,
		"commands after it was ended": "ff fb e8 ff fc e8" + hostsList + doProxy + vcUUID + vmName + otherAnswer + hello,
	} {
		inBubble(t, test, func(t *testing.T) {
			r := newRoom(vspc.Config{})
			w := r.connect(t)
			w.say(words, 1<<20)
			time.Sleep(vspc.DefaultIdentifyTimeout)
			if err := w.err(); !errors.Is(err, vspc.ErrNotIdentified) || len(r.sessions) != 0 {
				t.Errorf("%d sessions, %v", len(r.sessions), err)
			}
		})
	}
}

func TestDataIsTransparent(t *testing.T) {
	var all strings.Builder
	for i := range 256 {
		all.WriteByte(byte(i))
	}
	data := all.String() + "\xff\xf0\xff\xff\xf0\xf0\xff\xfa\xe8\x30\xff\xf0\x00\x11\r\n\r\x00\n\r\xff"
	for _, chunk := range []int{1, 3, 1 << 20} {
		inBubble(t, fmt.Sprintf("%d at a time", chunk), func(t *testing.T) {
			r := newRoom(vspc.Config{})
			w := r.source(t)
			w.say(fmt.Sprintf("% x", telnet.AppendData(nil, []byte(data))), chunk)
			synctest.Wait()
			if got := r.ears[0].String(); got != data {
				t.Errorf("the guest said\n%q, want\n%q", got, data)
			}
			r.sessions[0].Send([]byte(data), nil)
			w.gets(data)
			r.end(t)
		})
	}
}

func TestVMotionCommandsWithoutAVMotion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(vspc.Config{})
		a := r.source(t)
		sequence := []byte("seq1")
		a.send(vspc.VMotionAbort{}, vspc.VMotionComplete{Sequence: sequence})
		a.gets("")
		if kinds := r.kinds(); !slices.Equal(kinds, []vspc.EventKind{vspc.PortOpened, vspc.MoveIgnored, vspc.MoveIgnored}) {
			t.Errorf("what is told of them: %v", kinds)
		}
		early := r.target(t) // before there is a secret
		early.send(vspc.VMotionPeer{SequenceAndSecret: append(sequence, make([]byte, 8)...)})
		early.gets("", vspc.UnknownSuboption2{Unknown: vspc.CmdVMotionPeer})

		a.guest("on")
		r.sessions[0].Send([]byte("and on"), nil)
		a.gets("and on")
		b := r.target(t)
		b.send(vspc.VMotionPeer{SequenceAndSecret: a.begin("seq1")}, vspc.VMotionComplete{Sequence: sequence})
		b.gets("", vspc.VMotionPeerOK{Sequence: sequence})
		a.close() // the source's own end, behind COMPLETE
		b.guest(" and on")
		r.sessions[0].Send([]byte("further"), nil)
		b.gets("further")
		if got := r.ears[0].String(); got != "on and on" {
			t.Errorf("the guest said %q", got)
		}
		r.end(t)
	})
}

// TestPortsOfOneVM moves two ports that differ in nothing but their URI, at once and with the same sequence.
func TestPortsOfOneVM(t *testing.T) {
	sequence := []byte("same")
	complete := vspc.VMotionComplete{Sequence: sequence}
	connect := func(t *testing.T, r *room, uri string) *wire {
		w := r.connect(t)
		w.say("ff fb e8"+hostsList, 1<<20)
		w.send(vspc.DoProxy{Direction: vspc.Client, ServiceURI: uri})
		w.say(vcUUID+vmName+otherAnswer, 1<<20)
		w.hears()
		return w
	}
	for test, play := range map[string]func(t *testing.T, r *room, sources, targets [2]*wire){
		"both complete": func(t *testing.T, r *room, sources, targets [2]*wire) {
			targets[1].send(complete)
			targets[1].gets("for 1")
			targets[0].gets("")
			targets[0].send(complete)
			targets[0].gets("for 0")
			for i, w := range targets {
				w.guest(fmt.Sprintf("from %d", i))
			}
		},
		"one aborts": func(t *testing.T, r *room, sources, targets [2]*wire) {
			sources[0].send(vspc.VMotionAbort{})
			sources[0].gets("for 0")
			targets[1].send(complete)
			targets[1].gets("for 1")
			sources[0].guest("from 0")
			targets[1].guest("from 1")
		},
	} {
		inBubble(t, test, func(t *testing.T) {
			r := newRoom(vspc.Config{})
			sources := [2]*wire{connect(t, r, "uri?0"), connect(t, r, "uri?1")}
			if len(r.sessions) != 2 || r.ears[0].closed != nil {
				t.Fatalf("%d sessions, %v", len(r.sessions), r.kinds())
			}
			secrets := [2][]byte{sources[0].begin(string(sequence)), sources[1].begin(string(sequence))}
			for i, s := range r.sessions {
				s.Send(fmt.Appendf(nil, "for %d", i), nil)
			}
			var targets [2]*wire
			for _, i := range []int{1, 0} {
				targets[i] = r.target(t)
				targets[i].send(vspc.VMotionPeer{SequenceAndSecret: secrets[i]})
				targets[i].gets("", vspc.VMotionPeerOK{Sequence: sequence})
			}
			play(t, r, sources, targets)
			synctest.Wait()
			for i, e := range r.ears {
				if want := fmt.Sprintf("from %d", i); e.String() != want || e.closed != nil {
					t.Errorf("the guest of port %d said %q, %v", i, e, e.closed)
				}
			}
			r.end(t)
		})
	}
}

// collector keeps what a Host's guest got.
type collector struct {
	mu  sync.Mutex
	got []byte
}

func (c *collector) drain(h *vspc.Host) {
	buf := make([]byte, 1024)
	for {
		n, err := h.Read(buf)
		c.mu.Lock()
		c.got = append(c.got, buf[:n]...)
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (c *collector) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.got)
}

// TestHostVariants starts a port, moves it and moves it back, with hosts that differ from the usual one.
func TestHostVariants(t *testing.T) {
	for name, variant := range map[string]vspc.HostVariant{
		"the usual":          {},
		"no AUTHENTICATION":  {NoAuthentication: true},
		"waits for DO 232":   {WaitForDo: true},
		"waits and is plain": {WaitForDo: true, NoAuthentication: true},
		"asks for options":   {AskOptions: true},
		"one byte a write":   {WriteSize: 1},
		"raw UUIDs":          {RawUUIDs: true},
		"strict":             {StrictSequence: true},
		"knows no questions": {Commands: []byte("\x00\x01\x28\x29\x2b\x2c\x2d\x2e\x30\x46\x47\x49\x50\x51")},
	} {
		inBubble(t, name, func(t *testing.T) {
			r := newRoom(vspc.Config{})
			conf := vspc.HostConfig{
				Identity:   vspc.Identity{Name: "vm", VCUUID: "01234567-89AB-CDEF-FEDC-BA9800000000"},
				ServiceURI: "uri", Variant: variant,
			}
			dial := func() net.Conn {
				near, far := net.Pipe()
				go r.Serve(far)
				return near
			}
			h := vspc.NewHost(dial(), conf)
			var guest collector
			go guest.drain(h)
			handshake(t, h)
			synctest.Wait()
			if len(r.sessions) != 1 || r.sessions[0].Identity().VCUUID != "01234567-89ab-cdef-fedc-ba9800000000" {
				t.Fatalf("%d sessions", len(r.sessions))
			}
			want := ""
			for i := range 3 {
				mustWrite(t, h, "up\xff")
				r.sessions[0].Send([]byte("down\xff"), nil)
				synctest.Wait()
				move, err := h.Begin(t.Context(), []byte{0xff, 0xf0, byte(i), 0xff})
				if err != nil {
					t.Fatal(err)
				}
				r.sessions[0].Send([]byte("\xffheld"), nil)
				target := vspc.NewTarget(dial(), conf, move)
				go guest.drain(target)
				if err := target.Peer(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := target.Complete(); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				h.Close()
				h = target
				want += "down\xff\xffheld"
			}
			if guest.String() != want || r.ears[0].String() != "up\xffup\xffup\xff" {
				t.Errorf("the guest got %q and said %q", &guest, r.ears[0])
			}
			h.Close()
			synctest.Wait()
			if !errors.Is(r.ears[0].closed, io.EOF) {
				t.Errorf("the port ended with %v", r.ears[0].closed)
			}
		})
	}
}

// TestReadComesBeforeHandshake has a host whose guest reads before its host has said a word.
func TestReadComesBeforeHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(vspc.Config{})
		near, far := net.Pipe()
		go r.Serve(far)
		conf := vspc.HostConfig{Identity: vspc.Identity{Name: "vm"}}
		conf.Variant.WaitForDo, conf.Variant.NoAuthentication = true, true
		h := vspc.NewHost(near, conf)
		var guest collector
		go guest.drain(h)
		synctest.Wait()
		handshake(t, h)
		h.Close()
		synctest.Wait()
	})
}

func TestSourceIsResetDuringAVMotion(t *testing.T) {
	n := networks(t)["telnet"](t)
	h, session := n.boot(t)
	move, err := h.Begin(t.Context(), []byte{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	session.Send([]byte("held"), nil)
	if err := h.Reset(); err != nil {
		t.Fatal(err)
	}
	target := vspc.NewTarget(n.dial(), n.host, move)
	defer target.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := target.Peer(ctx); err != nil {
		t.Fatal(err)
	}
	if err := target.Complete(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len("held"))
	if _, err := io.ReadFull(target, got); err != nil || string(got) != "held" {
		t.Errorf("the guest got %q, %v", got, err)
	}
}
