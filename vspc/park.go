package vspc

import (
	"errors"
	"os"
	"sync"
	"time"
)

// sweepEvery is how often connections are looked at that have been silent since the last time. Those are parked: a
// connection that is silent for ten seconds is silent for hours, as a rule. A storm of boots has better things to do.
const sweepEvery = 10 * time.Second

// errParked ends a link's reading without ending the link.
var errParked = errors.New("vspc: parked")

// keeper parks links that nothing comes from: they have no goroutine until something does. It has one goroutine for
// all of them, from the first link until the last has ended.
type keeper struct {
	mu      sync.Mutex
	poll    *poller // nil while no link is there, or the system has none
	awake   map[*link]struct{}
	parked  map[uint64]*link
	counter uint64
}

// enter makes l one of the keeper's, if it can be parked.
func (k *keeper) enter(l *link) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.awake == nil {
		k.awake, k.parked = make(map[*link]struct{}), make(map[uint64]*link)
	}
	if k.poll == nil {
		if k.poll = newPoller(); k.poll == nil {
			return
		}
		go k.run(k.poll)
	}
	k.counter++
	l.parkID = k.counter
	k.awake[l] = struct{}{}
}

// leave is for a link that has ended.
func (k *keeper) leave(l *link) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.awake, l)
	delete(k.parked, l.parkID)
	if len(k.awake)+len(k.parked) == 0 && k.poll != nil {
		k.poll.close()
		k.poll = nil
	}
}

// park has l resumed when something comes from it. False means that it goes on as it is.
func (k *keeper) park(l *link) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.parkID == 0 || k.poll == nil || !k.poll.watch(l.socket, l.parkID) {
		return false
	}
	delete(k.awake, l)
	k.parked[l.parkID] = l
	return true
}

// unpark makes the link with a number awake again; nil if it is so already, or has ended.
func (k *keeper) unpark(id uint64) *link {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.parked[id]
	if l != nil {
		delete(k.parked, id)
		k.awake[l] = struct{}{}
	}
	return l
}

func (k *keeper) run(poll *poller) {
	next := time.Now().Add(sweepEvery)
	for {
		ids, err := poll.wait(next)
		for _, id := range ids {
			if l := k.unpark(id); l != nil {
				l.resume()
			}
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			next = time.Now().Add(sweepEvery)
			k.sweep()
		case err != nil: // it was closed
			return
		}
	}
}

// sweep wakes links that were silent since the last sweep, to be parked.
func (k *keeper) sweep() {
	k.mu.Lock()
	var silent []*link
	for l := range k.awake {
		if l.silent.Swap(true) {
			silent = append(silent, l)
		}
	}
	k.mu.Unlock()
	for _, l := range silent {
		l.nudge()
	}
}

// nudge has the goroutine that reads look up, if all it does is wait for whatever may come.
func (l *link) nudge() {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.stage == settled && !l.parked {
		l.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// park gives up the goroutine that reads, which calls it, and must end when it is true.
func (l *link) park() bool {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.conn.SetReadDeadline(time.Time{})
	l.input.rest()
	l.parked = l.output.failure == nil && l.concentrator.keeper.park(l)
	return l.parked
}

// resume gives a parked link a goroutine again.
func (l *link) resume() {
	l.writing.Lock()
	parked := l.parked
	l.parked = false
	l.writing.Unlock()
	if parked {
		go l.live()
	}
}
