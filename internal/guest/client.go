// Package guest is the guest's side: it asks the server behind a serial port for this machine's data, and writes the
// seed that cloud-init reads. Whatever the server does or fails to do, it comes to an end in time for the machine to
// boot.
package guest

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"vmw-cloudinit-metadata/packet"
)

const (
	// tries is how often a hello is said, a second each, before version 1 is tried.
	tries = 3
	// patience is how long a request waits for the first byte of its answer.
	patience = time.Second
	// oldPatience is the same for version 1, whose requests each cost the server a look at its data.
	oldPatience = 3 * time.Second
	// mostPatience is what both grow to, for a server that is slow.
	mostPatience = 5 * time.Second
	// idle is how long an answer may pause.
	idle = time.Second
	// slowest is the rate, in bytes a second, below which an answer is given up: half of what 9600 baud carry.
	slowest = 480
	// startChunk is the first chunk's size: small enough for a bad line, large enough for most documents.
	startChunk = 4096
	// steps is how many chunks in a row must arrive before a larger one is tried.
	steps = 4
	// mismatches is how often a document may fail its SHA-256 before the server is not believed any more.
	mismatches = 3
	// oldLimit is the longest line of version 1, where a whole document comes in one.
	oldLimit = (packet.MaxDocument+2)/3*4 + 64
	// newLimit is the longest line of version 2.
	newLimit = 2 * packet.MaxChunk
)

var (
	errSilence = errors.New("no answer in time")
	errDamaged = errors.New("the answer came damaged")
	errAgain   = errors.New("ask again")
	errStale   = errors.New("the server's data changed in the middle")
	// errBroken: what the server sends is wrong, however often it is asked.
	errBroken = errors.New("what the server sends can't be used")
)

// Client asks the server behind one line. It is not safe for concurrent use.
type Client struct {
	// Protocol is 1 or 2, or 0 for 2 with a way back to 1.
	Protocol int
	// Agent names the program: "NAME/VERSION".
	Agent string
	// NICs are this machine's, for the server to find a MAC address in. It is told the first packet.MaxNICs.
	NICs []packet.NIC
	// Progress, if set, hears of every piece that arrived.
	Progress func(document packet.Document, done, total int64)
	// Stall is how long a transfer may go without a good piece; 0 means half a minute.
	Stall time.Duration

	// Retries counts what had to be asked again.
	Retries int

	line    Line
	source  *source
	reader  *packet.Reader
	nonce   string
	out     []byte
	asked   int  // attempts so far
	newer   bool // there was a trace of version 2
	reply   *packet.HelloReply
	late    packet.Code // the request whose answer is taken, too; version 1's
	once    []byte      // a reply without a seal, that must come twice
	oldMeta []byte      // version 1's first answer
	parts   map[packet.Document]*part
	chunk   int64
	streak  int
	wait    time.Duration // for a chunk's first byte
	failed  int           // requests in a row
}

type part struct {
	info packet.DocumentInfo
	data []byte
}

// NewClient returns a client on a line. The caller closes the line.
func NewClient(line Line) *Client {
	s := &source{line: line}
	return &Client{
		line: line, source: s, reader: packet.NewReader(s, newLimit), nonce: rand.Text(),
		parts: map[packet.Document]*part{}, chunk: startChunk, wait: patience,
	}
}

// Version is the protocol's version that the server answered with; 0 before it did.
func (c *Client) Version() int {
	switch {
	case c.reply != nil:
		return 2
	case c.oldMeta != nil:
		return 1
	}
	return 0
}

// Generation is the server's name for the content; empty with version 1.
func (c *Client) Generation() string {
	if c.reply == nil {
		return ""
	}
	return c.reply.Generation
}

// Sizes returns the size of each document that the server announced; nil with version 1.
func (c *Client) Sizes() map[packet.Document]int64 {
	if c.reply == nil {
		return nil
	}
	sizes := map[packet.Document]int64{}
	for name, info := range c.reply.Documents {
		sizes[name] = info.Size
	}
	return sizes
}

// Encoded returns how many bytes there are to fetch; 0 with version 1, where nobody knows.
func (c *Client) Encoded() (n int64) {
	if c.reply != nil {
		for _, info := range c.reply.Documents {
			n += info.EncodedSize
		}
	}
	return n
}

// Ask tries once to get an answer from the server, with the version that is next in turn: hello as often as tries
// says, then version 1 and hello by turns. A *packet.Error is the server's answer; after other errors the caller asks
// again, as long as he cares to. An error of the line itself is a *LineError.
func (c *Client) Ask(ctx context.Context) error {
	n := c.asked
	c.asked++
	old := c.Protocol == 1 || c.Protocol == 0 && !c.newer && n >= tries && (n-tries)%2 == 0
	grown := min(mostPatience, patience<<min(8, max(0, n-tries)/2))
	var err error
	if old {
		err = c.askOld(ctx, max(oldPatience, grown))
	} else {
		err = c.hello(ctx, grown)
	}
	if failed, ok := errors.AsType[*packet.Error](err); ok && failed.Code == packet.BadRequest {
		// An older server says so, and a newer one of a request that was damaged on its way.
		return fmt.Errorf("%w: %s", errDamaged, failed.Message)
	}
	return err
}

