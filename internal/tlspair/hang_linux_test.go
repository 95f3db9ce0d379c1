package tlspair

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestAFileSystemThatHangs stands for one with a pipe that nobody writes to.
func TestAFileSystemThatHangs(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	if err := Create(cert, key, []string{"vspc.example.com"}, ECDSA, time.Hour); err != nil {
		t.Fatal(err)
	}
	changed := make(chan error, 1)
	p, err := Load(cert, key, func(err error) { changed <- err })
	if err != nil {
		t.Fatal(err)
	}
	kept := cert + ".kept"
	if err := os.Rename(cert, kept); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(cert, 0o600); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.nextCheck = time.Time{}
	p.mu.Unlock()
	for range 3 {
		done := make(chan string)
		go func() { done <- p.Name() }()
		select {
		case name := <-done:
			if name != "vspc.example.com" {
				t.Errorf("the certificate is for %q", name)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("who connects waits for the file system")
		}
	}
	writer, err := os.OpenFile(cert, os.O_WRONLY, 0) // it works again
	if err != nil {
		t.Fatal(err)
	}
	writer.Close()
	if err := <-changed; err == nil {
		t.Error("an empty certificate is taken")
	}
	if err := os.Rename(kept, cert); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.nextCheck = time.Time{}
	p.mu.Unlock()
	if p.Name() != "vspc.example.com" || len(changed) > 0 {
		t.Errorf("the former pair is back, and there are %d changes", len(changed))
	}
}
