package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
	"weak"

	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/packet"
	"vmw-cloudinit-metadata/vspc"
)

// What may wait while a guest is being answered. An honest guest has one request under way, one of the older kind all
// three; what a guest that does not wait for its answers sends beyond that is dropped, and it has to ask again. Its
// connection stays: closing it would let a guest keep its VM from migrating.
const (
	maxWaiting      = 8
	maxWaitingBytes = packet.MaxLine
)

// How many requests of one guest are answered in a second, for long, and how many at once before that counts. An honest
// guest asks three times, or for one chunk of 16 KiB after the other: what is a second's chunks here takes a serial line a
// minute. One that asks without a pause does not take the processor from others.
const (
	maxRequestRate = 50
	requestBurst   = 400
)

// answers are a guest's, as long as nothing of what they rest on changes.
type answers struct {
	services  weak.Pointer[map[string]metadata.Driver] // the server's, when the driver was asked; not kept, with all they know
	vm        metadata.VM
	known     metadata.Recollection
	rendering *rendering
}

// request is a frame that is owed an answer.
type request struct {
	code packet.Code
	data []byte
	err  error // what is wrong with the frame
}

// guest answers what one port's guest asks: one request at a time, in order. A request is looked up apart from the
// goroutine that reads the port, so that a slow driver never delays a command of the host.
type guest struct {
	server  *Server
	session *vspc.Session
	sent    func(error) // answered, made once

	// For the session's reader, alone.
	scanner packet.Scanner
	last    *answers // what it was answered from

	mu           sync.Mutex
	busy         bool // a request is being looked up, or its answer is on its way
	closed       bool
	waiting      []request
	waitingBytes int
	paid         time.Time // until when the requests so far use up what maxRequestRate allows
	served       bool      // the log has a line of its first answer

	transfer transfer // for whoever answers
}

func newGuest(s *Server, session *vspc.Session) *guest {
	g := &guest{server: s, session: session}
	g.sent = g.answered
	return g
}

// vm is asked for each time, since a VM can be renamed.
func (g *guest) vm() metadata.VM { return vmOf(g.session.Identity()) }

func vmOf(id vspc.Identity) metadata.VM {
	return metadata.VM{Name: id.Name, UUID: id.VCUUID, BIOSUUID: id.BIOSUUID, LocationUUID: id.LocationUUID}
}

// Receive takes the guest's bytes.
func (g *guest) Receive(p []byte) {
	for {
		frame, rest, ok := g.scanner.Next(p)
		if !ok {
			return
		}
		if frame.IsRequest() {
			g.enqueue(request{frame.Code, frame.Data, frame.Err})
		}
		p = rest
	}
}

// Closed drops what waits.
func (g *guest) Closed(error) {
	g.mu.Lock()
	g.closed = true
	g.waiting, g.waitingBytes = nil, 0
	g.mu.Unlock()
	g.server.offers.drop(g)
	g.server.stats.Ports.Add(-1)
}

func (g *guest) isClosed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

func (g *guest) enqueue(r request) {
	g.server.stats.Requests.Add(1)
	g.mu.Lock()
	switch {
	case g.closed:
		g.mu.Unlock()
	case !g.busy:
		g.busy = true
		if pause := g.pause(); pause > 0 {
			r.data = bytes.Clone(r.data)
			g.waiting, g.waitingBytes = append(g.waiting, r), len(r.data)
			g.mu.Unlock()
			g.rest(pause)
			return
		}
		g.mu.Unlock()
		if frame := g.ready(r); frame != nil {
			g.session.SendText(frame, g.sent)
			return
		}
		r.data = bytes.Clone(r.data)
		g.start(r)
	case len(g.waiting) == maxWaiting || g.waitingBytes+len(r.data) > maxWaitingBytes:
		g.mu.Unlock()
		g.dropped()
	default:
		r.data = bytes.Clone(r.data)
		g.waiting = append(g.waiting, r)
		g.waitingBytes += len(r.data)
		g.mu.Unlock()
	}
}

// dropped tells of a request that is dropped. It stands apart for the sake of enqueue's stack: with what is above and below
// it, that fits into 4 KiB, which each connection then has instead of 8.
//
//go:noinline
func (g *guest) dropped() {
	g.server.stats.Dropped.Add(1)
	g.server.quiet.log(g.server.log, slog.LevelWarn, "waiting "+sayKey(g.vm()), "a guest does not wait for its answers; some of its requests are dropped", logged(g.vm()))
}

