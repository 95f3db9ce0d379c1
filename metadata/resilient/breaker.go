package resilient

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"vmw-cloudinit-metadata/metadata"
)

// ErrOpen means that the driver was not even asked, since it failed again and again just now.
var ErrOpen = errors.New("the driver is left alone after its failures")

// breaker leaves a driver alone that fails.
type breaker struct {
	failures int
	cooldown time.Duration
	changed  func(open bool, err error)

	mu      sync.Mutex
	failing map[metadata.VM]struct{} // since the last success
	open    bool
	until   time.Time
	trying  bool // one call is out to see whether it works again
	cause   error
	news    []change // not yet told to changed
	telling bool     // a call of leave is at it
}

type change struct {
	open bool
	err  error
}

// enter says whether the driver may be called, and if so whether as a trial. A call that it allows ends in leave.
func (b *breaker) enter() (trial bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return false, nil
	}
	if wait := time.Until(b.until); wait > 0 {
		return false, fmt.Errorf("%w; next try in %s; the last was: %w", ErrOpen, wait.Round(time.Millisecond), b.cause)
	}
	if b.trying {
		return false, fmt.Errorf("%w; a try is under way; the last was: %w", ErrOpen, b.cause)
	}
	b.trying = true
	return true, nil
}

// leave takes the outcome of a call; quit means that the caller left, and that it says nothing. What changes by it is
// told in order: while one call of leave does that, others leave theirs to it.
func (b *breaker) leave(vm metadata.VM, err error, trial, quit bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if opened, closed := b.record(vm, err, trial, quit); (opened || closed) && b.changed != nil {
		b.news = append(b.news, change{opened, err})
	}
	if b.telling {
		return
	}
	b.telling = true
	defer func() { b.telling = false }()
	for len(b.news) > 0 {
		first := b.news[0]
		b.news = b.news[1:]
		b.tell(first)
	}
}

// tell lets go of mu for the call of changed, which may come back here.
func (b *breaker) tell(c change) {
	b.mu.Unlock()
	defer b.mu.Lock()
	b.changed(c.open, c.err)
}

// record needs mu.
func (b *breaker) record(vm metadata.VM, err error, trial, quit bool) (opened, closed bool) {
	if trial {
		b.trying = false
	}
	switch {
	case err == nil || isAnswer(err):
		closed = b.open
		b.open, b.cause = false, nil
		clear(b.failing)
	case quit || b.failures < 0:
	case trial:
		b.until, b.cause = time.Now().Add(b.cooldown), err
	case !b.open:
		b.failing[vm] = struct{}{}
		if opened = len(b.failing) >= b.failures; opened {
			b.open, b.until, b.cause = true, time.Now().Add(b.cooldown), err
		}
	}
	return opened, closed
}
