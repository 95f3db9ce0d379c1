//go:build linux

package simulator_test

import (
	"bytes"
	"io"
	"os"
	"testing"

	"vmw-cloudinit-metadata/internal/simulator"
)

// TestPTY sends all bytes both ways, to two programs in turn.
func TestPTY(t *testing.T) {
	pty, err := simulator.OpenPTY()
	if err != nil {
		t.Fatal(err)
	}
	defer pty.Close()
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for range 2 {
		program, err := os.OpenFile(pty.Path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, way := range []struct {
			from io.Writer
			to   io.Reader
		}{{pty, program}, {program, pty}} {
			if _, err := way.from.Write(all); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(all))
			if _, err := io.ReadFull(way.to, got); err != nil || !bytes.Equal(got, all) {
				t.Fatalf("% x, %v", got, err)
			}
		}
		program.Close()
	}
	ended := make(chan error)
	go func() {
		_, err := pty.Read(make([]byte, 1))
		ended <- err
	}()
	if err := pty.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("Read returned without an error")
	}
}
