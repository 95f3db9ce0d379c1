package file

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"strings"

	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/vmfile"
)

// All implements metadata.Lister: the files of VMs, in the order of their names. Files that are no VM's (a name that
// starts with a dot, another extension, defaults.yaml) are left out. Each file is read, past the cache; defaults and
// templates are as Find has them, with a stand-in for what the file's name does not tell of the VM.
func (d *Driver) All(ctx context.Context) iter.Seq2[metadata.Entry, error] {
	return func(yield func(metadata.Entry, error) bool) {
		if d.closed.Load() {
			yield(metadata.Entry{}, errClosed)
			return
		}
		root, err := d.open()
		if err != nil {
			yield(metadata.Entry{}, err)
			return
		}
		defer root.Close()
		files, err := fs.ReadDir(root.FS(), ".")
		if err != nil {
			yield(metadata.Entry{}, fmt.Errorf("file: %w", err))
			return
		}
		there := make(map[string]bool, len(files))
		for _, file := range files {
			there[file.Name()] = true
		}
		for _, file := range files {
			if err := ctx.Err(); err != nil {
				yield(metadata.Entry{}, err)
				return
			}
			vm, ok := identity(file.Name())
			if !ok || file.IsDir() {
				continue
			}
			entry := metadata.Entry{Key: file.Name(), VM: vm}
			entry.Instance, err = d.load(source{d, root, file.Name()}, there)
			if errors.Is(err, fs.ErrNotExist) { // removed since
				continue
			}
			if err == nil {
				entry.Instance, _, err = (&lookUp{driver: d, root: root}).complete(ctx, standIn(vm), entry.Instance)
			}
			if !yield(entry, err) {
				return
			}
		}
	}
}

// Preview implements layer.Previewer: Find, past the memory of what VMs were given, with a stand-in in templates for what is not
// known of the VM.
func (d *Driver) Preview(ctx context.Context, vm metadata.VM) (*metadata.Instance, error) {
	if d.closed.Load() {
		return nil, errClosed
	}
	root, err := d.open()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	l := &lookUp{driver: d, root: root}
	if l.directory, err = l.stamp(); err != nil {
		return nil, d.directoryError(err)
	}
	own, err := l.own(ctx, vm)
	if err != nil {
		return nil, err
	}
	inst, _, err := l.complete(ctx, standIn(vm), own.instance())
	return inst, err
}

// standIn is a VM of which all is known, for templates. No two VMs share what stands in, or they would seem to share what is
// made of it.
func standIn(vm metadata.VM) metadata.VM {
	sum := sha256.Sum256([]byte(vm.Name + "\x00" + vm.UUID))
	for i, unknown := range []*string{&vm.UUID, &vm.BIOSUUID, &vm.LocationUUID} {
		if *unknown == "" {
			*unknown = fmt.Sprintf("00000000-0000-4000-8000-%x", sum[6*i:6*i+6])
		}
	}
	if vm.Name == "" {
		vm.Name = vm.UUID
	}
	return vm
}

// load reads and parses one of the files that are there.
func (d *Driver) load(file source, there map[string]bool) (*metadata.Instance, error) {
	if base, isShort := strings.CutSuffix(file.name, ".yml"); isShort && there[base+".yaml"] {
		return nil, &metadata.DataError{
			Origin:  filepath.Join(d.directory, file.name),
			Problem: fmt.Sprintf("is never read: %q goes before it; remove one of them", base+".yaml"),
		}
	}
	data, _, err := file.read(nil)
	if _, isThere := file.root.Lstat(file.name); errors.Is(err, fs.ErrNotExist) && isThere == nil {
		return nil, &metadata.DataError{Origin: filepath.Join(d.directory, file.name), Problem: "is a link to a file that is not there"}
	}
	if err != nil {
		return nil, err
	}
	return vmfile.Parse(filepath.Join(d.directory, file.name), data)
}

// Count implements metadata.Counter. It reads the directory, and no file.
func (d *Driver) Count(context.Context) (int, error) {
	root, err := d.open()
	if err != nil {
		return 0, err
	}
	defer root.Close()
	files, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return 0, fmt.Errorf("file: %w", err)
	}
	n := 0
	for _, file := range files {
		if _, ok := identity(file.Name()); ok && !file.IsDir() {
			n++
		}
	}
	return n, nil
}
