// Package command is a driver in any language: a program that lives as long as the server, reads one JSON object a
// line and answers with another. docs/drivers/command.md describes the protocol for its authors.
//
// The program is not trusted to be well. It may die, hang, write nonsense or without end: requests fail then, at
// their deadline at the latest, and it is started again.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"vmw-cloudinit-metadata/internal/options"
	"vmw-cloudinit-metadata/metadata"
)

// What a zero Config means.
const (
	DefaultTimeout      = 5 * time.Second
	DefaultStartTimeout = 10 * time.Second
)

const (
	firstPause = 100 * time.Millisecond
	lastPause  = 30 * time.Second
	// patience is the pause that requests sit out; in a longer one they fail at once.
	patience = time.Second
	// settled is how long a program must have lived for its next death to count as the first.
	settled = time.Minute
)

// What can go wrong, by errors.Is.
var (
	ErrNoCommand = errors.New("the driver's program can't be started")
	ErrClosed    = errors.New("the driver is closed")
	ErrTimeout   = errors.New("the driver's program did not answer in time")
	// ErrGone means that the program ended, or was ended because it broke the protocol.
	ErrGone = errors.New("the driver's program is not running")
)

// Config says what to run.
type Config struct {
	// Command is the program and its arguments. The program is an absolute path, or a name that PATH finds.
	Command []string
	// Dir is where it runs, "" for the server's own directory. Env is added to the server's environment ("NAME=value").
	Dir string
	Env []string
	// Timeout bounds one request, DefaultTimeout if 0; StartTimeout bounds the time until the program announces
	// itself, DefaultStartTimeout if 0.
	Timeout, StartTimeout time.Duration

	// Stderr, if not nil, is called with each line that the program writes there, cut at 4 KiB.
	Stderr func(line string)
	// Trouble, if not nil, is called when the program did something wrong or was started anew because of it.
	Trouble func(err error)
}

// ParseConfig reads a Config from JSON, with the keys command, directory, environment, timeout and start-timeout.
func ParseConfig(data json.RawMessage) (Config, error) {
	var o struct {
		Command      []string          `json:"command"`
		Dir          string            `json:"directory"`
		Env          map[string]string `json:"environment"`
		Timeout      options.Duration  `json:"timeout"`
		StartTimeout options.Duration  `json:"start-timeout"`
	}
	if err := options.Decode(data, &o); err != nil {
		return Config{}, fmt.Errorf("command: %w", err)
	}
	c := Config{Command: o.Command, Dir: o.Dir, Timeout: time.Duration(o.Timeout), StartTimeout: time.Duration(o.StartTimeout)}
	for name, value := range o.Env {
		c.Env = append(c.Env, name+"="+value)
	}
	return c, nil
}

// Driver keeps the program running and asks it.
type Driver struct {
	config Config
	name   string
	start  func() (*process, error)
	ctx    context.Context
	stop   context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	changed chan struct{} // closed at the next change of what follows
	child   *child        // announced, and alive when last seen
	down    error         // why there is none; nil too while one is being started
}

// New starts the program. It does not wait for it to announce itself. Close ends it.
func New(config Config) (*Driver, error) {
	if len(config.Command) == 0 || config.Command[0] == "" {
		return nil, fmt.Errorf("command: %w", &options.Error{Key: "command", Problem: `name the program and its arguments: {"command": ["/usr/local/bin/my-driver", "--flag"]}`})
	}
	program := config.Command[0]
	if strings.ContainsRune(program, filepath.Separator) && !filepath.IsAbs(program) {
		return nil, fmt.Errorf("%w: %w", ErrNoCommand, &options.Error{Key: "command", Problem: fmt.Sprintf("%q: write an absolute path", program)})
	}
	if _, err := exec.LookPath(program); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoCommand, &options.Error{Key: "command", Problem: err.Error()})
	}
	if err := checkDir(config.Dir); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoCommand, err)
	}
	return open(config, func() (*process, error) { return startProcess(config) }), nil
}

func open(config Config, start func() (*process, error)) *Driver {
	if config.Timeout == 0 {
		config.Timeout = DefaultTimeout
	}
	if config.StartTimeout == 0 {
		config.StartTimeout = DefaultStartTimeout
	}
	if config.Trouble == nil {
		config.Trouble = func(error) {}
	}
	d := &Driver{config: config, name: filepath.Base(config.Command[0]), start: start, done: make(chan struct{}), changed: make(chan struct{})}
	d.ctx, d.stop = context.WithCancel(context.Background())
	go d.supervise()
	return d
}

// Close ends the program: its standard input is closed, and after two seconds it is killed.
func (d *Driver) Close() error {
	d.stop()
	<-d.done
	return nil
}

// Find asks the program.
func (d *Driver) Find(ctx context.Context, vm metadata.VM) (*metadata.Instance, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.config.Timeout, ErrTimeout)
	defer cancel()
	child, err := d.running(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := child.ask(ctx, vm, d.config.Timeout)
	if err != nil {
		return nil, err
	}
	return answer.instance(d.name)
}

// running returns the program once it has announced itself.
func (d *Driver) running(ctx context.Context) (*child, error) {
	for {
		d.mu.Lock()
		child, down, changed := d.child, d.down, d.changed
		d.mu.Unlock()
		if down != nil || child != nil && !child.isGone() {
			return child, down
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, waitError(ctx, "it has not announced itself yet")
		}
	}
}

// waitError tells our own deadline from the caller's.
func waitError(ctx context.Context, state string) error {
	if errors.Is(context.Cause(ctx), ErrTimeout) {
		return fmt.Errorf("%w: %s", ErrTimeout, state)
	}
	return ctx.Err()
}

func (d *Driver) set(child *child, down error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.child, d.down = child, down
	close(d.changed)
	d.changed = make(chan struct{})
}

// supervise runs one program after another until Close.
func (d *Driver) supervise() {
	defer close(d.done)
	pause := firstPause
	for {
		started := time.Now()
		err := d.run()
		if d.ctx.Err() != nil {
			d.set(nil, ErrClosed)
			return
		}
		if time.Since(started) >= settled {
			pause = firstPause
		}
		err = fmt.Errorf("%w; next start in %s", err, pause)
		if pause > patience {
			d.set(nil, err)
		} else {
			d.set(nil, nil)
		}
		d.config.Trouble(err)
		select {
		case <-time.After(pause):
		case <-d.ctx.Done():
			d.set(nil, ErrClosed)
			return
		}
		d.set(nil, nil)
		pause = min(2*pause, lastPause)
	}
}

// run starts one program and returns when it is no more, with the reason.
func (d *Driver) run() error {
	p, err := d.start()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoCommand, err)
	}
	c := newChild(p, d.config.Trouble)
	defer context.AfterFunc(d.ctx, func() { c.end(ErrClosed) })()
	late := time.AfterFunc(d.config.StartTimeout, func() {
		c.end(fmt.Errorf("%w: it did not announce itself within %s", ErrGone, d.config.StartTimeout))
	})
	go c.write()
	c.read(func() {
		if late.Stop() {
			d.set(c, nil)
		}
	})
	late.Stop()
	p.stop()
	return c.reason
}
