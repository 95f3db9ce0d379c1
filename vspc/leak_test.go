package vspc

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
)

// TestNothingIsLeftOfMigrations looks into a Concentrator after migrations that ended in each way.
func TestNothingIsLeftOfMigrations(t *testing.T) {
	t.Run("Serve", func(t *testing.T) {
		nothingIsLeftOfMigrations(t, func(c *Concentrator, conn net.Conn) { go c.Serve(conn) })
	})
	t.Run("Start", func(t *testing.T) {
		nothingIsLeftOfMigrations(t, func(c *Concentrator, conn net.Conn) { c.Start(conn, nil) })
	})
}

func nothingIsLeftOfMigrations(t *testing.T, serve func(c *Concentrator, conn net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		c := NewConcentrator(Config{})
		dial := func() net.Conn {
			ours, theirs := net.Pipe()
			serve(c, theirs)
			return ours
		}
		connect := func() *Host {
			h := NewHost(dial(), HostConfig{Identity: Identity{Name: "vm", VCUUID: "01234567-89ab-cdef-fedc-ba9800000000"}})
			if err := h.Handshake(t.Context()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return h
		}
		begin := func(h *Host) VMotion {
			move, err := h.Begin(t.Context(), []byte("seq"))
			if err != nil {
				t.Fatal(err)
			}
			return move
		}
		peer := func(move VMotion) *Host {
			target := NewTarget(dial(), HostConfig{}, move)
			if err := target.Peer(t.Context()); err != nil {
				t.Fatal(err)
			}
			return target
		}
		left := func(when string, links, pending, adrift, ports int) {
			t.Helper()
			synctest.Wait()
			c.mu.Lock()
			defer c.mu.Unlock()
			if len(c.links) != links || len(c.pending) != pending || len(c.adrift) != adrift || len(c.ports) != ports {
				t.Errorf("%s: %d connections, %d secrets, %d ports adrift, %d ports", when, len(c.links), len(c.pending), len(c.adrift), len(c.ports))
			}
		}
		h := connect()
		begin(h)
		left("begun", 1, 1, 0, 1)
		begin(h)
		left("begun again", 1, 1, 0, 1)
		if err := h.Send(VMotionAbort{}); err != nil {
			t.Fatal(err)
		}
		left("aborted", 1, 0, 0, 1)

		target := peer(begin(h))
		if err := target.Complete(); err != nil {
			t.Fatal(err)
		}
		left("completed", 1, 0, 0, 1)
		h.Close()
		h = target
		target = peer(begin(h))
		target.Close()
		h.Close()
		left("both ends lost", 0, 0, 0, 0)

		h = connect()
		move := begin(h)
		h.Close()
		left("source lost", 0, 1, 1, 1)
		target = peer(move)
		left("and its target there", 1, 0, 0, 1)
		target.Close()
		left("and lost", 0, 0, 0, 0)

		h = connect()
		begin(h)
		h.Close()
		left("source lost again", 0, 1, 1, 1)
		h = connect()
		left("and replaced", 1, 0, 0, 1)
		begin(h)
		h.Close()
		left("source lost once more", 0, 1, 1, 1)
		if err := c.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		left("shut down", 0, 0, 0, 0)
		if err := c.Serve(dial()); !errors.Is(err, ErrClosed) {
			t.Errorf("Serve after Shutdown: %v", err)
		}
	})
}
