// Package dedupe keeps one copy of documents that are equal: of the cloud-config that a thousand VMs have, say.
package dedupe

import (
	"bytes"
	"hash/maphash"
	"sync"
)

// MinSize is how large a document has to be, in bytes, for sharing it to save more than it costs.
const MinSize = 256

// Table holds the documents in use. Its methods may be called at once. The zero value is ready.
type Table struct {
	once sync.Once
	seed maphash.Seed

	mu    sync.Mutex
	bySum map[uint64]*Document
}

// Document is one of them, with what was made of it. Neither must be changed.
type Document struct {
	Bytes []byte
	Made  []byte

	sum   uint64
	users int // guarded by Table.mu
}

// cost is how many bytes it takes.
func (d *Document) cost() int { return len(d.Bytes) + len(d.Made) }

// Of returns the document that is equal to data: one in use, or else a new one with what maker returns, which is data
// itself or a copy, and what is made of it. Equal means byte for byte, whatever the hashes say. The document is found by
// others from its first Use on.
func (t *Table) Of(data []byte, maker func(data []byte) (kept, made []byte)) *Document {
	sum := t.sum(data)
	t.mu.Lock()
	d := t.bySum[sum]
	t.mu.Unlock()
	if d != nil && bytes.Equal(d.Bytes, data) {
		return d
	}
	d = &Document{sum: sum}
	d.Bytes, d.Made = maker(data)
	return d
}

func (t *Table) sum(data []byte) uint64 {
	t.once.Do(func() { t.seed = maphash.MakeSeed() })
	return maphash.Bytes(t.seed, data)
}

// Use counts a user of d, and returns how many bytes are held for that alone: none, where there is another user. Each Use
// takes a Release.
func (t *Table) Use(d *Document) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.users++
	if t.bySum == nil {
		t.bySum = make(map[uint64]*Document)
	}
	if t.bySum[d.sum] == nil { // else it is d, or one that came first; d stays its users' own then
		t.bySum[d.sum] = d
	}
	if d.users > 1 {
		return 0
	}
	return d.cost()
}

// Release ends a Use, and returns how many bytes are held no longer.
func (t *Table) Release(d *Document) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.users--
	if d.users > 0 {
		return 0
	}
	if t.bySum[d.sum] == d {
		delete(t.bySum, d.sum)
	}
	return d.cost()
}

// Len returns how many documents others would find.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.bySum)
}