// Final says whether an error of Ask or Fetch stays the same however often the server is asked.
func Final(err error) bool {
	if failed, ok := errors.AsType[*packet.Error](err); ok {
		return failed.Code == packet.NotFound || failed.Code == packet.Denied || failed.Code == packet.Invalid
	}
	return errors.Is(err, errBroken)
}

// Fetch returns the documents of want that the server has; those of have that are the same already are not
// transferred. Ask must have succeeded. Each document is complete and, with version 2, checked against its SHA-256.
func (c *Client) Fetch(ctx context.Context, want []packet.Document, have map[packet.Document][]byte) (map[packet.Document][]byte, error) {
	if c.Version() == 1 {
		return c.fetchOld(ctx, want)
	}
	failures, progress := 0, time.Now()
	for {
		documents, moved, err := c.fetch(ctx, want, have)
		if err == nil {
			return documents, nil
		}
		if moved {
			progress = time.Now()
		}
		switch {
		case errors.Is(err, errStale):
			if err := c.again(ctx, err, progress); err != nil {
				return nil, err
			}
		case errors.Is(err, errDamaged):
			if failures++; failures >= mismatches {
				return nil, fmt.Errorf("%w: %w", errBroken, err)
			}
		default:
			return nil, err
		}
		for {
			err := c.hello(ctx, c.wait)
			if err == nil {
				break
			}
			if err := c.again(ctx, err, progress); err != nil {
				return nil, err
			}
		}
	}
}

// fetch goes once through the documents of the last reply, and says whether anything arrived.
func (c *Client) fetch(ctx context.Context, want []packet.Document, have map[packet.Document][]byte) (documents map[packet.Document][]byte, moved bool, err error) {
	documents = map[packet.Document][]byte{}
	for _, name := range want {
		info, ok := c.reply.Documents[name]
		if !ok {
			continue
		}
		if data, ok := have[name]; ok && matches(data, info) {
			documents[name] = data
			continue
		}
		p := c.parts[name]
		if p == nil || p.info != info {
			p = &part{info: info}
			c.parts[name] = p
		}
		before := len(p.data)
		err := c.download(ctx, name, p)
		moved = moved || len(p.data) > before
		if err != nil {
			return nil, moved, err
		}
		data, err := decode(p.data, info)
		if err != nil {
			delete(c.parts, name)
			c.Retries++
			return nil, moved, fmt.Errorf("%w: %s: %w", errDamaged, name, err)
		}
		documents[name] = data
	}
	return documents, moved, nil
}

// download goes on where a document's part ends.
func (c *Client) download(ctx context.Context, name packet.Document, p *part) error {
	progress := time.Now()
	for int64(len(p.data)) < p.info.EncodedSize {
		at := int64(len(p.data))
		length := min(c.chunk, int64(c.reply.MaxChunk), p.info.EncodedSize-at)
		request := packet.ChunkRequest{Generation: c.reply.Generation, Document: name, Offset: at, Length: length}
		err := c.exchange(ctx, packet.RequestChunk, request.Append(nil), c.wait, func(frame packet.Frame) error {
			got, err := packet.ParseChunk(frame.Data)
			if err != nil {
				return errDamaged
			}
			if got.Document != name || got.Offset != at || got.Generation != "" && got.Generation != c.reply.Generation ||
				len(got.Data) == 0 || int64(len(got.Data)) > length {
				return errAgain // a late answer to something else
			}
			p.data = append(p.data, got.Data...)
			return nil
		})
		if err != nil {
			if failed, ok := errors.AsType[*packet.Error](err); ok && failed.Code == packet.Stale {
				return errStale
			}
			c.chunk, c.streak = max(packet.MinChunk, length/2), 0
			if errors.Is(err, errSilence) {
				c.wait = min(2*c.wait, mostPatience)
			}
			if err := c.again(ctx, err, progress); err != nil {
				return err
			}
			continue
		}
		progress, c.wait, c.failed = time.Now(), max(c.wait*3/4, patience), 0
		if c.streak++; c.streak >= steps {
			c.chunk, c.streak = min(2*c.chunk, int64(c.reply.MaxChunk)), 0
		}
		if c.Progress != nil {
			c.Progress(name, int64(len(p.data)), p.info.EncodedSize)
		}
	}
	return nil
}