// ready returns the answer to r if there is no work left to do for it, nor anything to wait for. Most requests are
// such: a guest asks three times for what is looked up once.
func (g *guest) ready(r request) (frame []byte) {
	defer func() {
		if recover() != nil {
			frame = nil // Find is asked then
		}
	}()
	document, ok := r.code.Document()
	if !ok || r.err != nil {
		return nil
	}
	ready := g.recall()
	if ready == nil {
		return nil
	}
	frame = ready.of(document)
	if frame != nil {
		g.server.stats.Answers.Add(1)
		g.logServed(r)
	}
	return frame
}

// recall returns the guest's answers if they are known, and still right.
func (g *guest) recall() *frames {
	services, vm := g.server.services.Load(), g.vm()
	if last := g.last; last != nil && last.services.Value() == services && last.vm == vm && last.known.Instance() != nil {
		if ready := last.rendering.frames.Load(); ready != nil {
			return ready
		}
	}
	g.last = nil
	driver, ok := g.server.driver(g.session.DoProxy().ServiceURI).(metadata.Recaller)
	if !ok {
		return nil
	}
	known := driver.Recall(vm)
	if known == nil {
		return nil
	}
	instance := known.Instance()
	if instance == nil {
		return nil
	}
	rendering := g.server.renderings.kept(vm, instance)
	if rendering == nil {
		return nil
	}
	g.last = &answers{weak.Make(services), vm, known, rendering}
	return rendering.frames.Load()
}

// start answers r in a goroutine of its own.
func (g *guest) start(r request) {
	if !g.server.beginRequest() {
		g.answered(net.ErrClosed)
		return
	}
	g.server.workers.Go(func() {
		defer g.server.requests.Done()
		g.session.SendText(g.answer(r), g.sent)
	})
}

// answered is called when an answer is handed to the network, or none will be any more.
func (g *guest) answered(err error) {
	g.mu.Lock()
	if err != nil || g.closed || len(g.waiting) == 0 {
		g.busy, g.waiting, g.waitingBytes = false, nil, 0
		g.mu.Unlock()
		return
	}
	pause := g.pause()
	g.mu.Unlock()
	if pause > 0 {
		g.rest(pause)
		return
	}
	g.next()
}

// pause counts a request that is about to be answered, and returns how long its answer has to wait. g.mu is held.
func (g *guest) pause() time.Duration {
	now := time.Now()
	if g.paid.Before(now) {
		g.paid = now
	}
	g.paid = g.paid.Add(time.Second / maxRequestRate)
	return g.paid.Sub(now) - requestBurst*time.Second/maxRequestRate
}

// rest answers the first request that waits, after a pause.
func (g *guest) rest(pause time.Duration) {
	g.server.stats.Throttled.Add(1)
	g.server.quiet.log(g.server.log, slog.LevelWarn, "throttled "+sayKey(g.vm()), "a guest asks without a pause; its answers are held back", logged(g.vm()), "most-per-second", maxRequestRate)
	time.AfterFunc(pause, g.next)
}

// next answers the first request that waits.
func (g *guest) next() {
	g.mu.Lock()
	if g.closed || len(g.waiting) == 0 {
		g.busy = false
		g.mu.Unlock()
		return
	}
	r := g.waiting[0]
	g.waiting = g.waiting[1:]
	g.waitingBytes -= len(r.data)
	if len(g.waiting) == 0 {
		g.waiting = nil
	}
	g.mu.Unlock()
	g.start(r)
}

// answer returns the frame for r, whatever happens.
func (g *guest) answer(r request) []byte {
	ctx, cancel := context.WithTimeout(g.server.life, g.server.cfg.RequestTimeout)
	defer cancel()
	frame, err := g.lookUp(ctx, r)
	if err == nil {
		g.server.stats.Answers.Add(1)
		g.logServed(r)
		return frame
	}
	return g.failure(r, g.explain(r, err))
}

