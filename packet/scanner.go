package packet

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
)

// What can be wrong with a frame.
var (
	ErrBadCode   = errors.New("the code is not 1 to 32 of A-Z, 0-9 and _, followed by #")
	ErrBadBase64 = errors.New("the data is not base64 with padding")
	ErrTooLong   = errors.New("the line is too long")
)

// Frame is one line of the protocol.
type Frame struct {
	// Code is well formed, or empty. With an Err it is as much as could be made out.
	Code Code
	// Data is decoded. It is valid until the next call of Next, or until the bytes given to Next are used again.
	Data []byte
	// Err is nil, or one of ErrBadCode, ErrBadBase64 and ErrTooLong; Data is then nil. It concerns this frame alone.
	Err error
}

// IsRequest says whether a server owes an answer: bad-request, where Err is set.
func (f Frame) IsRequest() bool { return f.Code.IsRequest() }

// Stats counts what a Scanner saw.
type Stats struct {
	Frames  uint64 // well-formed frames
	Damaged uint64 // frames with an Err
	Noise   uint64 // lines without a frame in them; empty lines don't count
}

// Scanner is a push parser for frames. The zero value is ready, with MaxLine as its limit. Between two lines, and
// inside noise, it holds no memory; inside a line no more than the limit.
type Scanner struct {
	// Limit is the longest line in bytes, without its end and without the bytes that are dropped wherever they
	// stand; 0 means MaxLine. What goes beyond is thrown away, and the frame is reported with ErrTooLong. It may be
	// changed at any time.
	Limit int

	stats    Stats
	partial  []byte // the line so far, from its last "!!" on; nil if there was none
	bang     bool   // the line so far ends with '!'
	length   int    // of the line so far, noise included
	long     bool   // the line went over the limit
	found    bool   // there was a frame in what the limit left of it, with longCode
	longCode Code
}

// Stats returns the counts since the start.
func (s *Scanner) Stats() Stats { return s.stats }

// Reset forgets the line that has begun, as after the line was opened again. Counts stay.
func (s *Scanner) Reset() { *s = Scanner{Limit: s.Limit, stats: s.stats} }

// Next takes bytes from the front of in, up to and with the end of the first line that has a frame. It returns the
// frame and what is left of in. ok is false when all of in was taken and there was no frame, or none that is
// complete. Next decodes in place, so it overwrites what it took. The same frames come out however the bytes are cut.
func (s *Scanner) Next(in []byte) (frame Frame, rest []byte, ok bool) {
	for len(in) > 0 {
		end := bytes.IndexByte(in, '\n')
		if end < 0 {
			s.add(in)
			break
		}
		line := in[:end]
		in = in[end+1:]
		if s.length == 0 {
			frame, ok = s.line(compact(line))
		} else {
			s.add(line)
			frame, ok = s.end()
		}
		if ok {
			return frame, in, true
		}
	}
	return Frame{}, nil, false
}

func (s *Scanner) limit() int {
	if s.Limit > 0 {
		return s.Limit
	}
	return MaxLine
}

// line parses a line that came in one piece.
func (s *Scanner) line(line []byte) (Frame, bool) {
	if len(line) == 0 {
		return Frame{}, false
	}
	long := len(line) > s.limit()
	if long {
		line = line[:s.limit()]
	}
	start := bytes.LastIndex(line, mark)
	if start < 0 {
		s.stats.Noise++
		return Frame{}, false
	}
	if long {
		code, _, err := split(line[start:])
		return s.report(Frame{Code: code, Err: ErrTooLong}, err)
	}
	return s.parse(line[start:])
}

// add takes bytes of a line whose end is not there yet.
func (s *Scanner) add(in []byte) {
	in = compact(in)
	if len(in) == 0 || s.long {
		return
	}
	if room := max(0, s.limit()-s.length); len(in) > room {
		s.keep(in[:room])
		s.long = true
		if s.partial != nil {
			code, _, err := split(s.partial)
			s.longCode, s.found = code, err != errNoise
		}
		s.partial = nil
		s.length = s.limit()
		return
	}
	s.length += len(in)
	s.keep(in)
}

// keep holds in, and what was held already, from the last "!!" on.
func (s *Scanner) keep(in []byte) {
	if len(in) == 0 {
		return
	}
	last := in[len(in)-1] == '!'
	switch start := bytes.LastIndex(in, mark); {
	case start >= 0:
		s.partial = s.grow(s.partial[:0], in[start:])
	case s.bang && in[0] == '!':
		s.partial = s.grow(s.partial[:0], mark[:1])
		s.partial = s.grow(s.partial, in)
	case s.partial != nil:
		s.partial = s.grow(s.partial, in)
	}
	s.bang = last
}

