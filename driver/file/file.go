// Package file is the driver for data in a directory: one file for each VM, in the format of package vmfile.
//
// A VM's file is <VC UUID>.yaml, else <VM name>.yaml; .yml does as well. What is in defaults.yaml, if there is one, lies
// below each VM's own, merged as package metadata/layer has it. A file is read anew when it has changed, so that
// an edited file is served at the next request, and not before.
package file

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"vmw-cloudinit-metadata/internal/options"
	"vmw-cloudinit-metadata/internal/workers"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/metadata/layer"
	"vmw-cloudinit-metadata/metadata/template"
)

// maxBusy is how many look-ups are in the file system at once. When a network file system hangs, no more goroutines
// than these wait for it.
const maxBusy = 64

// notRegular is what is wrong with a directory, a FIFO, a device or a socket.
const notRegular = "is not a regular file"

// errClosed is for look-ups after Close.
var errClosed = errors.New("file: the driver is closed")

// Driver finds VMs' data in a directory. Its methods may be called at once.
type Driver struct {
	directory string
	config    Config
	busy      chan struct{}
	workers   *workers.Pool
	cache     *cache
	listing   listing
	glance    glance
	closed    atomic.Bool
}

var _ interface {
	metadata.Driver
	metadata.Lister
	metadata.Recaller
	layer.Previewer
} = (*Driver)(nil)

// New returns a driver for a directory, which must be there. Close it after use.
func New(config Config) (*Driver, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	directory, err := filepath.Abs(config.Directory)
	if err != nil {
		return nil, fmt.Errorf("file: %w", err)
	}
	if config.CacheBytes == 0 {
		config.CacheBytes = DefaultCacheBytes
	}
	d := &Driver{directory: directory, config: config, busy: make(chan struct{}, maxBusy), workers: workers.New(maxBusy), cache: newCache(config.CacheBytes)}
	root, err := os.OpenRoot(directory)
	if err != nil {
		return nil, fmt.Errorf("file: %w", &options.Error{Key: "directory", Problem: cmp.Or(d.whyClosed(err), err.Error())})
	}
	return d, root.Close()
}

// Close frees what the driver keeps. Later calls of its methods fail.
func (d *Driver) Close() error {
	d.closed.Store(true)
	d.workers.Close()
	d.cache.clear()
	d.listing.forget()
	return nil
}

