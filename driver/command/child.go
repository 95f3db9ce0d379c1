package command

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
	"unicode/utf8"

	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/vmfile"
)

// version is the protocol's, which the program announces.
const version = 1

const (
	// maxLine bounds an answer: the largest document, in base64 or with its quotes and lines escaped.
	maxLine = 2 * vmfile.MaxSize
	// maxFlood bounds what is passed over in the search for the end of a line that is too long.
	maxFlood = 8 * maxLine
	// maxPending bounds the requests under way; each keeps some hundred bytes.
	maxPending = 4096
	// maxNonsense is how many lines in a row may be no answer to anything: a debugging print that was forgotten
	// is no reason to end a program that works.
	maxNonsense = 100
	// maxMissed is how many deadlines may pass in a row, with no answer at all in between, until the program is taken to hang.
	maxMissed = 3
	// maxMessage bounds what an error shows of the program's own words, in bytes.
	maxMessage = 512
)

// request is what the program reads. The name comes last: it is the one field that can hold any text.
type request struct {
	ID           uint64 `json:"id"`
	UUID         string `json:"uuid"`
	BIOSUUID     string `json:"bios-uuid"`
	LocationUUID string `json:"location-uuid"`
	Name         string `json:"name"`
}

// answer is what it writes: of the last four one.
type answer struct {
	ID       *uint64         `json:"id"`
	Instance json.RawMessage `json:"instance"`
	Document *string         `json:"document"`
	Base64   []byte          `json:"document-base64"`
	Error    string          `json:"error"`
	Message  string          `json:"message"`
}

// instance returns what the answer says, as Find does.
func (a *answer) instance(name string) (*metadata.Instance, error) {
	given := 0
	for _, is := range []bool{a.Instance != nil, a.Document != nil, a.Base64 != nil, a.Error != ""} {
		if is {
			given++
		}
	}
	if given != 1 {
		return nil, &metadata.DataError{Origin: name, Problem: "the program's answer must have one of instance, document, document-base64 and error"}
	}
	switch {
	case a.Instance != nil:
		return vmfile.Parse(name, a.Instance)
	case a.Document != nil:
		return vmfile.Parse(name, []byte(*a.Document))
	case a.Base64 != nil:
		return vmfile.Parse(name, a.Base64)
	}
	kind := map[string]error{
		"not-found": metadata.ErrNotFound, "invalid": metadata.ErrInvalid, "denied": metadata.ErrDenied, "unavailable": errUnavailable,
	}[a.Error]
	if kind == nil {
		kind = errors.New("the program answered with an error of a kind that is not not-found, invalid, denied or unavailable")
	}
	if a.Message == "" {
		return nil, fmt.Errorf("%s: %w", name, kind)
	}
	return nil, fmt.Errorf("%s: %w: %q", name, kind, cut(a.Message))
}

var errUnavailable = errors.New("the program could not find out")

func cut(text string) string {
	if len(text) <= maxMessage {
		return text
	}
	end := maxMessage
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// process is a started program, as child needs it.
type process struct {
	stdin  io.WriteCloser
	stdout io.ReadCloser
	// stop ends the program, patiently, and returns when it is gone. wait returns how it ended, once stdout has.
	stop func()
	kill func()
	wait func() error
}

// child is one run of the program: a goroutine that reads, one that writes, and the requests under way.
type child struct {
	process *process
	trouble func(error)
	queue   chan []byte
	gone    chan struct{} // closed by end
	reason  error         // readable once gone is closed

	mu      sync.Mutex
	ended   bool
	lastID  uint64
	pending map[uint64]chan result
	missed  int
}

type result struct {
	answer *answer
	err    error
}

func newChild(p *process, trouble func(error)) *child {
	return &child{process: p, trouble: trouble, queue: make(chan []byte), gone: make(chan struct{}), pending: map[uint64]chan result{}}
}

// ask sends a request and waits for its answer. One that gets none for half of timeout counts against the program,
// if it was a deadline that ended it.
func (c *child) ask(ctx context.Context, vm metadata.VM, timeout time.Duration) (*answer, error) {
	start := time.Now()
	id, results, err := c.register()
	if err != nil {
		return nil, err
	}
	defer c.forget(id)
	line, err := json.Marshal(request{ID: id, UUID: vm.UUID, BIOSUUID: vm.BIOSUUID, LocationUUID: vm.LocationUUID, Name: vm.Name})
	if err != nil {
		return nil, err
	}
	select {
	case c.queue <- append(line, '\n'):
	case <-c.gone:
		return nil, c.reason
	case <-ctx.Done():
		return nil, c.miss(ctx, time.Since(start) >= timeout/2, "it does not read its standard input")
	}
	select {
	case r := <-results:
		return r.answer, r.err
	case <-c.gone:
		select {
		case r := <-results:
			return r.answer, r.err
		default:
			return nil, c.reason
		}
	case <-ctx.Done():
		return nil, c.miss(ctx, time.Since(start) >= timeout/2, "it was sent the request")
	}
}

func (c *child) register() (uint64, chan result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) >= maxPending {
		return 0, nil, fmt.Errorf("%w: %d requests wait for it", ErrTimeout, maxPending)
	}
	c.lastID++
	results := make(chan result, 1)
	c.pending[c.lastID] = results
	return c.lastID, results, nil
}