// lookUp returns the answer's frame.
func (g *guest) lookUp(ctx context.Context, r request) (frame []byte, err error) {
	defer metadata.CatchPanic(&err)
	if r.err != nil {
		return nil, &packet.Error{Code: packet.BadRequest, Message: r.err.Error()}
	}
	if document, ok := r.code.Document(); ok {
		ready, err := g.render(ctx)
		if err != nil {
			return nil, err
		}
		if frame = ready.of(document); frame == nil {
			return nil, &packet.Error{Code: packet.NotFound, Message: fmt.Sprintf("there is no %s for VM %v", document, g.vm())}
		}
		return frame, nil
	}
	switch r.code {
	case packet.RequestHello:
		return g.hello(ctx, r.data)
	case packet.RequestChunk:
		return g.chunk(ctx, r.data)
	case packet.RequestReport:
		return g.report(r.data)
	}
	return nil, &packet.Error{Code: packet.BadRequest, Message: "there is no such request"}
}

// find asks the driver of the port's service.
func (g *guest) find(ctx context.Context) (metadata.VM, *metadata.Instance, error) {
	vm := g.vm()
	driver := g.server.driver(g.session.DoProxy().ServiceURI)
	if driver == nil {
		return vm, nil, fmt.Errorf("the service %q is no longer configured: %w", g.session.DoProxy().ServiceURI, metadata.ErrNotFound)
	}
	start := time.Now()
	instance, err := driver.Find(ctx, vm)
	took := time.Since(start)
	g.server.lookUps.Observe(took.Seconds())
	if err == nil && instance == nil {
		err = errors.New("the driver returned nothing and no error")
	}
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("the driver did not answer within %v: %w", took.Round(time.Millisecond), err)
	}
	return vm, instance, err
}

// render returns the answers to requests of version 1.
func (g *guest) render(ctx context.Context) (*frames, error) {
	vm, instance, err := g.find(ctx)
	if err != nil {
		return nil, err
	}
	return g.server.renderings.of(vm, instance)
}

// explain makes of an error what the guest is told, and writes the log's line. The guest is told no more than it has
// to know; a driver's error is for the log.
func (g *guest) explain(r request, err error) *packet.Error {
	vm := g.vm()
	if told, ok := errors.AsType[*packet.Error](err); ok {
		level := slog.LevelDebug
		if told.Code == packet.BadRequest || told.Code == packet.Unavailable {
			level = slog.LevelWarn
		}
		g.logFailure(level, r, told.Code, err)
		return told
	}
	if p, ok := errors.AsType[*metadata.PanicError](err); ok {
		g.server.quiet.log(g.server.log, slog.LevelError, "panic "+sayKey(vm), "a request made the server panic", logged(vm), "request", r.code, "panic", err, "stack", string(p.Stack))
		return &packet.Error{Code: packet.Unavailable, Message: "the server failed; its log says why"}
	}
	told := &packet.Error{Code: packet.Unavailable, Message: "the server can't find out now; try again"}
	level := slog.LevelError
	switch {
	case errors.Is(err, metadata.ErrNotFound):
		told.Code, told.Message = packet.NotFound, fmt.Sprintf("nothing is known for VM %v", vm)
		level = slog.LevelWarn
	case errors.Is(err, metadata.ErrDenied):
		told.Code, told.Message = packet.Denied, fmt.Sprintf("VM %v may not have this", vm)
		level = slog.LevelWarn
	case errors.Is(err, metadata.ErrInvalid):
		told.Code, told.Message = packet.Invalid, fmt.Sprintf("the data for VM %v is wrong; the server's log says where", vm)
	}
	g.logFailure(level, r, told.Code, err)
	return told
}

func (g *guest) failure(r request, told *packet.Error) []byte {
	g.server.stats.failed(told.Code)
	told.Request = r.code
	return told.AppendFrame(nil)
}

func (g *guest) logFailure(level slog.Level, r request, code packet.ErrorCode, err error) {
	vm := g.vm()
	g.server.quiet.log(g.server.log, level, "request "+string(code)+" "+sayKey(vm), "request not answered", logged(vm), "request", r.code, "code", code, "error", err)
}

// logServed writes a line for a VM's first answer, and one for debugging for every answer.
func (g *guest) logServed(r request) {
	g.mu.Lock()
	first := !g.served
	g.served = true
	g.mu.Unlock()
	level, ctx := slog.LevelDebug, context.Background()
	if first {
		level = slog.LevelInfo
	}
	if !g.server.log.Enabled(ctx, level) {
		return
	}
	if vm := g.vm(); first {
		g.server.quiet.log(g.server.log, level, "answered "+sayKey(vm), "answered", logged(vm), "request", r.code)
	} else {
		g.server.log.Log(ctx, level, "answered", logged(vm), "request", r.code)
	}
}