// again returns nil when a request is worth another try, after a pause where the server needs one.
func (c *Client) again(ctx context.Context, err error, progress time.Time) error {
	c.Retries++
	c.failed++
	stall := c.Stall
	if stall <= 0 {
		stall = 30 * time.Second
	}
	var line *LineError
	failed, answered := errors.AsType[*packet.Error](err)
	switch {
	case errors.As(err, &line), ctx.Err() != nil, Final(err):
		return err
	case time.Since(progress) > stall:
		return fmt.Errorf("nothing arrived for %s: %w", stall, err)
	case answered && failed.Code == packet.Unavailable:
		return pause(ctx, time.Second)
	case c.failed > steps:
		// This is no damage of the line's. Two machines must not spin.
		return pause(ctx, min(time.Second, 50*time.Millisecond<<min(8, c.failed-steps)))
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// Report tells the server what became of its data. Nothing depends on the answer.
func (c *Client) Report(ctx context.Context, report packet.Report) {
	if c.Version() != 2 {
		return
	}
	for range 2 {
		err := c.exchange(ctx, packet.RequestReport, report.Append(nil), c.wait, func(packet.Frame) error { return nil })
		if err == nil || !errors.Is(err, errSilence) && !errors.Is(err, errDamaged) {
			return
		}
	}
}

func (c *Client) hello(ctx context.Context, wait time.Duration) error {
	hello := packet.Hello{Versions: []int{packet.Version}, Agent: c.Agent, Encodings: []string{packet.Gzip}, Nonce: c.nonce, NICs: c.NICs[:min(len(c.NICs), packet.MaxNICs)]}
	return c.exchange(ctx, packet.RequestHello, hello.Append(nil), wait, c.takeHello)
}

func (c *Client) takeHello(frame packet.Frame) error {
	c.newer = true
	reply, err := packet.ParseHelloReply(frame.Data)
	if err != nil {
		return errDamaged
	}
	if reply.Nonce != c.nonce {
		return errAgain // an earlier boot's
	}
	if !packet.Sealed(frame.Data) && !bytes.Equal(c.once, frame.Data) {
		c.once = bytes.Clone(frame.Data)
		return errDamaged // nothing says that it is whole, unless it comes again
	}
	if reply.Version != packet.Version {
		return fmt.Errorf("%w: it answered with version %d", errBroken, reply.Version)
	}
	for _, name := range []packet.Document{packet.MetaData, packet.UserData} {
		if _, ok := reply.Documents[name]; !ok {
			return fmt.Errorf("%w: it announced no %s", errBroken, name)
		}
	}
	for name, info := range reply.Documents {
		if info.Encoding != "" && info.Encoding != packet.Gzip {
			return fmt.Errorf("%w: %s has the encoding %q, which was not asked for", errBroken, name, info.Encoding)
		}
	}
	c.reply = reply
	return nil
}

// exchange sends a request and gives take the frames that may be its answer, until take returns nil, or an error other
// than errAgain. An answer of the server's that says why not is a *packet.Error.
func (c *Client) exchange(ctx context.Context, code packet.Code, data []byte, wait time.Duration, take func(packet.Frame) error) error {
	c.out = packet.AppendFrame(c.out[:0], code, data)
	c.reader.Scanner.Limit = newLimit
	if _, old := code.Document(); old {
		c.reader.Scanner.Limit = oldLimit
	}
	defer context.AfterFunc(ctx, func() { _ = c.line.SetDeadline(time.Unix(1, 0)) })()
	c.source.start(ctx, wait)
	if err := c.source.send(c.out); err != nil {
		return failure(ctx, err)
	}
	for {
		frame, err := c.reader.ReadFrame()
		if err != nil {
			return failure(ctx, err)
		}
		switch {
		case frame.Code.IsResponse() && frame.Err != nil:
			if frame.Code == packet.ResponseHello {
				c.newer = true
			}
			return errDamaged
		case frame.Code == packet.ResponseError:
			failed, err := packet.ParseError(frame.Data)
			if err != nil || !failed.Code.Valid() {
				return errDamaged
			}
			if failed.Request == packet.RequestHello && failed.Code != packet.BadRequest {
				c.newer = true
			}
			if failed.Request == code || failed.Request == c.late && c.late != "" {
				return failed
			}
			if failed.Request == "" {
				return errDamaged
			}
		case frame.Code == code.Response(), c.late != "" && frame.Code == c.late.Response(), frame.Code == packet.ResponseHello && c.Version() == 0 && c.Protocol == 0:
			if err := take(frame); err != errAgain {
				return err
			}
		}
	}
}

func failure(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", errSilence, ctx.Err())
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errSilence
	}
	return &LineError{err}
}

func matches(data []byte, info packet.DocumentInfo) bool {
	sum := sha256.Sum256(data)
	return int64(len(data)) == info.Size && hex.EncodeToString(sum[:]) == info.SHA256
}

// decode undoes a document's encoding, never beyond its announced size, and checks it.
func decode(data []byte, info packet.DocumentInfo) ([]byte, error) {
	if info.Encoding == packet.Gzip {
		r, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("its gzip can't be read: %w", err)
		}
		if data, err = io.ReadAll(io.LimitReader(r, info.Size+1)); err != nil {
			return nil, fmt.Errorf("its gzip can't be read: %w", err)
		}
	}
	if !matches(data, info) {
		return nil, errors.New("it is not what its SHA-256 says")
	}
	return data, nil
}
