package simulator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"vmw-cloudinit-metadata/vspc"
)

// Moves counts migrations by how they ended.
type Moves struct {
	Done, Refused, Late, Failed int
	// Longest of what was measured of those that were done.
	Longest Times
	// LastError says why the last one failed that did.
	LastError error
}

// MoveEvery moves the VM again and again until ctx is done or the port is closed or lost, and returns what came of it.
func (p *Port) MoveEvery(ctx context.Context, interval time.Duration) Moves {
	var moves Moves
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return moves
		case <-ticker.C:
		}
		// A migration that has begun is brought to its end.
		times, err := p.Move(context.WithoutCancel(ctx))
		if ctx.Err() != nil && err != nil {
			return moves
		}
		if !moves.count(times, err) {
			return moves
		}
	}
}

// count reports whether the port is still there.
func (m *Moves) count(times Times, err error) (alive bool) {
	_, alive = errors.AsType[targetError](err)
	switch {
	case err == nil:
		m.Done++
		m.Longest.Consent = max(m.Longest.Consent, times.Consent)
		m.Longest.Stunned = max(m.Longest.Stunned, times.Stunned)
		return true
	case errors.Is(err, vspc.ErrNotNow):
		m.Refused++
		alive = true
	case errors.Is(err, vspc.ErrVMotionLimit):
		m.Late++
		alive = true
	default:
		m.Failed++
	}
	m.LastError = err
	return alive
}

// String is one line for a person.
func (m Moves) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d moves", m.Done)
	if m.Done > 0 {
		fmt.Fprintf(&b, " (longest wait for the server's consent %v, longest standstill %v)",
			m.Longest.Consent.Round(10*time.Microsecond), m.Longest.Stunned.Round(10*time.Microsecond))
	}
	fmt.Fprintf(&b, ", %d refused, %d too late, %d failed", m.Refused, m.Late, m.Failed)
	if m.LastError != nil {
		fmt.Fprintf(&b, "; the last reason: %v", m.LastError)
	}
	return b.String()
}
