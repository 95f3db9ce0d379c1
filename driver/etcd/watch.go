package etcd

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"vmw-cloudinit-metadata/internal/lru"
)

const (
	// heartbeat is how often etcd is asked how far the watch is.
	heartbeat = time.Second
	// maxSilence is how long nothing may come until what was kept is not trusted any more: the longest that a change can
	// go unseen, if the network fails between etcd and us alone.
	maxSilence = 3 * time.Second
	// parsedCost is how much bigger a document is once it is parsed.
	parsedCost = 4
)

// cache keeps documents for as long as the watch is heard of.
type cache struct {
	documents *lru.Cache[string, *document]

	mu       sync.Mutex
	live     bool
	revision int64 // up to which all changes are known
	heard    time.Time
}

func newCache(bytes int) *cache { return &cache{documents: lru.New[string, *document](bytes)} }

// first returns the document of the first key that has one, or that none has; nil if that is not known.
func (c *cache) first(keys []string) *document {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.live || time.Since(c.heard) > maxSilence {
		return nil
	}
	var last *document
	for _, key := range keys {
		doc, ok := c.documents.Get(key)
		if !ok {
			return nil
		}
		if last = doc; !doc.missing {
			break
		}
	}
	return last
}

// put keeps what was read at a revision, unless a later change may have been seen already.
func (c *cache) put(key string, doc *document, revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live && revision >= c.revision {
		c.documents.Put(key, doc, parsedCost*doc.size)
	}
}

// change takes what the watch says.
func (c *cache) change(response *clientv3.WatchResponse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.heard) > maxSilence {
		c.documents.Clear()
	}
	c.live, c.heard = true, time.Now()
	c.revision = max(c.revision, response.Header.Revision)
	for _, event := range response.Events {
		c.documents.Remove(string(event.Kv.Key))
	}
}

// lose is for the end of a watch: changes may come that nobody sees.
func (c *cache) lose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live = false
	c.documents.Clear()
}

// watch follows the changes until Close.
func (d *Driver) watch() {
	for d.ctx.Err() == nil {
		d.follow()
		d.cache.lose()
		select {
		case <-time.After(heartbeat):
		case <-d.ctx.Done():
		}
	}
}

// follow runs one watch until it ends, or falls silent.
func (d *Driver) follow() {
	client, err := d.connect()
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(d.ctx))
	defer cancel()
	if !d.mayRead(ctx, client) { // to be refused a watch has its dangers: see end
		return
	}
	changes := client.Watch(ctx, d.config.Prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for heard := time.Now(); time.Since(heard) <= maxSilence; {
		select {
		case response, open := <-changes:
			if !open || response.Err() != nil {
				return
			}
			heard = time.Now()
			d.cache.change(&response)
		case <-beat.C:
			asking, done := context.WithTimeout(ctx, heartbeat)
			err := client.RequestProgress(asking)
			done()
			if err != nil && ctx.Err() != nil {
				return
			}
		}
	}
}

// mayRead reports whether etcd lets us read, and thus watch, what is under the prefix.
func (d *Driver) mayRead(ctx context.Context, client *clientv3.Client) bool {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	_, err := client.Get(ctx, d.config.Prefix, clientv3.WithPrefix(), clientv3.WithLimit(1), clientv3.WithKeysOnly())
	return err == nil
}
