package vspc_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vmw-cloudinit-metadata/telnet"
	"vmw-cloudinit-metadata/vspc"
)

// TestMovesLoseNothing moves a port at random moments, in random ways, and holds what the guest and the receiver get
// against what was sent. VMOTION_MOVES sets how many moves there are; VMOTION_SEED repeats the moves of one failure.
func TestMovesLoseNothing(t *testing.T) {
	moves := number(t, "VMOTION_MOVES", 4000)
	const perWorld = 50
	if seed := number(t, "VMOTION_SEED", -1); seed >= 0 {
		synctest.Test(t, func(t *testing.T) { newWorld(t, uint64(seed)).run(perWorld) })
		return
	}
	for seed := range uint64(moves / perWorld) {
		synctest.Test(t, func(t *testing.T) { newWorld(t, seed).run(perWorld) })
		if t.Failed() {
			t.Fatalf("repeat this with VMOTION_SEED=%d", seed)
		}
	}
}

func number(t *testing.T, variable string, fallback int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return fallback
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// station is a host's end of one connection. It reads no more than it is given credit for.
type station struct {
	conn net.Conn
	done chan struct{} // closed when it reads no more

	mu       sync.Mutex
	more     sync.Cond
	credit   int
	decoder  telnet.Decoder
	data     []byte
	messages []vspc.Message
	failed   error // what the proxy sent that no telnet has
}

func (w *world) connect() *station {
	ours, theirs := net.Pipe()
	s := &station{conn: ours, done: make(chan struct{})}
	s.more.L = &s.mu
	go w.room.Serve(theirs)
	go s.read()
	s.write(telnet.AppendNegotiation(nil, telnet.WILL, vspc.Option))
	return s
}

func (s *station) read() {
	defer close(s.done)
	buf := make([]byte, 64<<10)
	for {
		s.mu.Lock()
		for s.credit == 0 {
			s.more.Wait()
		}
		n := min(s.credit, len(buf))
		s.mu.Unlock()
		n, err := s.conn.Read(buf[:n])
		s.mu.Lock()
		s.credit -= n
		for in := buf[:n]; len(in) > 0; {
			ev, used, err := s.decoder.Next(in)
			if err != nil {
				s.failed = err
				break
			}
			in = in[used:]
			switch ev.Kind {
			case telnet.Data:
				s.data = append(s.data, ev.Bytes...)
			case telnet.Subnegotiation:
				m, err := vspc.Parse(bytes.Clone(ev.Bytes))
				if err != nil {
					s.failed = err
				}
				s.messages = append(s.messages, m)
			}
		}
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// allow lets the station read n bytes more.
func (s *station) allow(n int) {
	s.mu.Lock()
	s.credit += n
	s.more.Signal()
	s.mu.Unlock()
	synctest.Wait()
}

// write never blocks for long: the proxy always reads. It fails when the proxy has closed the connection.
func (s *station) write(p []byte) { s.conn.Write(p) }

func (s *station) say(messages ...vspc.Message) {
	var out []byte
	for _, m := range messages {
		out = vspc.Append(out, m)
	}
	s.write(out)
}

func (s *station) close() {
	s.conn.Close()
	s.allow(1)
	<-s.done
}

// takeData returns the guest's data that was read since the last call.
func (s *station) takeData() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	data := s.data
	s.data = nil
	return data
}

// await reads until the proxy has sent a command of the given kind.
func (s *station) await(w *world, command vspc.Command) vspc.Message {
	for range 1 << 16 {
		s.mu.Lock()
		for i, m := range s.messages {
			if m.Command() == command {
				s.messages = append(s.messages[:i:i], s.messages[i+1:]...)
				s.mu.Unlock()
				return m
			}
		}
		s.mu.Unlock()
		s.allow(1 + w.random.IntN(4096))
	}
	w.t.Fatalf("no %v came", command)
	return nil
}

// world is one port and all that is known of what it should have heard and said.
type world struct {
	t       *testing.T
	random  *rand.Rand
	room    *room
	at      *station // where the VM runs
	session *vspc.Session
	ears    *ears
	used    [][]byte // secrets that are good for nothing any more

	sent     []byte // for the guest
	received []byte // by the guest
	said     []byte // by the guest
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, random: rand.New(rand.NewPCG(seed, 2)), room: newRoom(vspc.Config{})}
	w.powerOn()
	return w
}

// powerOn connects the port as a host does for a VM that starts.
func (w *world) powerOn() {
	w.at = w.connect()
	w.at.say(
		vspc.KnownSuboptions1{Commands: fullList},
		vspc.DoProxy{Direction: vspc.Client, ServiceURI: "x"},
		vspc.VMVCUUID{Text: uuidText}, vspc.VMName{Name: "vm"}, vspc.VMBIOSUUID{}, vspc.VMLocationUUID{},
	)
	w.at.await(w, vspc.CmdWillProxy)
	synctest.Wait()
	w.session, w.ears = w.room.sessions[len(w.room.sessions)-1], w.room.ears[len(w.room.ears)-1]
	w.sent, w.received, w.said = nil, nil, nil
}

func (w *world) run(moves int) {
	ways := []func(){
		w.moves, w.moves, w.movesWithoutWaiting, w.sourceEndsFirst, w.aborts, w.resumes, w.beginsAgain, w.targetEnds,
		w.expires, w.isReplayed, w.powerCycles, w.comesAnew,
	}
	for range moves {
		w.talk()
		ways[w.random.IntN(len(ways))]()
		w.check()
		if w.t.Failed() {
			return
		}
	}
	w.finish()
}

// talk lets both sides say something, some of which stays on its way.
func (w *world) talk() {
	for range w.random.IntN(4) {
		switch w.random.IntN(3) {
		case 0:
			w.send()
		case 1:
			w.say(w.at)
		case 2:
			w.read(w.random.IntN(3000))
		}
	}
}

// send sends the guest something that is rich in bytes that telnet treats in its own way.
func (w *world) send() {
	sizes := []int{1, 2, 5, 100, 5000, 20000}
	data := make([]byte, 1+w.random.IntN(sizes[w.random.IntN(len(sizes))]))
	for i := range data {
		data[i] = "\xff\xf0\x00\r\nabcdefgh"[w.random.IntN(13)]
		if w.random.IntN(8) == 0 {
			data[i] = byte(w.random.Uint32())
		}
	}
	send := w.session.Send
	if w.random.IntN(3) == 0 {
		data = bytes.ReplaceAll(data, []byte{0xff}, []byte("y"))
		send = w.session.SendText
	}
	w.sent = append(w.sent, data...)
	send(data, nil)
}

func (w *world) say(s *station) {
	data := fmt.Appendf(nil, "%d\xff!", w.random.IntN(1000))
	w.said = append(w.said, data...)
	s.write(telnet.AppendData(nil, data))
	synctest.Wait()
}

// read lets the VM's host read n bytes, and gives the guest what was in them.
func (w *world) read(n int) {
	w.at.allow(n)
	w.received = append(w.received, w.at.takeData()...)
}

func (w *world) sequence() []byte {
	sequence := make([]byte, w.random.IntN(9))
	for i := range sequence {
		sequence[i] = "\xff\xf0\x00\x01"[w.random.IntN(4)]
	}
	return sequence
}

// begin begins a vMotion. What the host reads up to GOAHEAD is still the guest's.
func (w *world) begin() (sequence, secret []byte) {
	sequence = w.sequence()
	w.at.say(vspc.VMotionBegin{Sequence: sequence})
	secret = w.at.await(w, vspc.CmdVMotionGoAhead).(vspc.VMotionGoAhead).SequenceAndSecret
	w.received = append(w.received, w.at.takeData()...)
	if w.random.IntN(2) == 0 {
		w.send()
	}
	w.at.allow(w.random.IntN(5000))
	if data := w.at.takeData(); len(data) > 0 {
		w.t.Errorf("%d bytes came to the source behind GOAHEAD", len(data))
	}
	return sequence, secret
}

// arrive connects a target that shows the secret.
func (w *world) arrive(secret []byte) *station {
	b := w.connect()
	b.say(vspc.KnownSuboptions1{Commands: fullList}, vspc.VMotionPeer{SequenceAndSecret: secret})
	w.used = append(w.used, secret)
	b.await(w, vspc.CmdVMotionPeerOK)
	b.allow(w.random.IntN(2000))
	if data := b.takeData(); len(data) > 0 {
		w.t.Errorf("%d bytes came to the target ahead of COMPLETE", len(data))
	}
	return b
}

// goOn makes b the VM's host.
func (w *world) goOn(b *station, sequence []byte) {
	a := w.at
	b.say(vspc.VMotionComplete{Sequence: sequence})
	if w.random.IntN(2) == 0 {
		w.say(b)
	}
	synctest.Wait()
	w.at = b
	a.close()
}

func (w *world) moves() {
	sequence, secret := w.begin()
	w.goOn(w.arrive(secret), sequence)
}

func (w *world) movesWithoutWaiting() {
	sequence, secret := w.begin()
	b := w.connect()
	w.used = append(w.used, secret)
	b.say(vspc.KnownSuboptions1{Commands: fullList}, vspc.VMotionPeer{SequenceAndSecret: secret}, vspc.VMotionComplete{Sequence: sequence})
	w.say(b)
	a := w.at
	w.at = b
	b.await(w, vspc.CmdVMotionPeerOK)
	a.close()
}

func (w *world) sourceEndsFirst() {
	sequence, secret := w.begin()
	var b *station
	if w.random.IntN(2) == 0 {
		b = w.arrive(secret)
		w.at.close()
	} else {
		w.at.close()
		b = w.arrive(secret)
	}
	w.goOn(b, sequence)
}

func (w *world) aborts() {
	_, secret := w.begin()
	if w.random.IntN(2) == 0 {
		defer w.arrive(secret).close()
	}
	w.used = append(w.used, secret)
	w.at.say(vspc.VMotionAbort{})
	synctest.Wait()
}

func (w *world) resumes() {
	sequence, secret := w.begin()
	w.say(w.at)
	w.talk()
	if w.random.IntN(2) == 0 {
		return // the secret stays good, and nobody comes for it
	}
	b := w.arrive(secret)
	w.received = append(w.received, w.at.takeData()...)
	w.goOn(b, sequence)
}

func (w *world) beginsAgain() {
	_, first := w.begin()
	if w.random.IntN(2) == 0 {
		defer w.arrive(first).close()
	}
	w.used = append(w.used, first)
	w.moves()
}

func (w *world) targetEnds() {
	_, secret := w.begin()
	w.arrive(secret).close()
	if w.random.IntN(2) == 0 {
		w.at.say(vspc.VMotionAbort{})
	} else {
		w.say(w.at)
	}
	synctest.Wait()
}

func (w *world) expires() {
	_, secret := w.begin()
	if w.random.IntN(2) == 0 {
		defer w.arrive(secret).close()
	}
	w.used = append(w.used, secret)
	time.Sleep(vspc.DefaultSecretLifetime)
	synctest.Wait()
}

// isReplayed lets somebody show what he has seen before.
func (w *world) isReplayed() {
	if len(w.used) == 0 {
		return
	}
	secret := w.used[w.random.IntN(len(w.used))]
	intruder := w.connect()
	defer intruder.close()
	intruder.say(vspc.KnownSuboptions1{Commands: fullList}, vspc.VMotionPeer{SequenceAndSecret: secret}, vspc.VMotionComplete{Sequence: secret[:len(secret)-8]})
	intruder.write([]byte("intruder"))
	intruder.await(w, vspc.CmdUnknownSuboption2)
	intruder.allow(1 << 16)
	if data := intruder.takeData(); len(data) > 0 {
		w.t.Errorf("an intruder got %d bytes", len(data))
	}
}

// powerCycles ends the connection, and with it the session, as a host does that is reset.
func (w *world) powerCycles() {
	w.at.close()
	synctest.Wait()
	w.over(nil)
	w.powerOn()
}

// comesAnew connects the port again while its former connection seems alive.
func (w *world) comesAnew() {
	old, oldEars := w.at, w.ears
	w.received = append(w.received, w.at.takeData()...)
	w.over(func() { w.powerOn() })
	if !errors.Is(oldEars.closed, vspc.ErrReplaced) {
		w.t.Errorf("the former session ended with %v", oldEars.closed)
	}
	old.close()
}

// over checks a session that ends with data on its way: what was received is the front of what was sent.
func (w *world) over(end func()) {
	sent, received, said, ears := w.sent, slices.Concat(w.received, w.at.takeData()), w.said, w.ears
	if end != nil {
		end()
	}
	if !bytes.HasPrefix(sent, received) {
		w.t.Errorf("the guest got what was not sent, at byte %d of %d", differ(sent, received), len(sent))
	}
	if got := ears.String(); got != string(said) {
		w.t.Errorf("the guest said %q, heard was %q", said, got)
	}
}

// check holds what has arrived against what was sent. Now and then all of it has to arrive.
func (w *world) check() {
	w.t.Helper()
	if w.random.IntN(4) == 0 {
		w.settle()
	}
	if err := w.at.failed; err != nil {
		w.t.Errorf("the proxy sent what telnet does not have: %v", err)
	}
	if !bytes.HasPrefix(w.sent, w.received) {
		w.t.Errorf("the guest got what was not sent, at byte %d of %d", differ(w.sent, w.received), len(w.sent))
	}
	if got := w.ears.String(); got != string(w.said) {
		w.t.Errorf("the guest said %q, heard was %q", w.said, got)
	}
}

// settle reads all that is on its way.
func (w *world) settle() {
	w.read(1 << 20)
	if !bytes.Equal(w.sent, w.received) {
		w.t.Errorf("%d bytes were sent, %d received; they differ at %d", len(w.sent), len(w.received), differ(w.sent, w.received))
	}
}

func (w *world) finish() {
	w.settle()
	w.at.close()
	if err := w.room.Shutdown(w.t.Context()); err != nil {
		w.t.Error(err)
	}
	time.Sleep(vspc.DefaultSecretLifetime)
}

func differ(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
