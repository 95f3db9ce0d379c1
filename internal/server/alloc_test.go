//go:build !race

// The race detector allocates too, and empties pools at random.

package server_test

import (
	"bytes"
	"context"
	"net"
	"testing"

	"vmw-cloudinit-metadata/internal/server"
	"vmw-cloudinit-metadata/metadata"
)

// oneInstance has the same data for all, at once.
type oneInstance struct{ instance *metadata.Instance }

func (d oneInstance) Find(context.Context, metadata.VM) (*metadata.Instance, error) {
	return d.instance, nil
}

func (d oneInstance) Recall(metadata.VM) metadata.Recollection { return d }

func (d oneInstance) Instance() *metadata.Instance { return d.instance }

// TestAnAnswerAllocatesNothing checks the way of a request from the connection and back to it, once its answer is known.
func TestAnAnswerAllocatesNothing(t *testing.T) {
	driver := oneInstance{&metadata.Instance{UserData: []byte("#!/bin/sh\n")}}
	s, err := server.New(server.Config{Services: []server.Service{{URI: uri, Driver: driver}}})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(t.Context(), ln)
	h := boot(t, ln.Addr().String(), "web")
	request := []byte("!!REQUEST_METADATA#\n")
	answer := make([]byte, 4<<10)
	ask := func() {
		if _, err := h.Write(request); err != nil {
			t.Fatal(err)
		}
		for n := 0; n == 0 || answer[n-1] != '\n'; {
			more, err := h.Read(answer[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += more
		}
	}
	for range 3 {
		ask()
	}
	if !bytes.HasPrefix(answer, []byte("!!RESPONSE_METADATA#")) {
		t.Fatalf("the answer is %.40q", answer)
	}
	if allocations := testing.AllocsPerRun(100, ask); allocations > 0 {
		t.Errorf("an answer costs %v allocations", allocations)
	}
	h.Close()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
