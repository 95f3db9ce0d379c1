package vspc_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"vmw-cloudinit-metadata/vspc"
)

// ears is a receiver that remembers what it heard.
type ears struct {
	mu     sync.Mutex
	heard  []byte
	closed error
}

func (e *ears) Receive(p []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = append(e.heard, p...)
}

func (e *ears) Closed(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = err
}

func (e *ears) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return string(e.heard)
}

// room is a Concentrator and what it noticed.
type room struct {
	*vspc.Concentrator
	mu       sync.Mutex
	sessions []*vspc.Session
	ears     []*ears
	events   []vspc.Event
}

func newRoom(cfg vspc.Config) *room {
	r := new(room)
	cfg.Open = func(s *vspc.Session) vspc.Receiver {
		r.mu.Lock()
		defer r.mu.Unlock()
		e := new(ears)
		r.sessions, r.ears = append(r.sessions, s), append(r.ears, e)
		return e
	}
	cfg.Notify = func(ev vspc.Event) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, ev)
	}
	r.Concentrator = vspc.NewConcentrator(cfg)
	return r
}

// count returns how many ports were opened.
func (r *room) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sessions)
}

func (r *room) kinds() (kinds []vspc.EventKind) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ev := range r.events {
		kinds = append(kinds, ev.Kind)
	}
	return kinds
}

// wire is a host's end of a connection that is played by hand, in a synctest bubble.
type wire struct {
	t     *testing.T
	conn  net.Conn
	mu    sync.Mutex
	got   []byte
	eof   bool
	ended error // what Serve returned
}

// connect starts a connection to the room.
func (r *room) connect(t *testing.T) *wire {
	ours, theirs := net.Pipe()
	w := &wire{t: t, conn: ours}
	go func() {
		err := r.Serve(theirs)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ended = err
	}()
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := ours.Read(buf)
			w.mu.Lock()
			w.got = append(w.got, buf[:n]...)
			w.eof = err != nil
			w.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return w
}

// say sends bytes, given in hexadecimal, chunk by chunk.
func (w *wire) say(hex string, chunk int) {
	w.t.Helper()
	for rest := unhex(w.t, hex); len(rest) > 0; {
		n := min(chunk, len(rest))
		if _, err := w.conn.Write(rest[:n]); err != nil {
			w.t.Fatalf("write: %v", err)
		}
		rest = rest[n:]
	}
}

// hears returns what has come since the last call.
func (w *wire) hears() []byte {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	got := w.got
	w.got = nil
	return got
}

func (w *wire) wants(hex string) {
	w.t.Helper()
	if got, want := w.hears(), unhex(w.t, hex); !bytes.Equal(got, want) {
		w.t.Errorf("heard % x\n want % x", got, want)
	}
}

func (w *wire) err() error {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ended
}

// close ends the connection as the host.
func (w *wire) close() {
	w.conn.Close()
	synctest.Wait()
}

// The parts of the conversation that stay the same.
const (
	greeting    = "ff fb 00 ff fb 03 ff fb 01 ff fd 00 ff fd 03 ff fd e8"
	ourList     = "ff fa e8 01 00 01 02 03 28 29 2b 2c 2d 2e 30 46 47 49 50 51 52 53 54 55 56 57 ff f0"
	hostsList   = "ff fa e8 00 00 01 02 03 28 29 2b 2c 2d 2e 30 46 47 49 50 51 54 55 56 57 52 53 ff f0"
	questions   = "ff fa e8 51 ff f0 ff fa e8 53 ff f0 ff fa e8 55 ff f0 ff fa e8 57 ff f0"
	doProxy     = "ff fa e8 46 53 76 53 50 43 2e 70 79 ff f0" // server, vSPC.py
	vcUUID      = "ff fa e8 50 " + uuidHex + "ff f0"
	biosUUID    = "ff fa e8 54 " + uuidHex + "ff f0"
	locUUID     = "ff fa e8 56 " + uuidHex + "ff f0"
	vmName      = "ff fa e8 52 76 6d 2d 30 30 30 30 30 ff f0"
	hello       = "68 65 6c 6c 6f"
	otherAnswer = biosUUID + locUUID
)

// turn is what the host says, and what it hears then.
type turn struct{ host, proxy string }