func (c *child) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, id)
}

// miss returns the error of a request that got no answer, and counts it if that was the program's fault.
func (c *child) miss(ctx context.Context, long bool, state string) error {
	err := waitError(ctx, state)
	if !long || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return err
	}
	c.mu.Lock()
	c.missed++
	hangs := c.missed >= maxMissed
	c.mu.Unlock()
	if hangs {
		c.end(fmt.Errorf("%w: it hung, and was ended: nothing came for %d requests in a row", ErrGone, maxMissed))
	}
	return err
}

// end makes it known that the program can't be used any more; the first reason counts.
func (c *child) end(reason error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	c.reason = reason
	close(c.gone)
	if errors.Is(reason, ErrClosed) {
		c.process.stdin.Close() // a friendly end: the program sees the end of its input
		go c.process.stop()
		return
	}
	c.process.kill()
}

func (c *child) isGone() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

// write sends the requests, so that a program that does not read blocks only this goroutine.
func (c *child) write() {
	for {
		select {
		case line := <-c.queue:
			if _, err := c.process.stdin.Write(line); err != nil {
				return // the reader learns how it ended
			}
		case <-c.gone:
			return
		}
	}
}

// read takes the program's lines until there are no more, and calls announced after the first.
func (c *child) read(announced func()) {
	lines := lineReader{r: bufio.NewReaderSize(c.process.stdout, 64<<10)}
	nonsense := 0
	for first := true; ; {
		line, whole, err := lines.next()
		if err != nil {
			c.end(c.ending(err))
			return
		}
		if first {
			if err := checkAnnouncement(line, whole); err != nil {
				c.end(fmt.Errorf("%w: it was ended: %w", ErrGone, err))
				return
			}
			first = false
			announced()
			continue
		}
		if err := c.take(line, whole); err != nil {
			c.trouble(err)
			if nonsense++; nonsense > maxNonsense {
				c.end(fmt.Errorf("%w: it was ended after %d lines in a row that answer nothing", ErrGone, maxNonsense))
				return
			}
			continue
		}
		nonsense = 0
	}
}

// ending says how the program ended.
func (c *child) ending(err error) error {
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it was ended: %w", ErrGone, err)
	}
	if err := c.process.wait(); err != nil {
		return fmt.Errorf("%w: it ended: %w", ErrGone, err)
	}
	return fmt.Errorf("%w: it ended by itself", ErrGone)
}

const announcement = `{"vmw-cloudinit-driver": 1}`

func checkAnnouncement(line []byte, whole bool) error {
	var first struct {
		Version json.Number `json:"vmw-cloudinit-driver"`
	}
	if !whole || json.Unmarshal(line, &first) != nil || first.Version == "" {
		return fmt.Errorf("the first line that it writes must be %s", announcement)
	}
	if first.Version.String() != fmt.Sprint(version) {
		return fmt.Errorf("it announces version %.20s of the protocol, and here is version %d", first.Version, version)
	}
	return nil
}

// take gives an answer to the request that waits for it. One that came too late is passed over.
func (c *child) take(line []byte, whole bool) error {
	if !whole {
		return c.takeHuge(line)
	}
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		return errors.New("the driver's program wrote a line that is no answer: not a JSON object of the protocol")
	}
	if a.ID == nil {
		return errors.New("the driver's program wrote an answer without an id")
	}
	return c.deliver(*a.ID, result{answer: &a})
}

// takeHuge is for the start of a line that is too long. As a rule it has the id.
func (c *child) takeHuge(start []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(start))
	decoder.UseNumber()
	open, _ := decoder.Token()
	key, _ := decoder.Token()
	value, _ := decoder.Token()
	number, isNumber := value.(json.Number)
	if id, err := number.Int64(); open == json.Delim('{') && key == "id" && isNumber && err == nil && id > 0 {
		return c.deliver(uint64(id), result{err: &metadata.DataError{Problem: fmt.Sprintf("the program's answer is longer than %d MiB", maxLine>>20)}})
	}
	return fmt.Errorf("the driver's program wrote a line of more than %d MiB", maxLine>>20)
}

func (c *child) deliver(id uint64, r result) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == 0 || id > c.lastID {
		return fmt.Errorf("the driver's program answered request %d, which was never made", id)
	}
	c.missed = 0
	if results, ok := c.pending[id]; ok {
		results <- r
		delete(c.pending, id)
	}
	return nil
}

// lineReader reads lines of bounded length.
type lineReader struct {
	r    *bufio.Reader
	line []byte
}

// next returns the next line without its end, valid until the next call. One that is too long comes as its
// beginning, and whole is false. What has no end before the input's is no line.
func (l *lineReader) next() (line []byte, whole bool, err error) {
	l.line = l.line[:0]
	if cap(l.line) > 1<<20 { // one big answer should not keep its memory forever
		l.line = nil
	}
	for size := 0; ; {
		part, err := l.r.ReadSlice('\n')
		size += len(part)
		if size <= maxLine {
			l.line = append(l.line, part...)
		}
		switch {
		case err == nil:
			return bytes.TrimRight(l.line, "\r\n"), size <= maxLine, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, false, err
		case size > maxFlood:
			return nil, false, errors.New("it wrote without end, and no newline")
		}
	}
}
