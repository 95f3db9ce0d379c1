package file

import (
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"vmw-cloudinit-metadata/metadata"
)

// found is what a VM was given, and the stats that all of it rested on. As long as none of them changes, another
// look-up would find the same.
type found struct {
	driver    *Driver
	inst      atomic.Pointer[metadata.Instance] // nil once the cache has dropped it: others may keep the rest
	used      atomic.Bool                       // since shrink last saw it
	local     bool                              // on file systems that answer at once
	directory stamp
	files     [2]stampedFile // the VM's own, and the defaults; no path where there was none
	entry     *entry         // whose place in the cache it shares; nil once the cache has dropped it, which guards it
	cost      int64          // in bytes, beside the entry's own
}

type stampedFile struct {
	path string
	stamp
}

// foundCost is what a found costs at least: its stats, paths and place in a map.
const foundCost = 1 << 10

// maxFoundName bounds the names of VMs that are remembered: longer ones can't have files, so a hostile VM would
// have to have a UUID's.
const maxFoundName = maxFileName

// remember keeps what vm was given, made of own and defaults, either of which may be nil. The directory's stamp was taken
// before its files were looked for. Nothing is kept while a change might not show in a stamp yet.
func (d *Driver) remember(vm metadata.VM, directory stamp, own, defaults *read, inst *metadata.Instance) {
	now := d.cache.now()
	if !directory.isSettled(now) || len(vm.Name) > maxFoundName {
		return
	}
	f := &found{driver: d, directory: directory, local: d.listing.isOf(directory) || directory.isLocal(d.directory), cost: foundCost}
	for i, r := range []*read{own, defaults} {
		if r == nil {
			continue
		}
		if !r.stamp.isSettled(now) {
			return
		}
		f.files[i] = stampedFile{filepath.Join(d.directory, r.entry.name), r.stamp}
		f.local = f.local && r.stamp.sameFileSystem(directory)
		if f.entry == nil {
			f.entry = r.entry
		}
		if inst != r.inst { // merged, or filled in
			f.cost += r.size
		}
	}
	f.inst.Store(inst)
	d.cache.remember(vm, f)
}

// Recall implements metadata.Recaller.
func (d *Driver) Recall(vm metadata.VM) metadata.Recollection {
	if f := d.cache.recall(vm); f != nil {
		return f
	}
	return nil
}

// Instance implements metadata.Recollection. It asks only such file systems as answer at once.
func (f *found) Instance() *metadata.Instance {
	if !f.local {
		return nil
	}
	return f.current()
}

// current returns what the VM was given, if nothing has changed since.
func (f *found) current() *metadata.Instance {
	inst, d := f.inst.Load(), f.driver
	if inst == nil || d.closed.Load() || d.glance.at(d.directory, d.cache.now()) != f.directory {
		return nil
	}
	for i := range f.files {
		if f.files[i].path != "" && !f.files[i].isOf(f.files[i].path) {
			return nil
		}
	}
	if !f.used.Load() {
		f.used.Store(true) // to move its entry to the front each time would touch its neighbours' memory
	}
	return inst
}

// glanceLifetime is how long a look at the directory is good for: all requests of a storm within it share one, and nobody
// who adds a file can tell. Only a new name that goes before a VM's former one waits for the next look: a file that
// changes, goes or gives way to another is seen at the next request, by its own stat.
const glanceLifetime = time.Millisecond

// glance is the last look at the directory.
type glance struct {
	mu    sync.Mutex
	taken time.Time
	stamp stamp // zero if there was no directory
}

// at returns the stamp of the directory at path, as it was a moment ago at most.
func (g *glance) at(path string, now time.Time) stamp {
	g.mu.Lock()
	defer g.mu.Unlock()
	if age := now.Sub(g.taken); age < 0 || age >= glanceLifetime {
		g.stamp, _ = stampAt(path)
		g.taken = now
	}
	return g.stamp
}

// isOf reports whether the stat of what is at path now is s.
func (s stamp) isOf(path string) bool {
	now, ok := stampAt(path)
	return ok && now == s
}

// isSettled is for a stat that any later change would show in.
func (s stamp) isSettled(now time.Time) bool {
	return s.valid() && now.Sub(s.latest()) > settleTime
}
