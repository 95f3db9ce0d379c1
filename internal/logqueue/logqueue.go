// Package logqueue keeps whoever reads a log slowly, or not at all, from holding up those who write to it.
package logqueue

import (
	"bytes"
	"context"
	"io"
	"sync"
)

// Limit is how many bytes wait at most: some thousand lines, for a reader that is late by seconds. One that has stalled
// must not cost the memory that VMs need.
const Limit = 1 << 20

// Queue passes lines on to a writer that may block. It is an io.Writer that never does. Its methods may be called at once.
type Queue struct {
	to     io.Writer
	report func(lost int) []byte
	ended  chan struct{} // closed when all is written, after Close

	mu     sync.Mutex
	more   sync.Cond // there is something to do
	lines  []byte
	held   int // len(lines), and what is being written
	lost   int // since the last report
	closed bool
}

// New returns a Queue to w, with a goroutine that Close ends. Where lines were lost for want of room, w gets what report
// returns for their number: a line that says so. Lines that w does not take, as a full disk, are lost too.
func New(w io.Writer, report func(lost int) []byte) *Queue {
	q := &Queue{to: w, report: report, ended: make(chan struct{})}
	q.more.L = &q.mu
	go q.run()
	return q
}

// Write takes one line, with its line feed, whole or not at all. Once there is no room for one, the next are lost too until
// all that waited is written, so that the gap is one, and the report stands in it. What is lost is no error.
func (q *Queue) Write(line []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return 0, io.ErrClosedPipe
	case q.lost > 0 || len(line) > Limit-q.held:
		q.lost++
	default:
		q.lines = append(q.lines, line...)
		q.held += len(line)
	}
	q.more.Signal()
	return len(line), nil
}

// Close takes no more lines, and returns when those that wait are written, or else, with its error, when ctx is done. The
// goroutine then ends when the writer no longer blocks.
func (q *Queue) Close(ctx context.Context) error {
	q.mu.Lock()
	q.closed = true
	q.more.Signal()
	q.mu.Unlock()
	select {
	case <-q.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (q *Queue) run() {
	defer close(q.ended)
	unsaid := 0 // lines lost that the log does not have a report of
	for {
		lines, lost := q.next()
		unsaid = q.say(unsaid + lost)
		if lines == nil && lost == 0 {
			return
		}
		// One at a time, as a log's lines are written without a queue: a pipe keeps each whole, whoever else writes there.
		for line := range bytes.Lines(lines) {
			if unsaid = q.say(unsaid); unsaid > 0 {
				unsaid++
			} else if _, err := q.to.Write(line); err != nil {
				unsaid++
			}
			q.mu.Lock()
			q.held -= len(line)
			q.mu.Unlock()
		}
	}
}

// say writes the report of lost lines, if there are any, and returns how many of them it could not tell of.
func (q *Queue) say(lost int) int {
	if lost > 0 {
		if _, err := q.to.Write(q.report(lost)); err != nil {
			return lost
		}
	}
	return 0
}

// next waits for lines, or the number of those that were lost behind them; with neither, the queue is closed.
func (q *Queue) next() (lines []byte, lost int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.lines) == 0 && q.lost == 0 && !q.closed {
		q.more.Wait()
	}
	if len(q.lines) > 0 {
		lines, q.lines = q.lines, nil
		return lines, 0
	}
	lost, q.lost = q.lost, 0
	return nil, lost
}
