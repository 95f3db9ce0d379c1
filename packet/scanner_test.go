package packet_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"vmw-cloudinit-metadata/packet"
)

// frames scans data cut into pieces of n bytes, and keeps copies of what comes out.
func frames(s *packet.Scanner, data []byte, n int) []packet.Frame {
	var out []packet.Frame
	data = bytes.Clone(data)
	for len(data) > 0 {
		piece := data[:min(n, len(data))]
		data = data[len(piece):]
		for {
			frame, rest, ok := s.Next(piece)
			if !ok {
				break
			}
			frame.Data = bytes.Clone(frame.Data)
			out = append(out, frame)
			piece = rest
		}
	}
	return out
}

func TestScanner(t *testing.T) {
	const limit = 40
	full := "!!REQUEST_X#" + strings.Repeat("A", limit-len("!!REQUEST_X#"))
	for _, tc := range []struct {
		name, in string
		want     []packet.Frame
		noise    uint64
	}{
		{name: "request", in: "!!REQUEST_METADATA#\n", want: []packet.Frame{{Code: packet.RequestMetaData, Data: []byte{}}}},
		{name: "data", in: "!!RESPONSE_USERDATA#aGVsbG8=\n", want: []packet.Frame{{Code: packet.ResponseUserData, Data: []byte("hello")}}},
		{name: "two", in: "!!A#\n!!B_2#\n", want: []packet.Frame{{Code: "A", Data: []byte{}}, {Code: "B_2", Data: []byte{}}}},
		{name: "no line end yet", in: "!!REQUEST_METADATA#"},
		{name: "empty lines are no noise", in: "\n\r\n\x11\n\n"},
		{name: "carriage return", in: "!!REQUEST_USERDATA#\r\n", want: []packet.Frame{{Code: packet.RequestUserData, Data: []byte{}}}},
		{name: "dropped bytes everywhere", in: "\x00!\x11!RE\rQUEST_\x13X#aGV\r\x00sbG8=\x11\n", want: []packet.Frame{{Code: "REQUEST_X", Data: []byte("hello")}}},
		{name: "prompt ahead", in: "web1 login: !!REQUEST_USERDATA#\n", want: []packet.Frame{{Code: packet.RequestUserData, Data: []byte{}}}},
		{name: "the last mark counts", in: "!!REQUEST_A#!!REQUEST_B#!!!!C#YQ==\n", want: []packet.Frame{{Code: "C", Data: []byte("a")}}},
		{name: "three marks", in: "!!!C#\n", want: []packet.Frame{{Code: "C", Data: []byte{}}}},
		{name: "noise", in: "[    1.2] usb: new device\nDone!!\nwow!! great#\n!!#\n!\n!!!\n", noise: 6},
		{name: "one mark is none", in: "x!REQUEST_A#\n!REQUEST_A#\n!x!REQUEST_A#\n", noise: 3},
		{name: "no number sign", in: "!!REQUEST_METADATA\n", want: []packet.Frame{{Code: packet.RequestMetaData, Err: packet.ErrBadCode}}},
		{name: "lower case", in: "!!REQUEST_Meta#\n", want: []packet.Frame{{Code: "REQUEST_M", Err: packet.ErrBadCode}}},
		{name: "longest code", in: "!!" + strings.Repeat("X", 32) + "#\n", want: []packet.Frame{{Code: packet.Code(strings.Repeat("X", 32)), Data: []byte{}}}},
		{name: "code too long", in: "!!REQUEST_" + strings.Repeat("X", 25) + "#\n", want: []packet.Frame{{Code: packet.Code("REQUEST_" + strings.Repeat("X", 24)), Err: packet.ErrBadCode}}},
		{name: "code too long, no request", in: "!!" + strings.Repeat("X", 33) + "#\n", noise: 1},
		{name: "no padding", in: "!!REQUEST_X#YQ\n", want: []packet.Frame{{Code: "REQUEST_X", Err: packet.ErrBadBase64}}},
		{name: "bits behind the end", in: "!!REQUEST_X#YR==\n", want: []packet.Frame{{Code: "REQUEST_X", Err: packet.ErrBadBase64}}},
		{name: "second number sign", in: "!!REQUEST_X##\n", want: []packet.Frame{{Code: "REQUEST_X", Err: packet.ErrBadBase64}}},
		{name: "at the limit", in: full + "\n", want: []packet.Frame{{Code: "REQUEST_X", Data: make([]byte, 21)}}},
		{name: "dropped bytes don't count", in: "\r\r\r" + full + "\r\n", want: []packet.Frame{{Code: "REQUEST_X", Data: make([]byte, 21)}}},
		{name: "over the limit", in: full + "A\n!!A#\n", want: []packet.Frame{{Code: "REQUEST_X", Err: packet.ErrTooLong}, {Code: "A", Data: []byte{}}}},
		{name: "far over the limit", in: full + strings.Repeat("!!REQUEST_Y#", 20) + "\n!!A#\n", want: []packet.Frame{{Code: "REQUEST_X", Err: packet.ErrTooLong}, {Code: "A", Data: []byte{}}}},
		{name: "long noise", in: strings.Repeat("x", 100) + "!!REQUEST_A#\n!!A#\n", want: []packet.Frame{{Code: "A", Data: []byte{}}}, noise: 1},
		{name: "mark cut by the limit", in: strings.Repeat("x", limit-1) + "!!A#\n", noise: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for n := 1; n <= len(tc.in); n++ {
				s := &packet.Scanner{Limit: limit}
				got := frames(s, []byte(tc.in), n)
				if !equal(got, tc.want) {
					t.Fatalf("in pieces of %d: got %+v, want %+v", n, got, tc.want)
				}
				if s.Stats().Noise != tc.noise {
					t.Fatalf("in pieces of %d: %d lines of noise, want %d", n, s.Stats().Noise, tc.noise)
				}
				if sum := s.Stats().Frames + s.Stats().Damaged; sum != uint64(len(tc.want)) {
					t.Fatalf("in pieces of %d: counted %d frames, want %d", n, sum, len(tc.want))
				}
			}
		})
	}
}

