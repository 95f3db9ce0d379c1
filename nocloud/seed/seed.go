// Package seed keeps the folder from which cloud-init's NoCloud datasource reads a machine's data. The folder is
// written whole or not at all, and only root can read it.
package seed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// The files of a seed. cloud-init ignores a seed that lacks one of the first two.
const (
	MetaData      = "meta-data"
	UserData      = "user-data"
	VendorData    = "vendor-data"
	NetworkConfig = "network-config"
)

// DefaultDir is where every release of cloud-init looks by itself, and reads all four files.
const DefaultDir = "/var/lib/cloud/seed/nocloud"

const (
	dirMode  = 0o700
	fileMode = 0o600
)

// Write makes dir the seed with these files, which must have meta-data and user-data, and says whether anything
// changed. What stood at dir is replaced as a whole, files that nobody asked for included; if it is the same already,
// nothing is written. After an error, or a crash at any point, dir is what it was or what it was to be: where the
// file system can't exchange two folders in one step, that takes a call of Recover, with which Write begins.
//
// The parent folder is made if need be, and must belong to the caller alone. Two Writes at once for one dir are not safe.
func Write(dir string, files map[string][]byte) (changed bool, err error) {
	if err := check(files); err != nil {
		return false, err
	}
	dir = filepath.Clean(dir)
	if err := Recover(dir); err != nil {
		return false, err
	}
	if same(dir, files) {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return false, fmt.Errorf("seed: %w", err)
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), prefix(dir)+"new-")
	if err != nil {
		return false, fmt.Errorf("seed: %w", err)
	}
	if err = fill(fresh, files); err == nil {
		err = replace(dir, fresh, exchange, os.Rename)
	}
	if err != nil {
		return false, errors.Join(fmt.Errorf("seed: %w", err), os.RemoveAll(fresh))
	}
	return true, nil
}

