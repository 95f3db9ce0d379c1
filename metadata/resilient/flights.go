package resilient

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"vmw-cloudinit-metadata/metadata"
)

// maxStuck is how many calls may be past their deadline and not back: a driver that ignores its context keeps a
// goroutine for each, and some kilobytes.
const maxStuck = 1024

// What can go wrong around a driver, by errors.Is.
var (
	// ErrTimeout means that the driver did not answer in time.
	ErrTimeout = errors.New("the driver did not answer in time")
	// ErrStuck means that too many calls of the driver never came back.
	ErrStuck = errors.New("too many calls of the driver never came back: it does not heed its context")
)

// flights calls a driver, for each VM once at a time.
type flights struct {
	driver  metadata.Driver
	timeout time.Duration

	mu    sync.Mutex
	calls map[metadata.VM]*call
	stuck int
}

// call is one call of the driver, and those who wait for it.
type call struct {
	vm      metadata.VM
	ctx     context.Context
	cancel  context.CancelFunc
	waiting int
	givenUp bool // past its deadline, or nobody waits

	done     chan struct{}
	instance *metadata.Instance
	err      error
}

// find returns at the deadline, or when ctx is done, whatever the driver does.
func (f *flights) find(ctx context.Context, vm metadata.VM) (*metadata.Instance, error) {
	c, err := f.join(ctx, vm)
	if err != nil {
		return nil, err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		f.quit(c)
		return nil, ctx.Err()
	case <-c.ctx.Done():
		select {
		case <-c.done:
		default:
			f.giveUp(c)
			return nil, fmt.Errorf("%w (%s)", ErrTimeout, f.timeout)
		}
	}
	if c.err != nil && errors.Is(c.ctx.Err(), context.DeadlineExceeded) && !isAnswer(c.err) {
		return nil, fmt.Errorf("%w (%s)", ErrTimeout, f.timeout)
	}
	return c.instance, c.err
}

// join returns the VM's call under way, or starts one.
func (f *flights) join(ctx context.Context, vm metadata.VM) (*call, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c, ok := f.calls[vm]; ok {
		c.waiting++
		return c, nil
	}
	if f.stuck >= maxStuck {
		return nil, ErrStuck
	}
	c := &call{vm: vm, waiting: 1, done: make(chan struct{})}
	c.ctx, c.cancel = context.WithTimeout(context.WithoutCancel(ctx), f.timeout)
	f.calls[vm] = c
	go f.run(c)
	return c, nil
}

func (f *flights) run(c *call) {
	defer func() {
		if c.instance == nil && c.err == nil {
			c.err = errors.New("the driver gave neither data nor an error, which is a bug in it")
		}
		f.mu.Lock()
		if c.givenUp {
			f.stuck--
		} else {
			delete(f.calls, c.vm)
		}
		f.mu.Unlock()
		close(c.done)
		c.cancel()
	}()
	c.instance, c.err = f.ask(c)
}

func (f *flights) ask(c *call) (instance *metadata.Instance, err error) {
	defer metadata.CatchPanic(&err)
	return f.driver.Find(c.ctx, c.vm)
}

// quit is for one who waits no longer. The last one ends the call.
func (f *flights) quit(c *call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.waiting--; c.waiting == 0 {
		f.drop(c)
	}
}

// giveUp is for a call past its deadline.
func (f *flights) giveUp(c *call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop(c)
}

// drop makes room for the VM's next call. It needs mu.
func (f *flights) drop(c *call) {
	if f.calls[c.vm] == c {
		delete(f.calls, c.vm)
		c.givenUp = true
		f.stuck++
		c.cancel()
	}
}
