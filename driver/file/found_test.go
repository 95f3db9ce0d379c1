//go:build linux

package file

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"vmw-cloudinit-metadata/metadata"
)

// settledDriver is a driver that takes each stat for an old one, and each moment for a later one.
func settledDriver(t *testing.T, config Config) *Driver {
	t.Helper()
	driver, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { driver.Close() })
	start, seconds := time.Now().Add(time.Hour), new(atomic.Int64)
	driver.cache.now = func() time.Time { return start.Add(time.Duration(seconds.Add(1)) * time.Second) }
	return driver
}

func TestRememberedIsTheSame(t *testing.T) {
	for name, config := range map[string]Config{
		"own file": {}, "templates": {Templates: true}, "defaults alone": {DefaultsForAll: true},
	} {
		t.Run(name, func(t *testing.T) {
			config.Directory = t.TempDir()
			text := "metadata: {hostname: web, note: '{{.VM.Name}}'}"
			if name != "defaults alone" {
				put(t, config.Directory, "web.yaml", text)
			}
			if name != "own file" {
				put(t, config.Directory, "defaults.yaml", text)
			}
			driver, vm := settledDriver(t, config), metadata.VM{Name: "web", UUID: "502e71fa-1a2b-4c3d-8e4f-000000000001"}
			first, err := driver.Find(t.Context(), vm)
			if err != nil {
				t.Fatal(err)
			}
			if remembered(driver, vm) != first {
				t.Error("nothing is remembered of the VM")
			}
			if again, err := driver.Find(t.Context(), vm); again != first || err != nil {
				t.Errorf("the second look-up gives another instance: %v", err)
			}
			if other := remembered(driver, metadata.VM{Name: "web"}); other != nil {
				t.Error("another VM, of the same name, is taken for the first")
			}
		})
	}
}

// TestOnlyANewNameMayTakeAMoment has a clock that stands still, as it does for many requests at once.
func TestOnlyANewNameMayTakeAMoment(t *testing.T) {
	const uuid = "502e71fa-1a2b-4c3d-8e4f-000000000001"
	directory := t.TempDir()
	put(t, directory, "web.yaml", "metadata: {hostname: first}")
	driver, vm := settledDriver(t, Config{Directory: directory}), metadata.VM{Name: "web", UUID: uuid}
	now := time.Now().Add(time.Hour)
	driver.cache.now = func() time.Time { return now }
	expect := func(when, want string) {
		t.Helper()
		inst, err := driver.Find(t.Context(), vm)
		if err != nil {
			t.Fatal(err)
		}
		if got := inst.MetaData["hostname"]; got != want {
			t.Errorf("%s the VM has %v, want %s", when, got, want)
		}
	}
	expect("at first", "first")
	expect("again", "first")
	put(t, directory, "web.yaml", "metadata: {hostname: edited}")
	expect("at once after an edit", "edited")
	expect("again", "edited")
	if err := os.Rename(filepath.Join(directory, "web.yaml"), filepath.Join(directory, "old.yaml")); err != nil {
		t.Fatal(err)
	}
	put(t, directory, "web.yaml", "metadata: {hostname: another}")
	expect("at once after another file came in its place", "another")
	now = now.Add(glanceLifetime)
	expect("then", "another")
	put(t, directory, uuid+".yaml", "metadata: {hostname: byuuid}")
	now = now.Add(glanceLifetime)
	expect("a moment after a file of its UUID was there", "byuuid")
	if err := os.Remove(filepath.Join(directory, uuid+".yaml")); err != nil {
		t.Fatal(err)
	}
	expect("at once after that was removed", "another")
}

