// Package guesttest has a metadata server for tests of its clients: one VM's, on any line, as good or as bad as a test
// wants it. And a line that is as bad.
package guesttest

import (
	"errors"
	"io"
	"maps"
	"sync"
	"time"

	"vmw-cloudinit-metadata/packet"
)

// Server answers one VM. Its fields may be changed under Do.
type Server struct {
	// Documents are what the VM gets.
	Documents map[packet.Document][]byte
	// Edition is raised by whoever changes Documents under a transfer.
	Edition int
	// Old makes it a server of version 1: a hello is not answered, nor is a request for what there is not.
	Old bool
	// Strict makes an Old one answer what it doesn't know with bad-request.
	Strict bool
	// Mute makes it answer nothing.
	Mute bool
	// Fail, if set, is the answer to all but reports.
	Fail packet.ErrorCode
	// Delay is how long each answer takes.
	Delay time.Duration
	// Stale makes it answer each request for a chunk with stale.
	Stale bool
	// MaxChunk is as in packet.Offer.
	MaxChunk int
	// Rewrite, if set, gets each answer before it is sent, and runs as under Do; nil sends nothing.
	Rewrite func(code packet.Code, data []byte) []byte

	mu      sync.Mutex
	offer   *packet.Offer
	edition int // the offer's
	hellos  []packet.Hello
	reports []packet.Report
	served  int64
	counts  map[packet.Code]int
}

// Do runs f while the server answers nothing.
func (s *Server) Do(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// Forget makes the server another one, that knows of no transfer.
func (s *Server) Forget() { s.Do(func() { s.offer = nil }) }

// Hellos returns the hellos that arrived.
func (s *Server) Hellos() (hellos []packet.Hello) {
	s.Do(func() { hellos = append(hellos, s.hellos...) })
	return hellos
}

// Reports returns the reports that arrived.
func (s *Server) Reports() (reports []packet.Report) {
	s.Do(func() { reports = append(reports, s.reports...) })
	return reports
}

// Served returns how many bytes of chunks were sent.
func (s *Server) Served() (n int64) {
	s.Do(func() { n = s.served })
	return n
}

// Count returns how many requests of a code arrived whole.
func (s *Server) Count(code packet.Code) (n int) {
	s.Do(func() { n = s.counts[code] })
	return n
}

// Serve answers what comes from the line until it ends.
func (s *Server) Serve(line io.ReadWriter) error {
	r := packet.NewReader(line, 0)
	for {
		frame, err := r.ReadFrame()
		if err != nil {
			return err
		}
		if !frame.IsRequest() {
			continue
		}
		var delay time.Duration
		s.Do(func() { delay = s.Delay })
		if delay > 0 {
			<-time.After(delay)
		}
		var answer []byte
		s.Do(func() { answer = s.answer(frame) })
		if _, err := line.Write(answer); err != nil {
			return err
		}
	}
}

func (s *Server) answer(frame packet.Frame) []byte {
	if s.counts == nil {
		s.counts = map[packet.Code]int{}
	}
	if s.Mute {
		return nil
	}
	code, data := s.respond(frame)
	if s.Rewrite != nil && data != nil {
		data = s.Rewrite(code, data)
	}
	if data == nil {
		return nil
	}
	return packet.AppendFrame(nil, code, data)
}

func (s *Server) respond(frame packet.Frame) (packet.Code, []byte) {
	no := func(code packet.ErrorCode, text string) (packet.Code, []byte) {
		e := packet.Error{Request: frame.Code, Code: code, Message: text}
		return packet.ResponseError, e.Append(nil)
	}
	if frame.Err != nil {
		if s.Old && !s.Strict {
			return "", nil
		}
		return no(packet.BadRequest, frame.Err.Error())
	}
	s.counts[frame.Code]++
	name, document := frame.Code.Document()
	if s.Fail != "" && frame.Code != packet.RequestReport && !(s.Old && !document) {
		return no(s.Fail, "told to")
	}
	if document {
		data, ok := s.Documents[name]
		switch {
		case ok:
			return frame.Code.Response(), append([]byte{}, data...)
		case s.Old && !s.Strict:
			return "", nil
		}
		return no(packet.NotFound, "no such document")
	}
	if s.Old {
		if s.Strict {
			return no(packet.BadRequest, "unknown request")
		}
		return "", nil
	}
	switch frame.Code {
	case packet.RequestHello:
		hello, err := packet.ParseHello(frame.Data)
		if err != nil {
			return no(packet.BadRequest, err.Error())
		}
		s.hellos, s.edition = append(s.hellos, *hello), s.Edition
		if s.offer, err = packet.NewOffer(maps.Clone(s.Documents), hello.Accepts(packet.Gzip)); err != nil {
			return no(packet.Invalid, err.Error())
		}
		reply, err := s.offer.Hello(hello, s.MaxChunk)
		if err != nil {
			return no(packet.BadRequest, err.Error())
		}
		return packet.ResponseHello, reply.Append(nil)
	case packet.RequestChunk:
		request, err := packet.ParseChunkRequest(frame.Data)
		if err != nil {
			return no(packet.BadRequest, err.Error())
		}
		if s.offer == nil || s.edition != s.Edition || s.Stale {
			return no(packet.Stale, "say hello")
		}
		chunk, err := s.offer.Chunk(request, s.MaxChunk)
		if refused, ok := errors.AsType[*packet.Error](err); ok {
			return packet.ResponseError, refused.Append(nil)
		}
		s.served += int64(len(chunk.Data))
		return packet.ResponseChunk, chunk.Append(nil)
	case packet.RequestReport:
		report, err := packet.ParseReport(frame.Data)
		if err != nil {
			return no(packet.BadRequest, err.Error())
		}
		s.reports = append(s.reports, *report)
		return packet.ResponseReport, []byte("{}")
	}
	return no(packet.BadRequest, "unknown request")
}