func equal(a, b []packet.Frame) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Code != b[i].Code || a[i].Err != b[i].Err || !bytes.Equal(a[i].Data, b[i].Data) {
			return false
		}
	}
	return true
}

// Decoding in place leans on how encoding/base64 goes about it; this holds it to that, for each length it may take.
func TestInPlaceDecoding(t *testing.T) {
	data := make([]byte, 300)
	for i := range data {
		data[i] = byte(i*7 + 3)
	}
	for n := range len(data) {
		var s packet.Scanner
		got := frames(&s, packet.AppendFrame(nil, "A", data[:n]), 1<<20)
		if len(got) != 1 || !bytes.Equal(got[0].Data, data[:n]) {
			t.Fatalf("%d bytes did not survive: %+v", n, got)
		}
	}
}

func TestScannerTakesNoMemoryForRequests(t *testing.T) {
	var s packet.Scanner
	buffer := make([]byte, 256)
	allocs := testing.AllocsPerRun(100, func() {
		in := buffer[:copy(buffer, "noise!\r\n!!REQUEST_METADATA#\r\n!!REQUEST_CHUNK#aGVsbG8=\n")]
		for n := 0; ; n++ {
			_, rest, ok := s.Next(in)
			if !ok {
				if n != 2 {
					t.Fatalf("%d frames", n)
				}
				return
			}
			in = rest
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations, want none", allocs)
	}
}

func TestScannerReset(t *testing.T) {
	for _, begun := range []string{"!!REQUEST_META", "!", strings.Repeat("!!REQUEST_", packet.MaxLine)} {
		s := packet.Scanner{Limit: 100}
		frames(&s, []byte("noise\n"+begun), 1000)
		s.Reset()
		want := packet.Stats{Frames: 1, Noise: 2}
		if got := frames(&s, []byte("!DATA#\n!!A#\n"), 1000); len(got) != 1 || got[0].Code != "A" || s.Stats() != want || s.Limit != 100 {
			t.Errorf("after %.20q: got %+v, %+v", begun, got, s)
		}
	}
}

func TestReader(t *testing.T) {
	const in = "login: !!RESPONSE_METADATA#YQ==\r\n\n!!RESPONSE_USERDATA#Yg==\ncut off"
	for name, source := range map[string]io.Reader{
		"whole":          strings.NewReader(in),
		"bytes":          iotest.OneByteReader(strings.NewReader(in)),
		"data and error": iotest.DataErrReader(strings.NewReader(in)),
		"interrupted":    iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader(in))),
	} {
		r := packet.NewReader(source, 0)
		var got []string
		for {
			frame, err := r.ReadFrame()
			if errors.Is(err, iotest.ErrTimeout) {
				continue
			}
			if err != nil {
				if err != io.EOF {
					t.Errorf("%s: %v", name, err)
				}
				break
			}
			got = append(got, fmt.Sprintf("%s %s", frame.Code, frame.Data))
		}
		if want := []string{"RESPONSE_METADATA a", "RESPONSE_USERDATA b"}; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// dropped are the bytes that a receiver takes out.
var dropped = regexp.MustCompile("[\r\x00\x11\x13]")

func FuzzScanner(f *testing.F) {
	f.Add([]byte("!!REQUEST_METADATA#\nlogin: !!REQUEST_X#aGVsbG8=\r\n"), 1)
	f.Add([]byte("!!!REQUEST_A!!\x00#\n!!RESPONSE_B#YR==\n"), 3)
	f.Add([]byte("!!REQUEST_A#"+strings.Repeat("A", 200)+"\n!!B#\n"), 7)
	f.Fuzz(func(t *testing.T, in []byte, n int) {
		if n < 1 {
			n = 1
		}
		whole, pieces := &packet.Scanner{Limit: 64}, &packet.Scanner{Limit: 64}
		want := frames(whole, in, max(1, len(in)))
		if got := frames(pieces, in, n); !equal(got, want) || whole.Stats() != pieces.Stats() {
			t.Fatalf("in pieces of %d: got %+v (%+v), want %+v (%+v)", n, got, pieces.Stats(), want, whole.Stats())
		}
		for _, frame := range want {
			if len(frame.Code) > packet.MaxCode || len(frame.Data) > 64 {
				t.Fatalf("beyond the limits: %+v", frame)
			}
			if frame.Err != nil {
				continue
			}
			text := packet.AppendFrame(nil, frame.Code, frame.Data)
			if bytes.ContainsFunc(text, func(r rune) bool { return r > 0x7e }) {
				t.Fatalf("%q is not text", text)
			}
			if len(text) != packet.FrameLen(frame.Code, len(frame.Data)) {
				t.Fatalf("FrameLen is wrong for %q", text)
			}
			line := bytes.TrimSuffix(text, []byte("\n"))
			if !bytes.Contains(dropped.ReplaceAll(in, nil), line) {
				t.Fatalf("prints as %q, which was not in the input", text)
			}
			if again := frames(&packet.Scanner{}, text, 5); !equal(again, []packet.Frame{frame}) {
				t.Fatalf("printed as %q, which reads as %+v", text, again)
			}
		}
	})
}

func BenchmarkScanner(b *testing.B) {
	for _, size := range []int{0, 16 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			line := packet.AppendFrame(nil, packet.ResponseChunk, make([]byte, size))
			in := make([]byte, len(line))
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			var s packet.Scanner
			for b.Loop() {
				copy(in, line)
				if _, _, ok := s.Next(in); !ok {
					b.Fatal("no frame")
				}
			}
		})
	}
}