// grow appends without taking more memory than the limit.
func (s *Scanner) grow(dst, in []byte) []byte {
	if need := len(dst) + len(in); need > cap(dst) {
		dst = append(make([]byte, 0, max(need, min(2*cap(dst), s.limit()))), dst...)
	}
	return append(dst, in...)
}

// end parses what add took, and makes room for the next line.
func (s *Scanner) end() (Frame, bool) {
	partial, long, found, code := s.partial, s.long, s.found, s.longCode
	s.partial, s.bang, s.length, s.long, s.found, s.longCode = nil, false, 0, false, false, ""
	switch {
	case long && found:
		return s.report(Frame{Code: code, Err: ErrTooLong}, nil)
	case long || partial == nil:
		s.stats.Noise++
		return Frame{}, false
	}
	return s.parse(partial)
}

func (s *Scanner) parse(line []byte) (Frame, bool) {
	code, text, err := split(line)
	if err != nil {
		return s.report(Frame{Code: code, Err: err}, err)
	}
	n, err := strict.Decode(text, text)
	if err != nil {
		return s.report(Frame{Code: code, Err: ErrBadBase64}, nil)
	}
	s.stats.Frames++
	return Frame{Code: code, Data: text[:n:n]}, true
}

func (s *Scanner) report(frame Frame, err error) (Frame, bool) {
	if err == errNoise {
		s.stats.Noise++
		return Frame{}, false
	}
	s.stats.Damaged++
	return frame, true
}

// errNoise is split's: a line that only looks like a frame. It never leaves the package.
var errNoise = errors.New("noise")

// split takes a line that begins with "!!" apart. What is no frame is noise, unless it was meant to be a request or
// an answer.
func split(line []byte) (code Code, text []byte, err error) {
	body := line[len(mark):]
	n := 0
	for n < min(len(body), MaxCode) && isCode(body[n]) {
		n++
	}
	code = intern(body[:n])
	switch {
	case n > 0 && n < len(body) && body[n] == '#':
		return code, body[n+1:], nil
	case code.IsRequest() || code.IsResponse():
		return code, nil, ErrBadCode
	}
	return "", nil, errNoise
}

var mark = []byte("!!")

// strict refuses set bits behind the data's end: what it takes encodes to the same text again.
var strict = base64.StdEncoding.Strict()

func isCode(c byte) bool { return 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' }

// intern makes a Code without taking memory for those that are known.
func intern(b []byte) Code {
	switch string(b) {
	case string(RequestMetaData):
		return RequestMetaData
	case string(RequestNetworkData):
		return RequestNetworkData
	case string(RequestUserData):
		return RequestUserData
	case string(RequestVendorData):
		return RequestVendorData
	case string(RequestHello):
		return RequestHello
	case string(RequestChunk):
		return RequestChunk
	case string(RequestReport):
		return RequestReport
	case string(ResponseChunk):
		return ResponseChunk
	}
	return Code(b)
}

// compact takes out, in place, what UART drivers and cooked ttys put between the bytes of a line.
func compact(line []byte) []byte {
	const dropped = "\r\x00\x11\x13" // CR, NUL, XON, XOFF
	first := len(line)
	for i := range len(dropped) {
		if at := bytes.IndexByte(line[:first], dropped[i]); at >= 0 {
			first = at
		}
	}
	kept := line[:first]
	for _, c := range line[first:] {
		if c != '\r' && c != 0 && c != 0x11 && c != 0x13 {
			kept = append(kept, c)
		}
	}
	return kept
}

// Reader takes frames from an io.Reader.
type Reader struct {
	// Scanner holds the limit and the counts.
	Scanner Scanner
	source  io.Reader
	buffer  []byte
	rest    []byte
	err     error // came with the bytes of rest
}

// NewReader returns a Reader of lines up to limit, 0 meaning MaxLine. That is enough for requests; answers, of
// MaxChunk or of a whole document, can be longer: see FrameLen.
func NewReader(source io.Reader, limit int) *Reader {
	return &Reader{Scanner: Scanner{Limit: limit}, source: source, buffer: make([]byte, 16<<10)}
}

// ReadFrame returns the next frame, whose Data is valid until the next call. An error is the source's, unchanged: a
// caller whose source has deadlines goes on after one, and loses nothing. A line that the source's end cuts is no frame.
func (r *Reader) ReadFrame() (Frame, error) {
	for {
		var frame Frame
		var ok bool
		if frame, r.rest, ok = r.Scanner.Next(r.rest); ok {
			return frame, nil
		}
		if err := r.err; err != nil {
			r.err = nil
			return Frame{}, err
		}
		var n int
		n, r.err = r.source.Read(r.buffer)
		r.rest = r.buffer[:n]
	}
}
