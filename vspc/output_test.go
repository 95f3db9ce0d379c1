package vspc

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"

	"vmw-cloudinit-metadata/telnet"
)

// linkOnPipe returns a link with an open session, and the end of the pipe that it writes to.
func linkOnPipe(t *testing.T) (*link, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	unused, other := net.Pipe()
	t.Cleanup(func() {
		r.Close()
		w.Close()
		other.Close()
	})
	l := newLink(NewConcentrator(Config{}), unused)
	if l.raw, err = w.SyscallConn(); err != nil {
		t.Fatal(err)
	}
	s := l.session.Load()
	s.phase, s.receiver = open, discard{}
	return l, r
}

// TestPartialWritesSplitNoFF writes to a pipe, which takes whole pages, so that a write ends between an FF and its
// double; a command for the host has to come behind both.
func TestPartialWritesSplitNoFF(t *testing.T) {
	for offset := range 4 {
		l, r := linkOnPipe(t)
		s := l.session.Load()
		data := bytes.Repeat([]byte("x"), offset)
		random := rand.New(rand.NewPCG(uint64(offset), 0))
		for range 200 << 10 {
			data = append(data, "\xff\xff\xffab"[random.IntN(5)])
		}
		handed := make(chan error, 1)
		s.Send(data, func(err error) { handed <- err })
		var got []byte
		var d telnet.Decoder
		notNow := 0
		for len(got) < len(data) || notNow < 3 {
			if len(got) > 50<<10*(notNow+1) && notNow < 3 || len(got) == len(data) {
				l.sendMessage(VMotionNotNow{Sequence: []byte{iac}})
			}
			buf := make([]byte, 4096)
			n, err := r.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			for in := buf[:n]; len(in) > 0; {
				ev, used, err := d.Next(in)
				if err != nil {
					t.Fatal(err)
				}
				switch ev.Kind {
				case telnet.Data:
					got = append(got, ev.Bytes...)
				case telnet.Subnegotiation:
					notNow++
				case telnet.Negotiation, telnet.Function:
					t.Fatalf("%+v in the stream", ev)
				}
				in = in[used:]
			}
		}
		if !bytes.Equal(got, data) {
			t.Fatalf("offset %d: %d bytes came of %d", offset, len(got), len(data))
		}
		if err := <-handed; err != nil {
			t.Error(err)
		}
	}
}

// TestTextAmongBytes has text between bytes that have to be doubled, on a pipe that takes them in parts.
func TestTextAmongBytes(t *testing.T) {
	l, r := linkOnPipe(t)
	s := l.session.Load()
	text, bytes255 := bytes.Repeat([]byte("text\n"), 50<<10), bytes.Repeat([]byte{iac}, 100<<10)
	var want []byte
	for range 2 {
		s.SendText(text, nil)
		s.Send(bytes255, nil)
		want = append(append(want, text...), telnet.AppendData(nil, bytes255)...)
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("something else came (%v)", err)
	}
}

func TestUnescaped(t *testing.T) {
	data := []byte{'a', iac, iac, 'b'}
	wire := telnet.AppendData(nil, data)
	for n, want := range []struct {
		consumed int
		split    bool
	}{{0, false}, {1, false}, {2, true}, {2, false}, {3, true}, {3, false}, {4, false}} {
		if consumed, split := unescaped(data, len(wire), n); consumed != want.consumed || split != want.split {
			t.Errorf("unescaped(%d) = %d, %v; want %v", n, consumed, split, want)
		}
	}
}