// Find implements metadata.Driver. While a VM's file stays as it is, and in the cache, the Instance is the same one.
//
// A file that can't be read, or is no file, is metadata.ErrInvalid; a directory that can't be reached is none of the
// contract's errors: it may come back.
func (d *Driver) Find(ctx context.Context, vm metadata.VM) (*metadata.Instance, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if d.closed.Load() {
		return nil, errClosed
	}
	if f := d.cache.recall(vm); f != nil {
		if inst := f.Instance(); inst != nil {
			return inst, nil
		}
	}
	select {
	case d.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	type result struct {
		inst *metadata.Instance
		err  error
	}
	done := make(chan result, 1)
	d.workers.Go(func() { // a file system may take its time; the caller's ctx doesn't reach it
		defer func() { <-d.busy }()
		inst, err := d.find(ctx, vm)
		done <- result{inst, err}
	})
	select {
	case r := <-done:
		return r.inst, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (d *Driver) find(ctx context.Context, vm metadata.VM) (inst *metadata.Instance, err error) {
	defer metadata.CatchPanic(&err)
	if f := d.cache.recall(vm); f != nil {
		if inst := f.current(); inst != nil {
			return inst, nil
		}
	}
	for tried := 1; ; tried++ {
		inst, stands, err := d.findOnce(ctx, vm)
		if stands || tried == maxReads || ctx.Err() != nil {
			return inst, err
		}
	}
}

// findOnce is find; what it found stands if the directory was the same all the while. Where one set of files gives way to
// another, names may be missing that are in both.
func (d *Driver) findOnce(ctx context.Context, vm metadata.VM) (inst *metadata.Instance, stands bool, err error) {
	root, err := d.open()
	if err != nil {
		return nil, true, err
	}
	defer root.Close()
	l := &lookUp{driver: d, root: root}
	if l.directory, err = l.stamp(); err != nil {
		return nil, true, d.directoryError(err)
	}
	inst, err = l.find(ctx, vm)
	now, unknown := l.stamp()
	return inst, !l.gone && unknown == nil && now == l.directory, err
}

// lookUp is one search in the directory.
type lookUp struct {
	driver    *Driver
	root      *os.Root
	directory stamp // the root's, from before its files were looked for
	gone      bool  // a name is there, and leads nowhere
}

// stamp returns the root's, which need not be that of what is at the directory's path.
func (l *lookUp) stamp() (stamp, error) {
	info, err := l.root.Stat(".")
	if err != nil {
		return stamp{}, err
	}
	return stampOf(info), nil
}

func (l *lookUp) find(ctx context.Context, vm metadata.VM) (*metadata.Instance, error) {
	own, err := l.own(ctx, vm)
	if err != nil {
		return nil, err
	}
	inst, defaults, err := l.complete(ctx, vm, own.instance())
	if err == nil && !l.gone {
		l.driver.remember(vm, l.directory, own, defaults, inst)
	}
	return inst, err
}

// own returns what is in the VM's own file; nil if it has none and gets the defaults for all.
func (l *lookUp) own(ctx context.Context, vm metadata.VM) (*read, error) {
	names := fileNames(vm)
	own, err := l.first(ctx, names)
	switch {
	case err != nil || own != nil || l.driver.config.DefaultsForAll:
		return own, err
	case len(names) == 0:
		return nil, fmt.Errorf("file: no UUID, and no name that a file can have: %w", metadata.ErrNotFound)
	}
	return nil, fmt.Errorf("file: none of %q in %s: %w", names, l.driver.directory, metadata.ErrNotFound)
}

// first returns what is in the first of the files that is there; nil if none is.
func (l *lookUp) first(ctx context.Context, names []string) (*read, error) {
	d := l.driver
	names, listed := d.listing.filter(l.root, d.directory, l.directory, names, d.cache.now())
	for _, name := range names {
		var info fs.FileInfo
		if !listed || d.cache.has(name) {
			var err error
			info, err = l.stat(name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, d.fileError(name, err)
			}
		}
		r, err := d.cache.get(ctx, source{d, l.root, name}, info)
		if errors.Is(err, fs.ErrNotExist) {
			l.gone = true
			continue
		}
		return r, err
	}
	return nil, nil
}

func (l *lookUp) stat(name string) (fs.FileInfo, error) {
	info, err := l.root.Lstat(name)
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		info, err = l.root.Stat(name)
		l.gone = l.gone || errors.Is(err, fs.ErrNotExist)
	}
	return info, err
}

// complete puts the defaults below a VM's data, which may be nil, and fills in the templates. It also returns what it
// read of the defaults, nil if there are none.
func (l *lookUp) complete(ctx context.Context, vm metadata.VM, own *metadata.Instance) (*metadata.Instance, *read, error) {
	d := l.driver
	defaults, err := l.first(ctx, defaultsNames())
	if err != nil {
		return nil, nil, err
	}
	var instances []*metadata.Instance // in the order in which they are laid over each other
	if defaults != nil {
		instances = append(instances, defaults.inst)
	}
	if own != nil {
		instances = append(instances, own)
	}
	if len(instances) == 0 {
		return nil, nil, fmt.Errorf("file: neither a file of the VM nor %q in %s: %w", defaultsNames(), d.directory, metadata.ErrNotFound)
	}
	if d.config.Templates { // each by itself: in a message of several user-datas, one may be encoded
		for i, inst := range instances {
			if instances[i], err = template.Expand(vm, inst); err != nil {
				return nil, nil, err
			}
		}
	}
	inst, err := layer.Merge(instances...)
	if err != nil {
		return nil, nil, err
	}
	return inst, defaults, nil
}

// open opens the directory, each time anew: a directory that was swapped for another, or is back on its mount,
// is then seen without further ado.
func (d *Driver) open() (*os.Root, error) {
	root, err := os.OpenRoot(d.directory)
	if err != nil {
		return nil, d.directoryError(err)
	}
	return root, nil
}

// directoryError is for a directory that can't be opened, or not be searched.
func (d *Driver) directoryError(err error) error {
	if why := d.whyClosed(err); why != "" {
		return errors.New("file: " + why)
	}
	return fmt.Errorf("file: %w", err)
}

// whyClosed says what an administrator can mend; "" if the error says it.
func (d *Driver) whyClosed(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "there is no directory " + d.directory
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("directory %s can't be read: permission denied; the server runs as %s, which needs r and x on it", d.directory, userName())
	}
	return ""
}

// fileError is for a VM's file that is there and can't be had. Input and output errors may pass; all others stay.
func (d *Driver) fileError(name string, err error) error {
	e := &metadata.DataError{Origin: filepath.Join(d.directory, name)}
	switch {
	case errors.Is(err, fs.ErrPermission):
		e.Problem = "can't be read: permission denied; the server runs as " + userName()
	case isLinkError(err):
		e.Problem = "is a link that leads out of the directory or in a circle, or an absolute one: use a relative one that stays in it, or a copy"
	case errors.Is(err, syscall.ENXIO): // a socket
		e.Problem = notRegular
	case errors.Is(err, syscall.ENOTDIR):
		e.Problem = "is a link through something that is no directory"
	default:
		return fmt.Errorf("file: in %s: %w", d.directory, err)
	}
	return e
}

// userName returns the user whom the system checks files' permissions for.
func userName() string {
	if u, err := user.Current(); err == nil {
		return "user " + u.Username
	}
	return fmt.Sprintf("user %d", os.Geteuid())
}

// isLinkError is for what os.Root refuses to follow. It has no error value of its own.
func isLinkError(err error) bool {
	pathError, ok := errors.AsType[*fs.PathError](err)
	return ok && (strings.Contains(pathError.Err.Error(), "escapes") || errors.Is(err, errLoop))
}
