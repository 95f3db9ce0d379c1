package file

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"vmw-cloudinit-metadata/metadata"
)

func link(t *testing.T, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

func directory(t *testing.T, path string, files map[string]string) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		put(t, path, name, text)
	}
	return path
}

// TestAVMHasItsFileWhileFilesAreReplaced changes the directory in the middle of a look-up. The cache's clock is the sign of
// how far that is: it is asked when the VM's file is looked for, when it was read, and when the defaults are looked for.
func TestAVMHasItsFileWhileFilesAreReplaced(t *testing.T) {
	files := map[string]string{"web.yaml": "metadata: {hostname: web}", "defaults.yaml": "metadata: {region: north}"}
	for name, c := range map[string]struct {
		at      int64 // which look at the clock
		prepare func(t *testing.T, dir string)
		change  func(t *testing.T, dir string)
	}{
		"what the VM's link leads to is removed, and the link is another then": {
			2,
			func(t *testing.T, dir string) {
				put(t, dir, "defaults.yaml", files["defaults.yaml"])
				link(t, "..old/web.yaml", filepath.Join(dir, "web.yaml"))
			},
			func(t *testing.T, dir string) {
				directory(t, filepath.Join(dir, "..new"), files)
				link(t, "..new/web.yaml", filepath.Join(dir, "web.yaml"))
			},
		},
		"the same with the defaults": {
			4,
			func(t *testing.T, dir string) {
				put(t, dir, "web.yaml", files["web.yaml"])
				link(t, "..data/defaults.yaml", filepath.Join(dir, "defaults.yaml"))
				link(t, "..old", filepath.Join(dir, "..data"))
			},
			func(t *testing.T, dir string) {
				directory(t, filepath.Join(dir, "..new"), files)
				link(t, "..new", filepath.Join(dir, "..data"))
			},
		},
		"the directory is another, and the former one is emptied": {
			1,
			func(t *testing.T, dir string) { directory(t, dir, files) },
			func(t *testing.T, dir string) {
				if err := os.Rename(dir, dir+".old"); err != nil {
					t.Fatal(err)
				}
				directory(t, dir, files)
				for name := range files {
					if err := os.Remove(filepath.Join(dir+".old", name)); err != nil {
						t.Fatal(err)
					}
				}
			},
		},
		"the directory is emptied once the VM's file was read": {
			2,
			func(t *testing.T, dir string) { directory(t, dir, files) },
			func(t *testing.T, dir string) {
				if err := os.Rename(dir, dir+".old"); err != nil {
					t.Fatal(err)
				}
				directory(t, dir, files)
				if err := os.Remove(filepath.Join(dir+".old", "defaults.yaml")); err != nil {
					t.Fatal(err)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := directory(t, filepath.Join(t.TempDir(), "vms"), nil)
			c.prepare(t, dir)
			old := time.Now().Add(-time.Hour) // what is done now shows, however coarse the clock
			if err := os.Chtimes(dir, old, old); err != nil {
				t.Fatal(err)
			}
			driver, looks := settledDriver(t, Config{Directory: dir}), int64(0)
			driver.cache.now = func() time.Time {
				if looks++; looks == c.at {
					c.change(t, dir)
				}
				return old
			}
			inst, err := driver.Find(t.Context(), metadata.VM{Name: "web"})
			if err != nil {
				t.Fatal(err)
			}
			if inst.MetaData["hostname"] != "web" || inst.MetaData["region"] != "north" {
				t.Errorf("it has %v", inst.MetaData)
			}
		})
	}
}

// TestALinkThatLeadsNowhere has one that leads to a file later, which does not show in the directory.
func TestALinkThatLeadsNowhere(t *testing.T) {
	const uuid = "502e71fa-1a2b-4c3d-8e4f-000000000001"
	vm := metadata.VM{Name: "web", UUID: uuid}
	for _, listed := range []bool{false, true} {
		dir := directory(t, t.TempDir(), map[string]string{"web.yaml": "metadata: {hostname: byname}"})
		sub := directory(t, filepath.Join(dir, "sub"), nil)
		link(t, "sub/web.yaml", filepath.Join(dir, uuid+".yaml"))
		driver := settledDriver(t, Config{Directory: dir})
		for range listAfter {
			if listed {
				_, _ = driver.Find(t.Context(), metadata.VM{Name: "stranger"})
			}
		}
		for _, want := range []string{"byname", "byuuid"} {
			for range 2 {
				inst, err := driver.Find(t.Context(), vm)
				if err != nil {
					t.Fatalf("listed %v: %v", listed, err)
				}
				if got := inst.MetaData["hostname"]; got != want {
					t.Errorf("listed %v: got %v, want %s", listed, got, want)
				}
			}
			put(t, sub, "web.yaml", "metadata: {hostname: byuuid}")
		}
	}
}

// TestALookUpKeepsToOneDirectory swaps two directories all the while. In one of them a file of the VM's name is not the
// VM's, which has one of its UUID there.
func TestALookUpKeepsToOneDirectory(t *testing.T) {
	const uuid = "502e71fa-1a2b-4c3d-8e4f-000000000001"
	top := t.TempDir()
	directory(t, filepath.Join(top, "one"), map[string]string{"web.yaml": "metadata: {hostname: one}"})
	directory(t, filepath.Join(top, "two"), map[string]string{
		"web.yaml": "metadata: {hostname: another}", uuid + ".yaml": "metadata: {hostname: two}",
	})
	path := filepath.Join(top, "vms")
	link(t, "one", path)
	driver, done := settledDriver(t, Config{Directory: path}), make(chan struct{})
	go func() {
		defer close(done)
		for i := range 2_000 {
			if err := os.Symlink([]string{"two", "one"}[i%2], path+".new"); err != nil {
				t.Error(err)
			}
			if err := os.Rename(path+".new", path); err != nil {
				t.Error(err)
			}
		}
	}()
	for i := 0; ; i++ {
		inst, err := driver.Find(t.Context(), metadata.VM{Name: "web", UUID: uuid, LocationUUID: strconv.Itoa(i)})
		if err != nil || inst.MetaData["hostname"] == "another" {
			t.Fatalf("look-up %d: %v, %v", i, inst, err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}
