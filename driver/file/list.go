package file

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"
	"strings"

	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/vmfile"
)

// All implements metadata.Lister: the files of VMs, in the order of their names. Files that are no VM's (a name that
// starts with a dot, another extension, defaults.yaml) are left out, but for those that look like a VM's and are never read,
// and for defaults.yaml where VMs without a file get it: its entry has a zero VM. Each file is read, past the cache; defaults and
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
			if file.IsDir() {
				continue
			}
			vm, ok := identity(file.Name())
			entry := metadata.Entry{Key: file.Name(), VM: vm}
			if why := whyUnread(file.Name(), there); why != "" {
				err = &metadata.DataError{Origin: filepath.Join(d.directory, file.Name()), Problem: "is never read: " + why}
			} else if ok || d.isForAll(file.Name()) {
				entry.Instance, err = d.load(source{d, root, file.Name()})
			} else {
				continue
			}
			if errors.Is(err, fs.ErrNotExist) { // removed since
				continue
			}
			if err == nil {
				if !ok { // complete reads it
					entry.Instance = nil
				}
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

// isForAll is for the names of the file that VMs without one get.
func (d *Driver) isForAll(name string) bool {
	return d.config.DefaultsForAll && slices.Contains(defaultsNames(), name)
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

// whyUnread says why one of the files that are there is never read, though its name looks as if it would be; "" if it is, or looks
// like nothing of the kind.
func whyUnread(name string, there map[string]bool) string {
	names := defaultsNames()
	if vm, ok := identity(name); ok {
		names = fileNames(vm)
	} else if base, isYAML := cutExtension(name); !isYAML {
		return ""
	} else if id, isUUID := metadata.ParseUUID(base); isUUID {
		return fmt.Sprintf("the file of the VM with this UUID is named %q", id+extensions()[0])
	} else if !strings.EqualFold(base, reserved) {
		return ""
	} else if !slices.Contains(names, name) {
		return fmt.Sprintf("the file for all VMs is named %q", names[0])
	}
	for _, first := range names {
		if first == name {
			break
		}
		if there[first] {
			return fmt.Sprintf("%q goes before it; remove one of them", first)
		}
	}
	return ""
}

// load reads and parses a file.
func (d *Driver) load(file source) (*metadata.Instance, error) {
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
	there := make(map[string]bool, len(files))
	for _, file := range files {
		there[file.Name()] = true
	}
	n := 0
	for _, file := range files {
		if _, ok := identity(file.Name()); !file.IsDir() && (ok || d.isForAll(file.Name()) || whyUnread(file.Name(), there) != "") {
			n++
		}
	}
	return n, nil
}
