package server

import (
	"context"
	"errors"
	"hash/maphash"
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
	Opened       atomic.Int64 // ports ever
	Requests     atomic.Int64
	Answers      atomic.Int64 // requests answered with what they asked for
	NotFound     atomic.Int64 // and with an error
	Invalid      atomic.Int64
	Unavailable  atomic.Int64
	Denied       atomic.Int64
	BadRequest   atomic.Int64
	Stale        atomic.Int64
	Dropped      atomic.Int64 // requests of guests that do not wait for answers
	Throttled    atomic.Int64 // answers held back, to guests that ask without a pause
	Rejected     atomic.Int64 // connections from addresses not allowed, or over a limit
	Broken       atomic.Int64 // connections ended for what their peer sent, or did not send
	Refused      atomic.Int64 // ports with another URI or direction
	AcceptPauses atomic.Int64 // for want of file descriptors
	Moves        atomic.Int64 // vMotions completed
	MovesFailed  atomic.Int64 // refused, aborted, begun again, expired, or ended by the guest's going on at its source
	PeersRefused atomic.Int64 // wrong, used or expired secrets
}

// Activity counts what makes work: ports that were opened, and requests.
func (s *Stats) Activity() int64 { return s.Opened.Load() + s.Requests.Load() }

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

// tlsFailed takes the end of a connection on which TLS could not be started: the host may not trust the certificate.
func (s *Server) tlsFailed(remote net.Addr, err error) {
	s.stats.Broken.Add(1)
	s.quiet.log(s.log, slog.LevelWarn, "tls "+vicinity(addressOf(remote)), "TLS failed", "remote", remote.String(), "error", err)
}

// left takes the end of a connection.
func (s *Server) left(remote net.Addr, err error) {
	if errors.Is(err, vspc.ErrTLSFailed) {
		s.tlsFailed(remote, err)
		return
	}
	level := slog.LevelDebug
	_, network := errors.AsType[net.Error](err)
	switch {
	case network, errors.Is(err, io.EOF), errors.Is(err, vspc.ErrClosed), errors.Is(err, vspc.ErrMoved),
		errors.Is(err, vspc.ErrReplaced), errors.Is(err, vspc.ErrRefused), errors.Is(err, vspc.ErrMoveEnded):
	default:
		s.stats.Broken.Add(1)
		level = slog.LevelWarn
	}
	if !s.log.Enabled(context.Background(), level) {
		return
	}
	s.quiet.log(s.log, level, "left "+level.String()+" "+vicinity(addressOf(remote)), "connection ended", "remote", remote.String(), "error", err)
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
	case vspc.MoveAborted, vspc.MoveResumed, vspc.MoveRefused, vspc.MoveReplaced, vspc.MoveExpired:
		s.stats.MovesFailed.Add(1)
		level = slog.LevelWarn
	case vspc.PeerRefused:
		s.stats.PeersRefused.Add(1)
		level = slog.LevelWarn
	case vspc.PortReplaced:
		level = slog.LevelWarn
	case vspc.MoveBegun, vspc.MovePeered, vspc.MoveIgnored, vspc.UnknownCommand:
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
	vm := ev.Identity.VCUUID // a name can change endlessly
	switch {
	case vm != "":
	case ev.Remote != nil:
		vm = ev.Remote.String()
	default:
		vm = ev.Identity.Name
	}
	s.quiet.log(s.log, level, ev.Kind.String()+" "+vm+" "+ev.DoProxy.ServiceURI, ev.Kind.String(), attrs...)
}

// sayKey is what lines about vm are kept apart from those about others by.
func sayKey(vm metadata.VM) string {
	for _, id := range []string{vm.UUID, vm.BIOSUUID} {
		if id != "" {
			return id
		}
	}
	return vm.Name
}

// quiet writes at most one line a key in a while, and so many lines of one message, so that nobody can flood the log.
type quiet struct {
	mu       sync.Mutex
	seed     maphash.Seed
	keys     map[uint64]*silence // by hash, since keys have names in them, which can be long
	messages map[string]*silence // texts of ours: a few dozen
}

// silence is what was written lately, and what was not.
type silence struct {
	until      time.Time
	written    int
	suppressed int
}

const (
	// quietFor is how long a line of one key keeps further ones back.
	quietFor = 10 * time.Second
	// maxLines bounds the lines of one message in that time, whatever their keys: a storm of boots still has its lines,
	// and who claims to be ever another VM does not fill the disk.
	maxLines = 2000
	// maxQuietKeys bounds the memory for that: beyond, the keys whose time is over are dropped, and then all are.
	maxQuietKeys = 1 << 14
)

// log writes the line, unless one with the same key was written lately, or too many with the same message. The next
// line that is written says how many were not.
func (q *quiet) log(logger *slog.Logger, level slog.Level, key, message string, attrs ...any) {
	if !logger.Enabled(context.Background(), level) {
		return
	}
	suppressed, ok := q.admit(key, message, time.Now())
	if !ok {
		return
	}
	if suppressed > 0 {
		attrs = append(attrs, "suppressed", suppressed)
	}
	logger.Log(context.Background(), level, message, attrs...)
}

// admit says whether the line may be written, and how many like it were not.
func (q *quiet) admit(key, message string, now time.Time) (suppressed int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.keys == nil {
		q.seed, q.keys, q.messages = maphash.MakeSeed(), make(map[uint64]*silence), make(map[string]*silence)
	}
	hash := maphash.String(q.seed, key)
	byKey := q.keys[hash]
	if byKey != nil && now.Before(byKey.until) {
		byKey.suppressed++
		return 0, false
	}
	byMessage := q.messages[message]
	if byMessage == nil {
		byMessage = new(silence)
		q.messages[message] = byMessage
	}
	if !now.Before(byMessage.until) {
		*byMessage = silence{until: now.Add(quietFor), suppressed: byMessage.suppressed}
	}
	if byMessage.written == maxLines {
		byMessage.suppressed++
		return 0, false
	}
	if byKey == nil {
		q.makeRoom(now)
		byKey = new(silence)
		q.keys[hash] = byKey
	}
	suppressed = byKey.suppressed + byMessage.suppressed
	byMessage.written++
	byMessage.suppressed = 0
	*byKey = silence{until: now.Add(quietFor)}
	return suppressed, true
}

func (q *quiet) makeRoom(now time.Time) {
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