var startUps = map[string][]turn{
	"captured": {
		{"", greeting},
		{"ff fb 25", "ff fe 25"},
		{"ff fd 00", ""},
		{"ff fd 03 ff fd 01 ff fb 00", ""},
		{"ff fb 03", ""},
		{"ff fb e8", ourList},
		{hostsList + doProxy, questions + "ff fa e8 47 ff f0"},
		{vcUUID, ""},
		{vmName, ""},
		{otherAnswer, ""},
		{"ff fb 2c", "ff fe 2c"},
		{hello, ""},
	},
	"specified": {
		{"", greeting},
		{"ff fb e8", ourList},
		{hostsList, questions},
		{doProxy, "ff fa e8 47 ff f0"},
		{vcUUID + vmName + otherAnswer, ""},
		{hello, ""},
	},
	"the host begins and takes no notice of us": {
		{"ff fb e8 ff fb 00 ff fd 00 ff fb 03 ff fd 03 ff fd 01 ff fb 25 ff fb 2c", greeting + ourList + "ff fe 25 ff fe 2c"},
		{doProxy, "ff fa e8 47 ff f0"},
		{hello, ""},
		{hostsList, questions},
		{otherAnswer + vmName + vcUUID, ""},
	},
	"DO-PROXY comes last": {
		{"ff fb e8", greeting + ourList},
		{hostsList, questions},
		{vcUUID + vmName + otherAnswer, ""},
		{doProxy, "ff fa e8 47 ff f0"},
		{hello, ""},
	},
	"a list that begins with questions": {
		{"ff fb e8", greeting + ourList},
		{"ff fa e8 00 51 53 55 57 00 01 46 47 49 50 52 54 56 ff f0" + doProxy, questions + "ff fa e8 47 ff f0"},
		{vcUUID + vmName + otherAnswer, ""},
		{hello, ""},
	},
	"a host that does not know all questions": {
		{"", greeting},
		{"ff fb e8", ourList},
		{"ff fa e8 00 00 01 46 47 49 50 51 52 53 ff f0" + doProxy, "ff fa e8 51 ff f0 ff fa e8 53 ff f0 ff fa e8 47 ff f0"},
		{vcUUID + vmName, ""},
		{hello, ""},
	},
	"a host that does not answer what it said it would": {
		{"ff fb e8", greeting + ourList},
		{hostsList + doProxy, questions + "ff fa e8 47 ff f0"},
		{vcUUID + vmName + "ff fa e8 02 55 ff f0 ff fa e8 02 57 ff f0", ""},
		{hello, ""},
	},
	"an unknown command": {
		{"ff fb e8", greeting + ourList},
		{"ff fa e8 63 01 02 ff f0 ff fa e8 ff ff ff f0", "ff fa e8 03 63 ff f0 ff fa e8 03 ff ff ff f0"},
		{hostsList + doProxy + vcUUID + vmName + otherAnswer + hello, questions + "ff fa e8 47 ff f0"},
	},
}

func TestStartUp(t *testing.T) {
	for name, turns := range startUps {
		for _, chunk := range []int{1, 7, 1 << 20} {
			t.Run(fmt.Sprintf("%s, %d at a time", name, chunk), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRoom(vspc.Config{})
					w := r.connect(t)
					for _, turn := range turns {
						w.say(turn.host, chunk)
						w.wants(turn.proxy)
					}
					r.checkOpened(t)
					w.close()
				})
			})
		}
		t.Run(name+", in one write", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRoom(vspc.Config{})
				w := r.connect(t)
				var host, proxy strings.Builder
				for _, turn := range turns {
					host.WriteString(turn.host)
					proxy.WriteString(turn.proxy)
				}
				w.say(host.String(), 1<<20)
				w.wants(proxy.String())
				r.checkOpened(t)
				w.close()
				if err := w.err(); !errors.Is(err, io.EOF) {
					t.Errorf("Serve returned %v", err)
				}
			})
		})
	}
}

func (r *room) checkOpened(t *testing.T) {
	t.Helper()
	if len(r.sessions) != 1 {
		t.Fatalf("%d sessions are open, events %v", len(r.sessions), r.kinds())
	}
	id := r.sessions[0].Identity()
	if id.Name != "vm-00000" || id.VCUUID != "01234567-89ab-cdef-fedc-ba9800000000" {
		t.Errorf("identity %+v", id)
	}
	if uri := r.sessions[0].DoProxy().ServiceURI; uri != "vSPC.py" {
		t.Errorf("service URI %q", uri)
	}
	if got := r.ears[0].String(); got != "hello" {
		t.Errorf("the guest said %q", got)
	}
}
