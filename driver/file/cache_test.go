package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/vmfile"
)

// counting returns a driver for directory that counts its parses.
func counting(t *testing.T, config Config) (*Driver, *atomic.Int64) {
	t.Helper()
	driver, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { driver.Close() })
	var parses atomic.Int64
	driver.cache.parse = func(p *vmfile.Parser, name string, data []byte) (*metadata.Instance, error) {
		parses.Add(1)
		return p.Parse(name, data)
	}
	return driver, &parses
}

func writeFiles(t *testing.T, n int) string {
	t.Helper()
	directory := t.TempDir()
	for i := range n {
		text := fmt.Sprintf("metadata:\n  hostname: web%d\n", i)
		if err := os.WriteFile(filepath.Join(directory, fmt.Sprintf("web%d.yaml", i)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return directory
}

func TestTenThousandVMsCostTenThousandParses(t *testing.T) {
	const vms = 10_000
	driver, parses := counting(t, Config{Directory: writeFiles(t, vms)})
	var wg sync.WaitGroup
	for range 3 { // each VM asks three times, some at once
		for part := range 8 {
			wg.Go(func() {
				for i := part; i < vms; i += 8 {
					want := fmt.Sprintf("web%d", i)
					inst, err := driver.Find(t.Context(), metadata.VM{Name: want})
					if err != nil || inst.MetaData["hostname"] != want {
						t.Errorf("%s: got %v, %v", want, inst, err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	if got := parses.Load(); got != vms {
		t.Errorf("%d parses, want %d", got, vms)
	}
}

func TestBrokenFileIsParsedOnce(t *testing.T) {
	directory := t.TempDir()
	if err := os.WriteFile(filepath.Join(directory, "a.yaml"), []byte("a: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	driver, parses := counting(t, Config{Directory: directory})
	for range 3 {
		if _, err := driver.Find(t.Context(), metadata.VM{Name: "a"}); !errors.Is(err, metadata.ErrInvalid) {
			t.Fatalf("got %v", err)
		}
	}
	if got := parses.Load(); got != 1 {
		t.Errorf("%d parses, want 1", got)
	}
}

func TestCacheKeepsToItsLimit(t *testing.T) {
	const limit = 10 * (entryCost + 100)
	driver, parses := counting(t, Config{Directory: writeFiles(t, 50), CacheBytes: limit})
	find := func(i int) {
		t.Helper()
		if _, err := driver.Find(t.Context(), metadata.VM{Name: fmt.Sprintf("web%d", i)}); err != nil {
			t.Fatal(err)
		}
		if driver.cache.size > limit || driver.cache.recent.Len() != len(driver.cache.entries) {
			t.Fatalf("%d bytes in %d entries, %d in the list; the limit is %d", driver.cache.size, len(driver.cache.entries), driver.cache.recent.Len(), limit)
		}
	}
	for i := range 50 {
		find(i)
		find(0) // always in use: never dropped
	}
	if got := parses.Load(); got != 50 {
		t.Errorf("%d parses, want 50", got)
	}
	find(1)
	if got := parses.Load(); got != 51 {
		t.Errorf("%d parses, want 51: one for the file that was dropped", got)
	}
}

// TestEqualUserDataIsKeptOnce has a hundred VMs with the same user-data, in a cache that would hold it ten times.
func TestEqualUserDataIsKeptOnce(t *testing.T) {
	const vms, size = 100, 64 << 10
	directory := t.TempDir()
	text := "userdata: |\n" + strings.Repeat("  # line\n", size/7)
	write := func(i int, userData string) {
		t.Helper()
		file := fmt.Sprintf("metadata: {hostname: web%d}\n%s", i, userData)
		if err := os.WriteFile(filepath.Join(directory, fmt.Sprintf("web%d.yaml", i)), []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	driver, parses := counting(t, Config{Directory: directory, CacheBytes: 10*size + vms*(entryCost+foundCost)})
	find := func(i int, want string) []byte {
		t.Helper()
		inst, err := driver.Find(t.Context(), metadata.VM{Name: fmt.Sprintf("web%d", i)})
		if err != nil {
			t.Fatal(err)
		}
		if inst.MetaData["hostname"] != fmt.Sprintf("web%d", i) || string(inst.UserData) != want {
			t.Fatalf("VM %d is %v, with %d bytes of user-data", i, inst.MetaData, len(inst.UserData))
		}
		return inst.UserData
	}
	same := strings.Repeat("# line\n", size/7)
	for i := range vms {
		write(i, text)
	}
	first := find(0, same)
	for range 2 {
		for i := range vms {
			if data := find(i, same); &data[0] != &first[0] {
				t.Fatalf("VM %d has a copy of its own", i)
			}
		}
	}
	if got := parses.Load(); got != vms {
		t.Errorf("%d parses of %d files", got, vms)
	}
	other := text + "  # and more\n"
	write(7, other)
	find(7, same+"# and more\n")
	find(8, same)
	write(7, text) // and back: what is shared is not the former VM 7's own
	if data := find(7, same); &data[0] != &first[0] {
		t.Error("a VM that is like the others again has a copy of its own")
	}
	if n := driver.cache.texts.Len(); n != 1 {
		t.Errorf("%d texts are kept, want 1", n)
	}
	driver.Close()
	if n := driver.cache.texts.Len(); n != 0 || driver.cache.size != 0 {
		t.Errorf("%d texts and %d bytes are left", n, driver.cache.size)
	}
}

// TestTextsAreCharged has VMs whose user-data is theirs alone.
func TestTextsAreCharged(t *testing.T) {
	const vms, size, limit = 50, 10_000, 10 * (entryCost + 10_000)
	directory := t.TempDir()
	for i := range vms {
		file := fmt.Sprintf("userdata: |\n  #!/bin/sh\n  : %0*d\n", size, i)
		if err := os.WriteFile(filepath.Join(directory, fmt.Sprintf("web%d.yaml", i)), []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	driver, _ := counting(t, Config{Directory: directory, CacheBytes: limit})
	for i := range vms {
		if _, err := driver.Find(t.Context(), metadata.VM{Name: fmt.Sprintf("web%d", i)}); err != nil {
			t.Fatal(err)
		}
		c := driver.cache
		if kept := len(c.entries); c.size > limit || c.texts.Len() != kept || c.size < int64(kept*(entryCost+size)) {
			t.Fatalf("%d files with %d texts are kept, %d bytes by our count", kept, c.texts.Len(), c.size)
		}
	}
}

func TestNoCache(t *testing.T) {
	driver, parses := counting(t, Config{Directory: writeFiles(t, 1), CacheBytes: -1})
	for range 3 {
		if _, err := driver.Find(t.Context(), metadata.VM{Name: "web0"}); err != nil {
			t.Fatal(err)
		}
	}
	if got := parses.Load(); got != 3 || driver.cache.size != 0 {
		t.Errorf("%d parses and %d bytes kept, want 3 and 0", got, driver.cache.size)
	}
}

func TestStatIsTrustedOnceItSettled(t *testing.T) {
	info, err := os.Stat(writeFiles(t, 0))
	if err != nil {
		t.Fatal(err)
	}
	for after, want := range map[time.Duration]bool{-time.Hour: false, 0: false, settleTime: false, settleTime + time.Second: true} {
		if got := isSettled(info, changeTime(info).Add(after)); got != want {
			t.Errorf("%v after the change: %v, want %v", after, got, want)
		}
	}
}

func TestFindReturnsWhileTheFileSystemHangs(t *testing.T) {
	driver, _ := counting(t, Config{Directory: writeFiles(t, 1)})
	hang, hangs := make(chan struct{}), make(chan struct{})
	driver.cache.parse = func(*vmfile.Parser, string, []byte) (*metadata.Instance, error) {
		close(hangs)
		<-hang
		return &metadata.Instance{}, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error)
	go func() {
		_, err := driver.Find(ctx, metadata.VM{Name: "web0"})
		first <- err
	}()
	<-hangs
	for range 2 * maxBusy { // these wait for the first, and free their places when they give up
		second, cancelSecond := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, err := driver.Find(second, metadata.VM{Name: "web0"})
			done <- err
		}()
		cancelSecond()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatalf("a second look-up: %v", err)
		}
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first look-up: %v", err)
	}
	if _, err := driver.Find(t.Context(), metadata.VM{Name: "web1"}); !errors.Is(err, metadata.ErrNotFound) {
		t.Errorf("another VM's look-up: %v", err)
	}
	close(hang)
	if _, err := driver.Find(t.Context(), metadata.VM{Name: "web0"}); err != nil {
		t.Errorf("after the file system is back: %v", err)
	}
}

func TestAPanicCostsOneFile(t *testing.T) {
	driver, _ := counting(t, Config{Directory: writeFiles(t, 2)})
	parse := driver.cache.parse
	driver.cache.parse = func(p *vmfile.Parser, name string, data []byte) (*metadata.Instance, error) {
		if filepath.Base(name) == "web0.yaml" {
			panic("a defect")
		}
		return parse(p, name, data)
	}
	for range 2 * maxBusy { // none of them keeps its place
		_, err := driver.Find(t.Context(), metadata.VM{Name: "web0"})
		if _, ok := errors.AsType[*metadata.PanicError](err); !ok {
			t.Fatalf("got %v, want a PanicError", err)
		}
	}
	if _, err := driver.Find(t.Context(), metadata.VM{Name: "web1"}); err != nil {
		t.Errorf("another VM's file: %v", err)
	}
}