// Recover ends what an interrupted Write left at dir: it puts the seed back that was set aside if there is no other, and
// removes leftovers.
func Recover(dir string) error {
	dir = filepath.Clean(dir)
	aside := retired(dir)
	_, err := os.Lstat(aside)
	interrupted := !errors.Is(err, fs.ErrNotExist)
	_, err = os.Lstat(dir)
	if gone := errors.Is(err, fs.ErrNotExist); interrupted && (gone || Complete(aside) && !Complete(dir)) {
		if err := errors.Join(os.RemoveAll(dir), os.Rename(aside, dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("seed: the seed of an interrupted run can't be put back: %w", err)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("seed: %w", err)
	}
	for _, entry := range entries {
		if entry.IsDir() && isLeftover(entry.Name(), dir) {
			if err := os.RemoveAll(filepath.Join(filepath.Dir(dir), entry.Name())); err != nil {
				return fmt.Errorf("seed: a leftover can't be removed: %w", err)
			}
		}
	}
	return nil
}

// Complete says whether dir holds a seed that cloud-init would take.
func Complete(dir string) bool {
	for _, name := range []string{MetaData, UserData} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || !info.Mode().IsRegular() {
			return false
		}
	}
	return true
}

// InstanceID returns the instance-id in a seed's meta-data; "" if it has none.
func InstanceID(metaData []byte) string {
	var object map[string]json.RawMessage
	if json.Unmarshal(metaData, &object) == nil {
		var id string
		if raw := object["instance-id"]; json.Unmarshal(raw, &id) != nil {
			id = string(raw) // a number
		}
		return id
	}
	// A file made by hand is YAML; its top level is all that matters here.
	for line := range strings.Lines(string(metaData)) {
		if value, ok := strings.CutPrefix(line, "instance-id:"); ok {
			value, _, _ = strings.Cut(value, " #")
			return strings.Trim(strings.TrimSpace(value), `"'`)
		}
	}
	return ""
}

func check(files map[string][]byte) error {
	for name := range files {
		switch name {
		case MetaData, UserData, VendorData, NetworkConfig:
		default:
			return fmt.Errorf("seed: %q is no file of a seed", name)
		}
	}
	for _, name := range []string{MetaData, UserData} {
		if _, ok := files[name]; !ok {
			return fmt.Errorf("seed: %s is missing, and cloud-init ignores a seed without it", name)
		}
	}
	return nil
}

// same says whether dir holds these files, no others, and shows them to nobody.
func same(dir string, files map[string][]byte) bool {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || !private(info, dirMode) {
		return false
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(files) {
		return false
	}
	for _, entry := range entries {
		want, ok := files[entry.Name()]
		info, err := entry.Info()
		if !ok || err != nil || !info.Mode().IsRegular() || !private(info, fileMode) || info.Size() != int64(len(want)) {
			return false
		}
		got, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil || !bytes.Equal(got, want) {
			return false
		}
	}
	return true
}

// private says whether a file or folder is the caller's, and has this mode.
func private(info fs.FileInfo, mode fs.FileMode) bool {
	return runtime.GOOS == "windows" || info.Mode().Perm() == mode && owned(info)
}

// fill writes the files into an empty folder, and has all of it on the disk before it returns.
func fill(dir string, files map[string][]byte) error {
	for name, data := range files {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		if err == nil {
			err = f.Chmod(fileMode) // whatever the umask is
		}
		if err == nil {
			err = f.Sync()
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	if err := os.Chmod(dir, dirMode); err != nil {
		return err
	}
	return syncDir(dir)
}

// replace puts fresh in dir's place. swap exchanges two folders in one step, or fails with errNoExchange.
func replace(dir, fresh string, swap, rename func(a, b string) error) error {
	parent := filepath.Dir(dir)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := rename(fresh, dir); err != nil {
			return err
		}
		return syncDir(parent)
	}
	switch err := swap(dir, fresh); {
	case err == nil:
		if err := syncDir(parent); err != nil {
			return err
		}
		return os.RemoveAll(fresh)
	case !errors.Is(err, errNoExchange):
		return err
	}
	// Two steps, and between them there is no seed: Recover knows the name of the one that was set aside.
	aside := retired(dir)
	switch err := rename(dir, aside); {
	case errors.Is(err, syscall.EXDEV):
		return takeOver(dir, fresh, rename)
	case err != nil:
		return err
	}
	if err := rename(fresh, dir); err != nil {
		return errors.Join(err, rename(aside, dir))
	}
	if err := syncDir(parent); err != nil {
		return err
	}
	return os.RemoveAll(aside)
}

// takeOver is replace where dir can't be renamed: an overlay file system does not do that with a folder of the disk below.
// The new seed is set aside instead; from its first step on the old one is none, so that Recover takes the new.
func takeOver(dir, fresh string, rename func(a, b string) error) error {
	parent, aside := filepath.Dir(dir), retired(dir)
	if err := errors.Join(rename(fresh, aside), syncDir(parent)); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, UserData)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(syncDir(dir), os.RemoveAll(dir), rename(aside, dir), syncDir(parent))
}

var errNoExchange = errors.New("this file system can't exchange two folders")

// isLeftover says whether Write, or the shell client, has made the folder of that name beside dir. An editor's file may
// begin like one.
func isLeftover(name, dir string) bool {
	rest, ok := strings.CutPrefix(name, prefix(dir))
	if !ok || rest == "old" {
		return ok
	}
	number, ok := strings.CutPrefix(rest, "new")
	return ok && len(number) > 1 && strings.ContainsAny(number[:1], "-.") && strings.Trim(number[1:], "0123456789") == ""
}

// prefix begins the names of what Write keeps beside dir for a moment.
func prefix(dir string) string { return "." + filepath.Base(dir) + "." }

func retired(dir string) string { return filepath.Join(filepath.Dir(dir), prefix(dir)+"old") }

// syncDir makes the names in a folder durable. Windows has no such thing.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
