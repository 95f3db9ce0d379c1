package file

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"vmw-cloudinit-metadata/internal/dedupe"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/vmfile"
)

const (
	// settleTime is how long after a change a file's stat is not taken for the sign of its content: the clocks of file
	// systems tick up to two seconds apart (FAT), and a file of the same size may be written twice within one tick.
	// Until then the bytes are read again and compared.
	settleTime = 2 * time.Second
	// entryCost is what a cached file costs beside its size: the maps and the positions made of it.
	entryCost = 4 << 10
	// maxBuffer is how large a buffer for files is kept for the next one.
	maxBuffer = 1 << 20
	// usualIndent is what the lines of a text begin with in a file, and is not kept.
	usualIndent = 2
	// maxReads is how often a file that changes while it is read is tried, and a directory that changes during a look-up.
	maxReads = 3
)

// errLoop is the system's error for links in a circle.
const errLoop = syscall.ELOOP

// cache holds what was read from files within a number of bytes; what was not used for long makes room. A file is parsed once
// until it changes, however many ask for it at once.
type cache struct {
	limit int64
	seed  maphash.Seed
	// parse is vmfile's, but for tests that count. What it returns must have nothing in common with data, which is used
	// for the next file.
	parse func(p *vmfile.Parser, name string, data []byte) (*metadata.Instance, error)

	now func() time.Time

	readers sync.Pool // of *reader

	texts dedupe.Table // user-data and vendor-data, which many VMs may have in common

	mu      sync.Mutex
	entries map[string]*entry // by file name
	recent  list.List         // of *entry; the last makes room, unless it was used since
	size    int64
	found   map[metadata.VM]*found
}

// reader is what a file is read with, and then the next one.
type reader struct {
	buffer    []byte
	parser    vmfile.Parser
	documents []*dedupe.Document // the file's user-data and vendor-data
}

// entry is what is known of one file.
type entry struct {
	name string

	// Guarded by cache.mu.
	used    bool          // since shrink last saw it, or new; its VMs' found may be so as well
	element *list.Element // in cache.recent
	cost    int64         // but for texts
	texts   []*dedupe.Document
	found   []metadata.VM // those of cache.found that end with the entry

	// turn is held, as a semaphore that ctx can interrupt, by whoever uses the fields below.
	turn     chan struct{}
	info     fs.FileInfo
	settled  bool
	sum      uint64 // of the content, with cache.seed
	textSize int    // how much of the file is texts
	inst     *metadata.Instance
	err      error
}

func newCache(limit int64) *cache {
	c := &cache{
		limit: limit, seed: maphash.MakeSeed(), parse: (*vmfile.Parser).Parse, now: time.Now,
		entries: map[string]*entry{}, found: map[metadata.VM]*found{},
	}
	c.readers.New = func() any { return c.newReader() }
	return c
}

// newReader returns one whose instances have the texts that other entries have already, where they are equal.
func (c *cache) newReader() *reader {
	r := new(reader)
	r.parser.Keep = func(document []byte) []byte {
		if len(document) < dedupe.MinSize {
			return bytes.Clone(document)
		}
		d := c.texts.Of(document, func(document []byte) (kept, made []byte) { return bytes.Clone(document), nil })
		r.documents = append(r.documents, d)
		return d.Bytes
	}
	return r
}

// source is a file in the directory.
type source struct {
	driver *Driver
	root   *os.Root
	name   string
}

// read is what a file held.
type read struct {
	entry *entry
	stamp stamp
	size  int64
	inst  *metadata.Instance
}

// instance is nil where nothing was read.
func (r *read) instance() *metadata.Instance {
	if r == nil {
		return nil
	}
	return r.inst
}

// has reports whether there is an entry of a file.
func (c *cache) has(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries[name] != nil
}

// get returns the data in a file whose stat is info; nil if that is not known.
func (c *cache) get(ctx context.Context, file source, info fs.FileInfo) (*read, error) {
	e := c.entry(file.name)
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if info != nil && e.settled && sameStat(e.info, info) {
		return e.read()
	}
	r := c.readers.Get().(*reader)
	defer c.readers.Put(r)
	data, info, err := file.read(r.buffer)
	if err != nil {
		return nil, err
	}
	if cap(data) <= maxBuffer {
		r.buffer = data
	}
	sum := maphash.Bytes(c.seed, data)
	if e.info == nil || sum != e.sum {
		r.documents = r.documents[:0]
		e.inst, e.err = c.parse(&r.parser, filepath.Join(file.driver.directory, file.name), data)
		e.sum = sum
		c.use(e, slices.Clone(r.documents))
	}
	e.info, e.settled = info, isSettled(info, c.now())
	c.charge(e, int64(len(data)-e.textSize))
	return e.read()
}

// read returns what the entry has. Its turn is held.
func (e *entry) read() (*read, error) {
	if e.err != nil {
		return nil, e.err
	}
	return &read{e, stampOf(e.info), e.info.Size(), e.inst}, nil
}

// entry returns the entry of a file, which is the most recently used one then.
func (c *cache) entry(name string) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[name]; e != nil {
		c.recent.MoveToFront(e.element)
		e.used = true
		return e
	}
	e := &entry{name: name, turn: make(chan struct{}, 1), cost: entryCost}
	e.used = true // or it would make room for itself where all others were used
	e.element = c.recent.PushFront(e)
	c.entries[name] = e
	c.size += e.cost
	return e
}

