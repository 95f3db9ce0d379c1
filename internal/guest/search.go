package guest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"vmw-cloudinit-metadata/internal/tty"
	"vmw-cloudinit-metadata/packet"
)

// firstTurn is how long one port of several is asked at first, before the next one's turn comes. A port on which something
// else talks without end would never let the others have theirs.
const firstTurn = 3 * time.Second

// candidate is a port, while it is being asked.
type candidate struct {
	path    string
	port    Port
	client  *Client
	closed  time.Time     // since when it can't be opened
	err     error         // the last one
	turn    time.Duration // the most that it may take to ask once; 0 for no bound
	refused *packet.Error // the server's last answer, if it said why not
}

func (p *candidate) close() {
	if p.port != nil {
		_ = p.port.Close()
		p.port = nil
	}
}

// ask asks once, for as long as it is the port's turn.
func (p *candidate) ask(ctx context.Context) error {
	if p.turn == 0 {
		return p.client.Ask(ctx)
	}
	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, p.turn)
	defer cancel()
	err := p.client.Ask(ctx)
	if time.Since(started) >= p.turn {
		p.turn *= 2 // an answer may be long, and the line slow
	}
	return err
}

// hopeless says whether another try would bring nothing new.
func (p *candidate) hopeless() bool {
	return errors.Is(p.err, tty.ErrNoPort) || p.port == nil && p.err != nil && time.Since(p.closed) > openWait
}

// find asks each port in turn until one answers, or the wait is over. The caller closes the candidate, which is nil if
// there was no answer at all.
func (c *Config) find(ctx context.Context) (*candidate, error) {
	ports, _, err := c.list()
	if err != nil {
		return nil, err
	}
	nics := awaitNICs(ctx, c.Root, c.Wait)
	stopped := ctx
	ctx, cancel := context.WithTimeout(ctx, c.Wait)
	defer cancel()
	defer c.remind(ctx, func(since time.Duration) string {
		return fmt.Sprintf("waiting for a metadata server on %s (%s of %s)", paths(ports), since, c.Wait)
	})()
	answered := c.round(ctx, ports, nics)
	for _, p := range ports {
		if p != answered {
			p.close()
		}
	}
	if answered != nil {
		if answered.err != nil {
			return answered, fmt.Errorf("%s: %w", answered.path, answered.err)
		}
		return answered, nil
	}
	return nil, c.verdict(stopped, ports)
}

// round goes round the ports, and returns the one whose server answered, be it with a final no.
func (c *Config) round(ctx context.Context, ports []*candidate, nics []packet.NIC) *candidate {
	if len(ports) > 1 {
		for _, p := range ports {
			p.turn = firstTurn
		}
	}
	for {
		var rest time.Duration = -1
		for _, p := range ports {
			if p.hopeless() {
				continue
			}
			if c.try(ctx, p, nics) {
				return p
			}
			if ctx.Err() != nil {
				return nil
			}
			if !p.hopeless() && (rest < 0 || p.rest() < rest) {
				rest = p.rest()
			}
		}
		if rest < 0 || pause(ctx, rest) != nil {
			return nil
		}
	}
}

// try asks one port once, and says whether that settles it.
func (c *Config) try(ctx context.Context, p *candidate, nics []packet.NIC) bool {
	if p.port == nil {
		if p.err = c.open(p, nics); p.err != nil {
			if p.closed.IsZero() {
				p.closed = time.Now()
			}
			return false
		}
		p.closed = time.Time{}
	}
	p.err = p.ask(ctx)
	if p.err == nil || Final(p.err) {
		return true
	}
	if failed, ok := errors.AsType[*packet.Error](p.err); ok {
		p.refused = failed
		c.Log(p.path + ": " + failed.Error())
	}
	if _, ok := errors.AsType[*LineError](p.err); ok {
		p.close()
		p.closed = time.Now()
	}
	return false
}

// rest is how long a port is left alone after the last try.
func (p *candidate) rest() time.Duration {
	switch {
	case errors.Is(p.err, errSilence):
		return 0 // the try took its time
	case p.port != nil && p.refused == nil && p.client.asked < 3*tries:
		return time.Second / 10 // it answered at once, and wrong
	case p.port != nil && p.refused == nil:
		return time.Second // and goes on so
	case p.port != nil:
		return 2 * time.Second // the server asked to be asked later
	}
	return time.Second / 2
}

// list returns the ports to ask, and all that were left out.
func (c *Config) list() (ports []*candidate, skipped []tty.Candidate, err error) {
	known, err := tty.Find(c.Root)
	if err != nil {
		c.Log("the serial ports can't be listed: " + err.Error())
	}
	if c.Device != "" {
		for _, port := range known {
			if port.Path == c.Device && port.Skip != "" {
				c.Log(fmt.Sprintf("%s: %s; it is asked all the same", port.Path, port.Skip))
			}
		}
		return []*candidate{{path: c.Device}}, nil, nil
	}
	var consoles []string
	for _, port := range known {
		if port.Skip == "" {
			ports = append(ports, &candidate{path: port.Path})
			continue
		}
		skipped = append(skipped, port)
		if !port.Phantom {
			consoles = append(consoles, port.Path+": "+port.Skip)
		}
	}
	switch {
	case len(ports) > 0:
		return ports, skipped, nil
	case len(consoles) > 0:
		return nil, skipped, fmt.Errorf("%w that a server could be behind (%s): add one to the VM, or name it with --device", tty.ErrNoPort, strings.Join(consoles, ", "))
	}
	return nil, skipped, fmt.Errorf("%w: add one to the VM, or name it with --device", tty.ErrNoPort)
}

