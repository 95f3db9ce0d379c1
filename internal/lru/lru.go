// Package lru keeps what was used last, within a bound of bytes.
package lru

import (
	"container/list"
	"sync"
)

// overhead is what an entry costs beside its value: list element, map slot, key.
const overhead = 256

// Cache holds values up to a total size; what was not used for the longest time makes room. Its methods may be
// called at once from many goroutines.
type Cache[K comparable, V any] struct {
	mu      sync.Mutex
	limit   int
	used    int
	order   *list.List // of *entry, the latest used first
	entries map[K]*list.Element
}

type entry[K comparable, V any] struct {
	key   K
	value V
	size  int
}

// New returns a cache for limit bytes.
func New[K comparable, V any](limit int) *Cache[K, V] {
	return &Cache[K, V]{limit: limit, order: list.New(), entries: map[K]*list.Element{}}
}

// Get returns the value for key, and whether there is one.
func (c *Cache[K, V]) Get(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.entries[key]
	if !ok {
		return value, false
	}
	c.order.MoveToFront(element)
	return element.Value.(*entry[K, V]).value, true
}

// Put stores a value of so many bytes in place of key's last. One that is bigger than the cache is not stored.
func (c *Cache[K, V]) Put(key K, value V, size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(key)
	size += overhead
	if size > c.limit {
		return
	}
	c.entries[key] = c.order.PushFront(&entry[K, V]{key, value, size})
	for c.used += size; c.used > c.limit; {
		c.remove(c.order.Back().Value.(*entry[K, V]).key)
	}
}

// Remove forgets key.
func (c *Cache[K, V]) Remove(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(key)
}

// Clear forgets all.
func (c *Cache[K, V]) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used = 0
	c.order.Init()
	clear(c.entries)
}

// Len returns the number of values.
func (c *Cache[K, V]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries)
}

func (c *Cache[K, V]) remove(key K) {
	if element, ok := c.entries[key]; ok {
		c.used -= element.Value.(*entry[K, V]).size
		c.order.Remove(element)
		delete(c.entries, key)
	}
}
