package telnet_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"vmw-cloudinit-metadata/telnet"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// decode feeds the chunks to a new decoder and returns what came out, one line an event; adjacent data is joined.
func decode(limit int, chunks ...[]byte) (events []string, err error) {
	d := telnet.Decoder{MaxSubnegotiation: limit}
	var data []byte
	flush := func() {
		if len(data) > 0 {
			events = append(events, fmt.Sprintf("data % x", data))
			data = nil
		}
	}
	for _, chunk := range chunks {
		chunk = bytes.Clone(chunk) // the decoder's events may point into it
		for len(chunk) > 0 {
			ev, n, err := d.Next(chunk)
			if err != nil {
				flush()
				return events, err
			}
			switch ev.Kind {
			case telnet.Data:
				if len(ev.Bytes) == 0 {
					events = append(events, "data of no bytes")
				}
				data = append(data, ev.Bytes...)
			case telnet.Negotiation:
				flush()
				events = append(events, fmt.Sprint(ev.Command, " ", ev.Option))
			case telnet.Subnegotiation:
				flush()
				events = append(events, fmt.Sprintf("SB %v % x", ev.Option, ev.Bytes))
			case telnet.Function:
				flush()
				events = append(events, fmt.Sprint(ev.Command))
			}
			chunk = chunk[n:]
		}
	}
	flush()
	return events, nil
}

func bytewise(p []byte) [][]byte { return slices.Collect(slices.Chunk(p, 1)) }

func TestDecoder(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		want     []string
		err      string
	}{
		{"data", "61 62 00 11 0d 0a f0", []string{"data 61 62 00 11 0d 0a f0"}, ""},
		{"doubled IAC", "61 ff ff ff ff 62 ff ff", []string{"data 61 ff ff 62 ff"}, ""},
		{"negotiation", "ff fb 25 61 ff fd 00 ff fe 03 ff fc e8", []string{"WILL AUTHENTICATION", "data 61", "DO BINARY", "DONT SUPPRESS-GO-AHEAD", "WONT option 232"}, ""},
		{"functions", "ff f1 61 ff f9 ff 05", []string{"NOP", "data 61", "GA", "command 5"}, ""},
		{"subnegotiation", "ff fa e8 47 ff f0 61", []string{"SB option 232 47", "data 61"}, ""},
		{"no parameters", "ff fa e8 ff f0", []string{"SB option 232 "}, ""},
		{"IAC and SE in parameters", "ff fa e8 29 ff ff ff ff f0 ff ff 11 22 33 ff ff ff f0", []string{"SB option 232 29 ff ff f0 ff 11 22 33 ff"}, ""},
		{"SE in parameters", "ff fa e8 f0 f0 01 ff f0", []string{"SB option 232 f0 f0 01"}, ""},
		{"option 255", "ff fa ff ff 01 ff f0", []string{"SB option 255 01"}, ""},
		{"two in a row", "ff fa e8 47 ff f0 ff fa e8 49 ff f0", []string{"SB option 232 47", "SB option 232 49"}, ""},
		{"longest allowed", "ff fa e8 01 02 03 04 05 06 07 08 ff ff ff f0", []string{"SB option 232 01 02 03 04 05 06 07 08 ff"}, ""},
		{"a byte too long", "61 ff fa e8 01 02 03 04 05 06 07 08 09 ff ff ff f0", []string{"data 61"}, "more than 9 bytes"},
		{"a byte too long, and no IAC in it", "ff fa e8 01 02 03 04 05 06 07 08 09 0a ff f0 61", nil, "more than 9 bytes"},
		{"never ends", "ff fa e8 01 02 03 04 05 06 07 08 09 0a", nil, "more than 9 bytes"},
		{"empty body", "ff fa ff f0", nil, "without an option"},
		{"command inside", "ff fa e8 01 ff fb 01", nil, "WILL inside a subnegotiation of option 232"},
		{"SE outside", "61 ff f0", []string{"data 61"}, "never began"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := unhex(t, tc.in)
			for how, chunks := range map[string][][]byte{"whole": {in}, "bytewise": bytewise(in)} {
				got, err := decode(9, chunks...)
				if !slices.Equal(got, tc.want) {
					t.Errorf("%s: got %q, want %q", how, got, tc.want)
				}
				if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
					t.Errorf("%s: error %v, want %q", how, err, tc.err)
				}
				var protocol *telnet.ProtocolError
				if err != nil && !errors.As(err, &protocol) {
					t.Errorf("%s: %T is not a ProtocolError", how, err)
				}
			}
		})
	}
}

func TestDecoderTakesNoMemoryForWholeEvents(t *testing.T) {
	in := unhex(t, "61 ff ff 62 ff fb 25 ff fa e8 52 76 6d ff f0 63")
	var d telnet.Decoder
	if allocs := testing.AllocsPerRun(100, func() {
		for rest := in; len(rest) > 0; {
			_, n, err := d.Next(rest)
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// FuzzDecoder checks that the chunking changes nothing, and that data and parameters survive the way through encoder
// and decoder.
func FuzzDecoder(f *testing.F) {
	for _, seed := range []string{"61ffff62", "fffb25fffde8", "fffae829ffffffffffff1122fffff0fff0", "fffae8fff0fffaff", "fff0", "ffff"} {
		f.Add(unhex(f, seed), uint64(1))
	}
	f.Fuzz(func(t *testing.T, in []byte, seed uint64) {
		const limit = 64
		whole, wholeErr := decode(limit, in)
		random := rand.New(rand.NewPCG(seed, 0))
		var chunks [][]byte
		for rest := in; len(rest) > 0; {
			n := 1 + random.IntN(min(len(rest), 5))
			chunks, rest = append(chunks, rest[:n]), rest[n:]
		}
		cut, cutErr := decode(limit, chunks...)
		if !slices.Equal(whole, cut) || fmt.Sprint(wholeErr) != fmt.Sprint(cutErr) {
			t.Errorf("whole: %q, %v\nin pieces: %q, %v", whole, wholeErr, cut, cutErr)
		}

		params := in[:min(len(in), limit)]
		wire := telnet.AppendSubnegotiation(telnet.AppendData(nil, in), 232, params)
		want := []string{fmt.Sprintf("data % x", in), fmt.Sprintf("SB option 232 % x", params)}
		if len(in) == 0 {
			want = want[1:]
		}
		begun := telnet.BeginSubnegotiation(telnet.AppendData(nil, in), 232)
		if inPlace := telnet.EndSubnegotiation(append(begun, params...), len(begun)); !bytes.Equal(inPlace, wire) {
			t.Errorf("encoded in place: % x, want % x", inPlace, wire)
		}
		if got, err := decode(limit, wire); err != nil || !slices.Equal(got, want) {
			t.Errorf("there and back: %q, %v; want %q", got, err, want)
		}
	})
}
