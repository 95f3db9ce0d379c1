package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/packet"
	"vmw-cloudinit-metadata/vspc"
)

// Stats counts what happens. All fields only grow, but for Ports.
type Stats struct {
	Ports        atomic.Int64 // open now
	Requests     atomic.Int64
	Answers      atomic.Int64 // requests answered with what they asked for
	NotFound     atomic.Int64 // and with an error
	Invalid      atomic.Int64
	Unavailable  atomic.Int64
	Denied       atomic.Int64
	BadRequest   atomic.Int64
	Stale        atomic.Int64
	Dropped      atomic.Int64 // requests of guests that do not wait for answers
	Rejected     atomic.Int64 // connections from addresses not allowed, or over a limit
	Broken       atomic.Int64 // connections ended for what their peer sent, or did not send
	Refused      atomic.Int64 // ports with another URI or direction
	AcceptPauses atomic.Int64 // for want of file descriptors
	Moves        atomic.Int64 // vMotions completed
	MovesFailed  atomic.Int64 // aborted, refused, or never completed
	PeersRefused atomic.Int64 // wrong, used or expired secrets
}

// Stats returns the server's counters.
func (s *Server) Stats() *Stats { return &s.stats }

func (s *Stats) failed(code packet.ErrorCode) {
	switch code {
	case packet.NotFound:
		s.NotFound.Add(1)
	case packet.Invalid:
		s.Invalid.Add(1)
	case packet.Denied:
		s.Denied.Add(1)
	case packet.Stale:
		s.Stale.Add(1)
	case packet.BadRequest:
		s.BadRequest.Add(1)
	default:
		s.Unavailable.Add(1)
	}
}

// Attrs returns all counters for a log line.
func (s *Stats) Attrs() []slog.Attr {
	var attrs []slog.Attr
	for _, c := range []struct {
		name  string
		value *atomic.Int64
	}{
		{"ports", &s.Ports}, {"requests", &s.Requests}, {"answers", &s.Answers}, {"not-found", &s.NotFound},
		{"invalid", &s.Invalid}, {"unavailable", &s.Unavailable}, {"denied", &s.Denied}, {"bad-request", &s.BadRequest},
		{"stale", &s.Stale}, {"dropped", &s.Dropped}, {"rejected", &s.Rejected}, {"broken", &s.Broken},
		{"refused", &s.Refused}, {"accept-pauses", &s.AcceptPauses}, {"vmotions", &s.Moves},
		{"vmotions-failed", &s.MovesFailed}, {"peers-refused", &s.PeersRefused},
	} {
		attrs = append(attrs, slog.Int64(c.name, c.value.Load()))
	}
	return attrs
}

// logged returns a VM as a log line has it.
func logged(vm metadata.VM) slog.Attr {
	attrs := []any{slog.String("name", vm.Name)}
	for _, id := range []struct{ key, value string }{{"uuid", vm.UUID}, {"bios-uuid", vm.BIOSUUID}} {
		if id.value != "" {
			attrs = append(attrs, slog.String(id.key, id.value))
			break
		}
	}
	return slog.Group("vm", attrs...)
}

// left takes the end of a connection.
func (s *Server) left(remote net.Addr, err error) {
	level := slog.LevelDebug
	_, network := errors.AsType[net.Error](err)
	switch {
	case network, errors.Is(err, io.EOF), errors.Is(err, vspc.ErrClosed), errors.Is(err, vspc.ErrMoved),
		errors.Is(err, vspc.ErrReplaced), errors.Is(err, vspc.ErrRefused), errors.Is(err, vspc.ErrMoveEnded):
	default:
		s.stats.Broken.Add(1)
		level = slog.LevelWarn
	}
	s.quiet.log(s.log, level, "left "+addressOf(remote).String(), "connection ended", "remote", remote.String(), "error", err)
}

// notice logs and counts what happens to ports.
func (s *Server) notice(ev vspc.Event) {
	level := slog.LevelInfo
	switch ev.Kind {
	case vspc.PortOpened, vspc.PortClosed:
		level = slog.LevelDebug
	case vspc.PortRefused:
		s.stats.Refused.Add(1)
		level = slog.LevelWarn
	case vspc.MoveCompleted:
		s.stats.Moves.Add(1)
	case vspc.MoveAborted, vspc.MoveResumed, vspc.MoveRefused, vspc.MoveExpired: // each migration ends with one of them
		s.stats.MovesFailed.Add(1)
		level = slog.LevelWarn
	case vspc.PeerRefused:
		s.stats.PeersRefused.Add(1)
		level = slog.LevelWarn
	case vspc.PortReplaced:
		level = slog.LevelWarn
	case vspc.MoveBegun, vspc.MovePeered, vspc.UnknownCommand:
		level = slog.LevelDebug
	}
	if !s.log.Enabled(context.Background(), level) {
		return
	}
	attrs := []any{logged(vmOf(ev.Identity))}
	if ev.Remote != nil {
		attrs = append(attrs, "remote", ev.Remote.String())
	}
	if ev.Former != "" {
		attrs = append(attrs, "former", ev.Former)
	}
	if ev.DoProxy.ServiceURI != "" {
		attrs = append(attrs, "uri", ev.DoProxy.ServiceURI)
	}
	if ev.Err != nil {
		attrs = append(attrs, "reason", ev.Err)
	}
	key := ev.Kind.String() + " " + ev.Identity.VCUUID + " " + ev.Identity.Name + " " + ev.DoProxy.ServiceURI
	s.quiet.log(s.log, level, key, ev.Kind.String(), attrs...)
}

// quiet writes at most one line a key in a while, so that nobody can flood the log.
type quiet struct {
	mu   sync.Mutex
	keys map[string]*silence
}

type silence struct {
	until      time.Time
	suppressed int
}

const (
	// quietFor is how long a line of one key keeps further ones back.
	quietFor = 10 * time.Second
	// maxQuietKeys bounds the memory for that: beyond, the keys whose time is over are dropped, and then all are.
	maxQuietKeys = 1 << 14
)

// log writes the line, unless one with the same key was written lately. The next line that is written says how many
// were not.
func (q *quiet) log(logger *slog.Logger, level slog.Level, key, message string, attrs ...any) {
	if !logger.Enabled(context.Background(), level) {
		return
	}
	now := time.Now()
	q.mu.Lock()
	s := q.keys[key]
	if s != nil && now.Before(s.until) {
		s.suppressed++
		q.mu.Unlock()
		return
	}
	if s == nil {
		q.makeRoom(now)
		s = new(silence)
		q.keys[key] = s
	}
	suppressed := s.suppressed
	*s = silence{until: now.Add(quietFor)}
	q.mu.Unlock()
	if suppressed > 0 {
		attrs = append(attrs, "suppressed", suppressed)
	}
	logger.Log(context.Background(), level, message, attrs...)
}

func (q *quiet) makeRoom(now time.Time) {
	if q.keys == nil {
		q.keys = make(map[string]*silence)
	}
	if len(q.keys) < maxQuietKeys {
		return
	}
	for key, s := range q.keys {
		if !now.Before(s.until) {
			delete(q.keys, key)
		}
	}
	if len(q.keys) >= maxQuietKeys {
		clear(q.keys)
	}
}
