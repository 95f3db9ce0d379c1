package packet

import (
	"bytes"
	"testing"
)

func TestScannerHoldsNothingBetweenLines(t *testing.T) {
	var s Scanner
	piece := make([]byte, 4096)
	feed := func(text string) {
		in := piece[:copy(piece, text)]
		for ok := true; ok; {
			_, in, ok = s.Next(in)
		}
	}
	for _, text := range []string{"", "noise without an end", " and more of it", "\n!!REQUEST_", "METADATA#\n"} {
		feed(text)
		if holds := s.partial != nil; holds != (text == "\n!!REQUEST_") {
			t.Errorf("after %q: %d bytes held", text, cap(s.partial))
		}
	}
	feed("!!REQUEST_X#")
	most := 0
	for range 1024 {
		for i := range piece {
			piece[i] = 'A'
		}
		s.Next(piece)
		most = max(most, cap(s.partial))
	}
	if most > MaxLine {
		t.Errorf("%d bytes held, and the limit is %d", most, MaxLine)
	}
	if s.partial != nil {
		t.Errorf("%d bytes held of a line that is thrown away", cap(s.partial))
	}
	if frame, _, ok := s.Next(bytes.Clone([]byte("\n"))); !ok || frame.Err != ErrTooLong || frame.Code != "REQUEST_X" {
		t.Errorf("got %+v, %v", frame, ok)
	}
}
