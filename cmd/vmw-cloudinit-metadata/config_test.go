package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"vmw-cloudinit-metadata/internal/server"
)

// TestFormerServicesAreClosedAndLetGoOf reloads twice, and has the first services still at work for a while.
func TestFormerServicesAreClosedAndLetGoOf(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.yaml")
	text := fmt.Sprintf("services:\n- uri: one\n  drivers:\n  - driver: file\n    options: {directory: %q}\n", dir)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		log := slog.New(slog.DiscardHandler)
		c := &configuration{path: path}
		content, err := c.read()
		if err != nil {
			t.Fatal(err)
		}
		services, closeServices, err := openServices(content.Services, log)
		if err != nil {
			t.Fatal(err)
		}
		s, err := server.New(server.Config{Services: services})
		if err != nil {
			t.Fatal(err)
		}
		memory, closed := new([1 << 20]byte), new(time.Time)
		former := weak.Make(memory)
		closeFirst := func() {
			closeServices()
			memory[0], *closed = 1, time.Now()
		}
		signals, done := make(chan os.Signal), make(chan struct{})
		go c.reloadAt(signals, done, s, closeFirst, log)
		start := time.Now()
		for range 2 {
			signals <- syscall.SIGHUP
			time.Sleep(drainTime / 2)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if took := closed.Sub(start); took != drainTime {
			t.Errorf("the former services are closed after %v", took)
		}
		runtime.GC()
		if former.Value() != nil {
			t.Error("they are kept for ever")
		}
		close(done)
	})
}