func put(t *testing.T, directory, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAFileIsFoundByTheListing(t *testing.T) {
	directory := t.TempDir()
	put(t, directory, "web.yml", "metadata: {hostname: web}")
	put(t, directory, "502E71FA-1A2B-4C3D-8E4F-000000000001.yaml", "metadata: {hostname: byuuid}")
	driver := settledDriver(t, Config{Directory: directory})
	for range listAfter {
		if _, err := driver.Find(t.Context(), metadata.VM{Name: "stranger"}); !errors.Is(err, metadata.ErrNotFound) {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(directory, "web.yml")); err != nil { // so that only a listing has it
		t.Fatal(err)
	}
	root, err := driver.open()
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	names := []string{"web.yaml", "web.yml", "other.yaml"}
	there, listed := driver.listing.filter(root, directory, driver.listing.of, names, driver.cache.now())
	if !listed || !slices.Equal(there, names[1:2]) {
		t.Errorf("of %q the listing has %q (%v)", names, there, listed)
	}
	for range 2 {
		if _, err := driver.Find(t.Context(), metadata.VM{Name: "web"}); !errors.Is(err, metadata.ErrNotFound) {
			t.Errorf("a file that was removed: %v", err)
		}
		inst, err := driver.Find(t.Context(), metadata.VM{Name: "web", UUID: "502e71fa-1a2b-4c3d-8e4f-000000000001"})
		if err != nil || inst.MetaData["hostname"] != "byuuid" {
			t.Errorf("the file of the UUID is not found: %v", err)
		}
	}
}

func TestADirectoryThatJustChangedIsNotListed(t *testing.T) {
	directory := t.TempDir()
	driver, err := New(Config{Directory: directory})
	if err != nil {
		t.Fatal(err)
	}
	defer driver.Close()
	for range 2 * listAfter {
		if _, err := driver.Find(t.Context(), metadata.VM{Name: "web"}); !errors.Is(err, metadata.ErrNotFound) {
			t.Fatal(err)
		}
	}
	if driver.listing.names != nil {
		t.Error("a directory is listed whose next change might not show in its stat")
	}
}

func TestWhatChangesIsNoLongerRemembered(t *testing.T) {
	const uuid = "502e71fa-1a2b-4c3d-8e4f-000000000001"
	vm := metadata.VM{Name: "web", UUID: uuid}
	for name, c := range map[string]struct {
		do   func(dir string) error // the directory is a link's target
		want string                 // the hostname then; none if empty
	}{
		"rewritten": {
			func(dir string) error {
				return os.WriteFile(filepath.Join(dir, "web.yaml"), []byte("metadata: {hostname: neu}"), 0o600)
			}, "neu",
		},
		"rewritten, with its former size and time": {
			func(dir string) error {
				path := filepath.Join(dir, "web.yaml")
				before, err := os.Stat(path)
				for after := before; err == nil && changeTime(after).Equal(changeTime(before)); after, err = os.Stat(path) { // the clock may be coarse
					if err := os.WriteFile(path, []byte("metadata: {hostname: neu}"), 0o600); err != nil {
						return err
					}
					if err := os.Chtimes(path, before.ModTime(), before.ModTime()); err != nil {
						return err
					}
				}
				return err
			}, "neu",
		},
		"replaced": {
			func(dir string) error {
				return os.Rename(filepath.Join(dir, "other.yaml"), filepath.Join(dir, "web.yaml"))
			}, "other",
		},
		"removed": {
			func(dir string) error { return os.Remove(filepath.Join(dir, "web.yaml")) }, "",
		},
		"a file of its UUID": {
			func(dir string) error {
				return os.WriteFile(filepath.Join(dir, uuid+".yaml"), []byte("metadata: {hostname: byuuid}"), 0o600)
			}, "byuuid",
		},
		"defaults appear": {
			func(dir string) error {
				return os.WriteFile(filepath.Join(dir, "defaults.yml"), []byte("metadata: {region: north}"), 0o600)
			}, "old in north",
		},
		"the directory is another": {
			func(dir string) error {
				next := filepath.Join(filepath.Dir(dir), "next")
				if err := os.MkdirAll(next, 0o700); err != nil {
					return err
				}
				if err := os.WriteFile(filepath.Join(next, "web.yaml"), []byte("metadata: {hostname: moved}"), 0o600); err != nil {
					return err
				}
				if err := os.Symlink(next, dir+".new"); err != nil {
					return err
				}
				return os.Rename(dir+".new", dir)
			}, "moved",
		},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			target, link := filepath.Join(top, "real"), filepath.Join(top, "link")
			if err := os.Mkdir(target, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(target, link); err != nil {
				t.Fatal(err)
			}
			put(t, target, "web.yaml", "metadata: {hostname: old}")
			put(t, target, "other.yaml", "metadata: {hostname: other}")
			// What is done now shows in the time of the last change, however coarse the clock.
			old := time.Now().Add(-time.Hour)
			for _, path := range []string{filepath.Join(target, "web.yaml"), target} {
				if err := os.Chtimes(path, old, old); err != nil {
					t.Fatal(err)
				}
			}
			driver := settledDriver(t, Config{Directory: link})
			if _, err := driver.Find(t.Context(), vm); err != nil {
				t.Fatal(err)
			}
			if remembered(driver, vm) == nil {
				t.Fatal("nothing is remembered")
			}
			for range listAfter {
				if _, err := driver.Find(t.Context(), metadata.VM{Name: "stranger"}); !errors.Is(err, metadata.ErrNotFound) {
					t.Fatal(err)
				}
			}
			if len(driver.listing.names) != 2 {
				t.Fatalf("the directory is not listed: %v", driver.listing.names)
			}
			if err := c.do(link); err != nil {
				t.Fatal(err)
			}
			inst, err := driver.Find(t.Context(), vm)
			got := ""
			if err == nil {
				got, _ = inst.MetaData["hostname"].(string)
				if region, ok := inst.MetaData["region"].(string); ok {
					got += " in " + region
				}
			}
			if got != c.want {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestRememberingKeepsToTheLimit(t *testing.T) {
	const limit = 20 * (entryCost + foundCost + 100)
	directory := writeFiles(t, 50)
	put(t, directory, "defaults.yaml", "metadata: {region: north}")
	driver := settledDriver(t, Config{Directory: directory, CacheBytes: limit})
	for range 3 {
		for i := range 50 {
			vm := metadata.VM{Name: "web" + string(rune('0'+i%10))}
			if i >= 10 {
				vm.Name = "web" + string(rune('0'+i/10)) + string(rune('0'+i%10))
			}
			for _, bios := range []string{"", "4223cafe-1a2b-4c3d-8e4f-000000000001"} {
				vm.BIOSUUID = bios
				if _, err := driver.Find(t.Context(), vm); err != nil {
					t.Fatal(err)
				}
			}
			checkBill(t, driver.cache)
		}
	}
	if len(driver.cache.found) == 0 {
		t.Error("nothing is remembered")
	}
	driver.cache.clear()
	if len(driver.cache.found) != 0 {
		t.Error("clear leaves something")
	}
}

// TestAVMChangesItsFile has a VM that is remembered with one file, and with another.
func TestAVMChangesItsFile(t *testing.T) {
	const uuid = "502e71fa-1a2b-4c3d-8e4f-000000000001"
	directory := t.TempDir()
	put(t, directory, "web.yaml", "metadata: {hostname: byname}")
	driver := settledDriver(t, Config{Directory: directory})
	vm, namesake := metadata.VM{Name: "web", UUID: uuid}, metadata.VM{Name: "web"} // who has the file of the name, always
	expect := func(want string) {
		t.Helper()
		for _, asks := range []metadata.VM{namesake, vm} {
			inst, err := driver.Find(t.Context(), asks)
			if err != nil {
				t.Fatal(err)
			}
			if got := inst.MetaData["hostname"]; asks == vm && got != want {
				t.Errorf("got %v, want %s", got, want)
			}
			checkBill(t, driver.cache)
		}
	}
	expect("byname")
	put(t, directory, "another.yaml", "{}") // which makes it look again
	expect("byname")
	put(t, directory, uuid+".yaml", "metadata: {hostname: byuuid}")
	expect("byuuid")
	put(t, directory, "web.yaml", "metadata: {hostname: changed}")
	expect("byuuid")
	if err := os.Remove(filepath.Join(directory, uuid+".yaml")); err != nil {
		t.Fatal(err)
	}
	expect("changed")
	put(t, directory, uuid+".yaml", "metadata: {hostname: back}")
	expect("back")
}

// TestFilesAreClosed counts what is open after many look-ups that had to read, with nobody to tidy up behind them.
func TestFilesAreClosed(t *testing.T) {
	const vms = 200
	directory := writeFiles(t, vms)
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	driver := settledDriver(t, Config{Directory: directory, CacheBytes: -1})
	for i := range vms {
		if _, err := driver.Find(t.Context(), metadata.VM{Name: fmt.Sprint("web", i)}); err != nil {
			t.Fatal(err)
		}
		if _, err := driver.Find(t.Context(), metadata.VM{Name: fmt.Sprint("stranger", i)}); !errors.Is(err, metadata.ErrNotFound) {
			t.Fatal(err)
		}
	}
	for _, err := range driver.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	if len(open) > vms/2 {
		t.Errorf("%d files are open", len(open))
	}
}

// TestWhatMayStillChangeIsNotRemembered has stats that are younger than a clock can tell, and names that no file can have.
func TestWhatMayStillChangeIsNotRemembered(t *testing.T) {
	const uuid = "502e71fa-1a2b-4c3d-8e4f-000000000001"
	for name, c := range map[string]struct {
		vm    metadata.VM
		fresh string // what was changed just now
		want  bool
	}{
		"all is old":    {metadata.VM{Name: "web", UUID: uuid}, "", true},
		"the file":      {metadata.VM{Name: "web", UUID: uuid}, uuid + ".yaml", false},
		"the defaults":  {metadata.VM{Name: "web", UUID: uuid}, "defaults.yaml", false},
		"the directory": {metadata.VM{Name: "web", UUID: uuid}, ".", false},
		"a long name":   {metadata.VM{Name: strings.Repeat("n", maxFileName+1), UUID: uuid}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			directory := t.TempDir()
			put(t, directory, uuid+".yaml", "metadata: {hostname: web}")
			put(t, directory, "defaults.yaml", "metadata: {region: north}")
			driver, now := settledDriver(t, Config{Directory: directory}), time.Now().Add(time.Hour)
			driver.cache.now = func() time.Time { return now }
			if c.fresh != "" {
				if err := os.Chtimes(filepath.Join(directory, c.fresh), now, now); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := driver.Find(t.Context(), c.vm); err != nil {
				t.Fatal(err)
			}
			if got := driver.cache.recall(c.vm) != nil; got != c.want {
				t.Errorf("remembered: %v, want %v", got, c.want)
			}
		})
	}
}

// TestWhatIsMadeOfFilesIsCharged has small files over defaults that are not.
func TestWhatIsMadeOfFilesIsCharged(t *testing.T) {
	const vms, size = 50, 100 << 10
	directory := writeFiles(t, vms)
	put(t, directory, "defaults.yaml", "userdata: "+strings.Repeat("x", size))
	driver := settledDriver(t, Config{Directory: directory, CacheBytes: 10 * size})
	for i := range vms {
		if _, err := driver.Find(t.Context(), metadata.VM{Name: fmt.Sprint("web", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(driver.cache.found); n == 0 || n > 10 {
		t.Errorf("%d VMs are remembered with %d bytes each, in a cache of %d", n, size, 10*size)
	}
}

// checkBill adds up what the cache holds.
func checkBill(t *testing.T, c *cache) {
	t.Helper()
	var size int64
	remembered := 0
	for e := c.recent.Front(); e != nil; e = e.Next() {
		entry := e.Value.(*entry)
		size += entry.cost
		for _, vm := range entry.found {
			remembered++
			if c.found[vm] == nil || c.found[vm].entry != entry {
				t.Fatalf("%v is listed with %s, and is not remembered with it", vm, entry.name)
			}
		}
	}
	if size != c.size || size > c.limit || remembered != len(c.found) {
		t.Fatalf("entries of %d bytes, %d counted, limit %d; %d VMs remembered, %d listed", size, c.size, c.limit, len(c.found), remembered)
	}
}

// TestTheNewestFileFindsRoom has a cache that is full of files which were all used since there last was no room.
func TestTheNewestFileFindsRoom(t *testing.T) {
	const room = 10
	directory := writeFiles(t, room+1)
	driver := settledDriver(t, Config{Directory: directory, CacheBytes: room * (entryCost + foundCost + 100)})
	for i := range room + 1 {
		vm := metadata.VM{Name: fmt.Sprintf("web%d", i)}
		if _, err := driver.Find(t.Context(), vm); err != nil {
			t.Fatal(err)
		}
		if recalled(driver, vm) == nil {
			t.Errorf("file %d of %d is not kept", i+1, room+1)
		}
	}
	if driver.cache.has("web0.yaml") || !driver.cache.has("web1.yaml") {
		t.Error("another file than the oldest made room")
	}
}

// remembered returns the instance that a driver remembers of vm, on whatever file system.
func remembered(driver *Driver, vm metadata.VM) *metadata.Instance {
	if f := driver.cache.recall(vm); f != nil {
		return f.current()
	}
	return nil
}

// recalled returns the instance that a driver remembers of vm, and may tell at once.
func recalled(driver *Driver, vm metadata.VM) *metadata.Instance {
	if r := driver.Recall(vm); r != nil {
		return r.Instance()
	}
	return nil
}

// TestARecollectionEnds has one that is kept for as long as a guest is connected.
func TestARecollectionEnds(t *testing.T) {
	vm := metadata.VM{Name: "web0"}
	for name, end := range map[string]func(t *testing.T, driver *Driver){
		"with its file":      func(t *testing.T, driver *Driver) { put(t, driver.directory, "web0.yaml", "metadata: {region: south}") },
		"with the directory": func(t *testing.T, driver *Driver) { put(t, driver.directory, "defaults.yaml", "metadata: {}") },
		"when it makes room": func(t *testing.T, driver *Driver) {
			driver.cache.limit = 0
			driver.cache.shrink()
			driver.cache.shrink()
		},
		"when it is replaced": func(_ *testing.T, driver *Driver) { driver.cache.remember(vm, driver.cache.found[vm].twin()) },
		"with the driver":     func(_ *testing.T, driver *Driver) { driver.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			driver := settledDriver(t, Config{Directory: writeFiles(t, 1)})
			if _, err := driver.Find(t.Context(), vm); err != nil {
				t.Fatal(err)
			}
			r := driver.Recall(vm)
			if r == nil {
				t.Fatal("nothing is remembered")
			}
			if first, again := r.Instance(), r.Instance(); first == nil || first != again {
				t.Fatalf("the instance is %p, and %p then", first, again)
			}
			end(t, driver)
			if r.Instance() != nil {
				t.Error("it still has its instance")
			}
		})
	}
}

// TestARecollectionKeepsNoInstance has a guest that keeps what it was answered from for weeks: the cache's limit is one on
// what there is of the files, not only on what the cache has of it.
func TestARecollectionKeepsNoInstance(t *testing.T) {
	vm := metadata.VM{Name: "web0"}
	for name, end := range map[string]func(t *testing.T, driver *Driver){
		"when it makes room": func(_ *testing.T, driver *Driver) {
			driver.cache.limit = 0
			driver.cache.shrink()
			driver.cache.shrink()
		},
		"when its file is another": func(t *testing.T, driver *Driver) {
			put(t, driver.directory, "web0.yaml", "metadata: {region: south}")
			if _, err := driver.Find(t.Context(), vm); err != nil {
				t.Fatal(err)
			}
		},
		"with the driver": func(_ *testing.T, driver *Driver) { driver.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			driver := settledDriver(t, Config{Directory: writeFiles(t, 1)})
			inst, err := driver.Find(t.Context(), vm)
			if err != nil {
				t.Fatal(err)
			}
			kept, instance := driver.Recall(vm), weak.Make(inst)
			end(t, driver)
			runtime.GC()
			if instance.Value() != nil {
				t.Error("the instance is kept by whoever keeps its recollection")
			}
			runtime.KeepAlive(kept)
		})
	}
}

// twin returns another found with what f has.
func (f *found) twin() *found {
	twin := &found{driver: f.driver, local: f.local, directory: f.directory, files: f.files, entry: f.entry, cost: f.cost}
	twin.inst.Store(f.inst.Load())
	return twin
}

func BenchmarkFind(b *testing.B) {
	directory := b.TempDir()
	if err := os.WriteFile(filepath.Join(directory, "web.yaml"), []byte("metadata: {}"), 0o600); err != nil {
		b.Fatal(err)
	}
	driver, err := New(Config{Directory: directory})
	if err != nil {
		b.Fatal(err)
	}
	defer driver.Close()
	driver.cache.now = func() time.Time { return time.Now().Add(time.Hour) }
	vm := metadata.VM{Name: "web", UUID: "502e71fa-1a2b-4c3d-8e4f-000000000001"}
	for b.Loop() {
		if _, err := driver.Find(b.Context(), vm); err != nil {
			b.Fatal(err)
		}
	}
}