func (c *Config) open(p *candidate, nics []packet.NIC) error {
	if holders := tty.Holders(c.Root, p.path); len(holders) > 0 && !pseudo(p.path) {
		return fmt.Errorf("%s: %w by %v%s", p.path, tty.ErrBusy, holders[0], advice(p.path, holders[0]))
	}
	port, err := c.Open(p.path, c.Speed)
	if err != nil {
		return err
	}
	p.port, p.client = port, NewClient(port)
	p.client.Protocol, p.client.Agent, p.client.NICs = c.Protocol, c.Agent, nics
	return nil
}

// pseudo says whether the path leads to a pseudo-terminal: whoever made it holds it open, and waits for us there.
func pseudo(path string) bool {
	target, err := filepath.EvalSymlinks(path)
	return err == nil && strings.HasPrefix(target, "/dev/pts/")
}

// advice says how to get rid of a getty, which reads half of what the server says.
func advice(path string, holder tty.Holder) string {
	if strings.Contains(holder.Name, "getty") || holder.Name == "login" {
		return ", which waits there for people to log in: systemctl mask --now serial-getty@" + filepath.Base(path) + ".service"
	}
	return ": stop it, or name another port with --device"
}

// verdict says why nobody answered: of a port that was asked, if there was one. ctx is done if somebody stopped it.
func (c *Config) verdict(ctx context.Context, ports []*candidate) error {
	var silent []*candidate
	var closed error
	for _, p := range ports {
		switch {
		case p.refused != nil:
			return fmt.Errorf("%s: %w", p.path, p.refused)
		case p.client != nil || p.err == nil:
			silent = append(silent, p)
		case closed == nil || errors.Is(closed, tty.ErrNoPort):
			closed = p.err
		}
	}
	if len(silent) == 0 {
		return unusable{closed}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: stopped while waiting for a server on %s", errSilence, paths(silent))
	}
	return fmt.Errorf("%w: no server on %s within %s: is it running, and does the VM's serial port lead to it?", errSilence, paths(silent), c.Wait)
}

func paths(ports []*candidate) string {
	names := make([]string, len(ports))
	for i, p := range ports {
		names[i] = p.path
	}
	return strings.Join(names, ", ")
}

// unusable is why no port could be opened.
type unusable struct{ error }

func (u unusable) Unwrap() error { return u.error }

func outcomeOfSearch(err error) Outcome {
	switch {
	case errors.Is(err, tty.ErrNoPort):
		return NoPort
	case errors.Is(err, tty.ErrBusy):
		return Busy
	}
	if _, ok := errors.AsType[unusable](err); ok {
		return Failed
	}
	return OutcomeOf(err)
}

// Get returns one document as the server has it. The Outcome says what an error means.
func Get(ctx context.Context, config Config, name packet.Document, progress func(done, total int64)) ([]byte, Outcome, error) {
	c := config.withDefaults()
	p, err := c.find(ctx)
	if p != nil {
		defer p.close()
	}
	if err != nil {
		return nil, outcomeOfSearch(err), err
	}
	p.client.Stall = c.Wait
	if progress != nil {
		p.client.Progress = func(_ packet.Document, done, total int64) { progress(done, total) }
	}
	documents, err := p.client.Fetch(ctx, []packet.Document{name}, nil)
	if err != nil {
		return nil, OutcomeOf(err), err
	}
	data, ok := documents[name]
	if !ok {
		return nil, NotFound, fmt.Errorf("the server on %s has no %s for this machine", p.path, name)
	}
	return data, OK, nil
}

// Finding is what Probe says about one port.
type Finding struct {
	Path string
	// Asked is false for a port that no server can be behind.
	Asked bool
	// Outcome is OK for a port where a server has data for this machine.
	Outcome Outcome
	// Version is the protocol's, 0 without an answer. Sizes are the announced documents', with version 2.
	Version int
	Sizes   map[packet.Document]int64
	// Problem says in words why there is no data, or why the port was not asked.
	Problem string
}

// Probe asks all ports at once, each for the configured wait, and says of each what is behind it.
func Probe(ctx context.Context, config Config) ([]Finding, error) {
	c := config.withDefaults()
	ports, skipped, err := c.list()
	var findings []Finding
	for _, port := range skipped {
		findings = append(findings, Finding{Path: port.Path, Outcome: NoPort, Problem: port.Skip})
	}
	within, cancel := context.WithTimeout(ctx, c.Wait)
	defer cancel()
	asked := make([]Finding, len(ports))
	nics := NICs(c.Root)
	var wg sync.WaitGroup
	for i, p := range ports {
		wg.Go(func() {
			defer p.close()
			asked[i] = c.probe(ctx, within, p, nics)
		})
	}
	wg.Wait()
	return append(asked, findings...), err
}

// probe asks one port within a time that ends before ctx does.
func (c *Config) probe(ctx, within context.Context, p *candidate, nics []packet.NIC) Finding {
	finding := Finding{Path: p.path, Asked: true}
	var err error
	if c.round(within, []*candidate{p}, nics) == nil {
		err = c.verdict(ctx, []*candidate{p})
	} else {
		err = p.err
	}
	finding.Outcome = outcomeOfSearch(err)
	if err != nil {
		finding.Problem = err.Error()
		return finding
	}
	finding.Version, finding.Sizes = p.client.Version(), p.client.Sizes()
	return finding
}