// use gives an entry its texts in place of the former ones. The entry's turn is held.
func (c *cache) use(e *entry, texts []*dedupe.Document) {
	e.textSize = 0
	for _, d := range texts {
		e.textSize += len(d.Bytes) + usualIndent*bytes.Count(d.Bytes, []byte("\n"))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries[e.name] != e {
		return // dropped meanwhile
	}
	former := e.texts
	e.texts = texts
	for _, d := range texts {
		c.size += int64(c.texts.Use(d))
	}
	c.release(former)
}

// release is for texts that an entry has no longer. c.mu is held.
func (c *cache) release(texts []*dedupe.Document) {
	for _, d := range texts {
		c.size -= int64(c.texts.Release(d))
	}
}

// charge sets what an entry costs whose file has size bytes beside its texts, and makes room for it.
func (c *cache) charge(e *entry, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries[e.name] != e {
		return // dropped meanwhile
	}
	c.forget(e)
	cost := max(0, size) + entryCost
	c.size += cost - e.cost
	e.cost = cost
	c.shrink()
}

// shrink drops entries that were not used for long until all is within the limit. c.mu is held.
func (c *cache) shrink() {
	for c.size > c.limit && c.recent.Len() > 0 {
		oldest := c.recent.Back().Value.(*entry)
		if c.wasUsed(oldest) {
			c.recent.MoveToFront(oldest.element)
			continue
		}
		c.recent.Remove(oldest.element)
		delete(c.entries, oldest.name)
		c.forget(oldest)
		c.release(oldest.texts)
		oldest.texts = nil
		c.size -= oldest.cost
	}
}

// wasUsed reports whether e was used since it last did, or is new. c.mu is held.
func (c *cache) wasUsed(e *entry) bool {
	used := e.used
	e.used = false
	for _, vm := range e.found {
		used = c.found[vm].used.Swap(false) || used
	}
	return used
}

// remember keeps f as long as its entry, and at that one's cost: it may hold an instance of its own.
func (c *cache) remember(vm metadata.VM, f *found) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries[f.entry.name] != f.entry {
		return // dropped meanwhile
	}
	former := c.found[vm]
	var beside *entry // former's
	if former != nil {
		beside = former.entry
		c.drop(former)
	}
	if beside != f.entry {
		f.entry.found = append(f.entry.found, vm)
	}
	if beside != nil && beside != f.entry {
		beside.found = slices.DeleteFunc(beside.found, func(other metadata.VM) bool { return other == vm })
	}
	c.bill(f, f.cost)
	c.found[vm] = f
	c.shrink()
}

// recall returns what was remembered of vm.
func (c *cache) recall(vm metadata.VM) *found {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.found[vm]
}

// forget drops what is remembered on the strength of e. c.mu is held.
func (c *cache) forget(e *entry) {
	for _, vm := range e.found {
		c.drop(c.found[vm])
		delete(c.found, vm)
	}
	e.found = nil
}

// drop is for an f that is remembered no longer. Whoever keeps it keeps no file's data by it. c.mu is held.
func (c *cache) drop(f *found) {
	c.bill(f, -f.cost)
	f.inst.Store(nil)
	f.entry = nil
}

// bill adds cost to what f's entry costs. c.mu is held.
func (c *cache) bill(f *found, cost int64) {
	f.entry.cost += cost
	c.size += cost
}

func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.entries {
		c.release(e.texts)
		e.texts = nil
	}
	for _, f := range c.found {
		c.drop(f)
	}
	c.entries, c.found = map[string]*entry{}, map[metadata.VM]*found{} // cleared, they would keep their size
	c.recent.Init()
	c.size = 0
}

// sameStat is for the stats of one file, unchanged.
func sameStat(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && changeTime(a).Equal(changeTime(b))
}

// isSettled is for a stat that any later change would show in.
func isSettled(info fs.FileInfo, now time.Time) bool {
	return now.Sub(info.ModTime()) > settleTime && now.Sub(changeTime(info)) > settleTime
}

// read returns the file's bytes, in buffer if they fit, and the stat that goes with them.
func (s source) read(buffer []byte) ([]byte, fs.FileInfo, error) {
	for range maxReads {
		data, info, err := s.readOnce(buffer)
		if err != nil {
			return nil, nil, err
		}
		if info != nil {
			return data, info, nil
		}
	}
	return nil, nil, fmt.Errorf("file: %s is being written", filepath.Join(s.driver.directory, s.name))
}

// readOnce is read; its stat is nil if the file changed meanwhile.
func (s source) readOnce(buffer []byte) ([]byte, fs.FileInfo, error) {
	f, err := s.root.OpenFile(s.name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // the open of a FIFO would wait for its writer
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("file: %s was removed just now: %w", filepath.Join(s.driver.directory, s.name), fs.ErrNotExist)
	}
	if err != nil {
		return nil, nil, s.driver.fileError(s.name, err)
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return nil, nil, s.driver.fileError(s.name, err)
	}
	switch origin := filepath.Join(s.driver.directory, s.name); {
	case !before.Mode().IsRegular():
		return nil, nil, &metadata.DataError{Origin: origin, Problem: notRegular}
	case before.Size() > vmfile.MaxSize:
		return nil, nil, &metadata.DataError{Origin: origin, Problem: fmt.Sprintf("is larger than %d MiB", vmfile.MaxSize>>20)}
	}
	data := slices.Grow(buffer[:0], int(before.Size()))[:before.Size()]
	n, err := io.ReadFull(f, data)
	data = data[:n] // what is behind it may be another file's
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, nil, s.driver.fileError(s.name, err)
	}
	after, err := f.Stat()
	if err != nil {
		return nil, nil, s.driver.fileError(s.name, err)
	}
	if !sameStat(before, after) {
		return nil, nil, nil
	}
	return data, before, nil
}
