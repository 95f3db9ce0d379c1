// Package workers runs functions in goroutines that are used again. A new goroutine's stack is small, and for a parser
// it is copied several times until it is large enough; a worker's has grown already.
package workers

import (
	"sync"
	"sync/atomic"
)

// Pool runs functions at once, however many. Its methods may be called at once.
type Pool struct {
	maxIdle int64
	work    chan func() // for those who wait
	idle    atomic.Int64
	closing sync.Once
	closed  chan struct{}
}

// New returns a Pool of which at most so many goroutines wait for work. Close it after use.
func New(maxIdle int) *Pool {
	return &Pool{maxIdle: int64(maxIdle), work: make(chan func()), closed: make(chan struct{})}
}

// Go runs f in a goroutine, as a go statement does.
func (p *Pool) Go(f func()) {
	select {
	case p.work <- f:
	default:
		go p.run(f)
	}
}

// Close ends the goroutines that wait, and those that are at work when they have done it.
func (p *Pool) Close() { p.closing.Do(func() { close(p.closed) }) }

func (p *Pool) run(f func()) {
	for f != nil {
		f()
		f = p.next()
	}
}

// next waits for more work; nil if there is enough of those who do, or none to come.
func (p *Pool) next() func() {
	defer p.idle.Add(-1)
	if p.idle.Add(1) > p.maxIdle {
		return nil
	}
	select {
	case f := <-p.work:
		return f
	case <-p.closed:
		return nil
	}
}
