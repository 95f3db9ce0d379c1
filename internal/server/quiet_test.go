package server

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"weak"

	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/packet"
)

func TestQuietBoundsTheLinesOfAMessage(t *testing.T) {
	var q quiet
	now := time.Now()
	written := 0
	for i := range 5 * maxLines {
		if _, ok := q.admit(fmt.Sprint("key ", i), "message", now); ok {
			written++
		}
	}
	if written != maxLines {
		t.Errorf("%d lines of one message", written)
	}
	if _, ok := q.admit("key", "another message", now); !ok {
		t.Error("another message is kept back")
	}
	if suppressed, ok := q.admit("key", "message", now.Add(quietFor)); !ok || suppressed != 4*maxLines {
		t.Errorf("later: %v, with %d suppressed", ok, suppressed)
	}
	if suppressed, ok := q.admit("key 1", "message", now.Add(quietFor)); !ok || suppressed != 0 {
		t.Errorf("and then: %v, with %d suppressed", ok, suppressed)
	}
}

func TestQuietBoundsAKey(t *testing.T) {
	var q quiet
	now := time.Now()
	for i := range 5 {
		if _, ok := q.admit("key", "message", now); ok != (i == 0) {
			t.Errorf("line %d: %v", i, ok)
		}
	}
	if _, ok := q.admit("key", "message", now.Add(quietFor-1)); ok {
		t.Error("too early")
	}
	if suppressed, ok := q.admit("key", "message", now.Add(quietFor)); !ok || suppressed != 5 {
		t.Errorf("later: %v, with %d suppressed", ok, suppressed)
	}
	for i := range 3 * maxQuietKeys {
		q.admit(fmt.Sprint(i), fmt.Sprint("message ", i%100), now.Add(time.Duration(i)*time.Millisecond))
	}
	if len(q.keys) > maxQuietKeys {
		t.Errorf("%d keys", len(q.keys))
	}
}

// TestRenderingsTakeTurns has more renderings than there is room for.
func TestRenderingsTakeTurns(t *testing.T) {
	const userData = 1
	vm := metadata.VM{Name: "web"}
	instances := []*metadata.Instance{
		{UserData: bytes.Repeat([]byte("1"), 1000)}, {UserData: bytes.Repeat([]byte("2"), 1000)}, {UserData: bytes.Repeat([]byte("3"), 1000)},
	}
	rs := renderings{limit: 4000}
	var held []*rendering
	for range 10 {
		for _, instance := range instances {
			if _, err := rs.of(vm, instance); err != nil {
				t.Fatal(err)
			}
			held = append(held, rs.kept(vm, instance))
			size := 0
			for _, r := range rs.byKey {
				if r != nil {
					size += r.total()
				}
			}
			if size != rs.size || size > rs.limit || size == 0 {
				t.Fatalf("%d bytes are kept, %d by our count", size, rs.size)
			}
		}
	}
	gone := 0
	for _, r := range held {
		kept := rs.byKey[r.instance] == r
		if kept != (r.frames.Load() != nil) || kept != (r.shared[userData] != nil) {
			t.Error("what had to make room is kept by whoever holds its rendering")
		}
		if !kept {
			gone++
		}
	}
	if gone == 0 {
		t.Error("there was room for all")
	}
	first, _ := rs.of(vm, instances[0])
	if again, _ := rs.of(vm, instances[0]); again != first {
		t.Error("what is kept is not used")
	}
	if other, _ := rs.of(metadata.VM{Name: "db"}, instances[0]); other == first || bytes.Equal(other[0], first[0]) {
		t.Error("a VM gets another's rendering")
	}
	runtime.KeepAlive(instances) // and no longer
	for deadline := time.Now().Add(20 * time.Second); ; {
		runtime.GC()
		rs.mu.Lock()
		left, size := len(rs.byKey), rs.size
		rs.mu.Unlock()
		if left == 0 && size == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d renderings with %d bytes outlive their instances", left, size)
		}
	}
}

// TestEqualUserDataIsEncodedOnce has VMs that differ in all but their user-data.
func TestEqualUserDataIsEncodedOnce(t *testing.T) {
	rs := renderings{limit: 1 << 20}
	const userData = 1
	var instances []*metadata.Instance
	var all []*frames
	for i := range 10 {
		instance := &metadata.Instance{MetaData: map[string]any{"region": fmt.Sprint(i)}, UserData: bytes.Repeat([]byte("x"), 10_000)}
		r, err := rs.of(metadata.VM{Name: fmt.Sprint("web", i)}, instance)
		if err != nil {
			t.Fatal(err)
		}
		instances, all = append(instances, instance), append(all, r)
		if &r[userData][0] != &all[0][userData][0] {
			t.Errorf("VM %d has a copy of its own", i)
		}
		if i > 0 && bytes.Equal(r[0], all[0][0]) {
			t.Errorf("VM %d has another's meta-data", i)
		}
	}
	if rs.size > 30_000 {
		t.Errorf("%d bytes are kept of ten VMs with the same 10,000", rs.size)
	}
	changed := &metadata.Instance{UserData: append(bytes.Repeat([]byte("x"), 9_999), 'y')}
	r, err := rs.of(metadata.VM{Name: "web0"}, changed)
	if err != nil {
		t.Fatal(err)
	}
	want := packet.AppendFrame(nil, packet.ResponseUserData, changed.UserData)
	if !bytes.Equal(r[userData], want) {
		t.Error("a VM gets the user-data of others")
	}
	for i, instance := range instances {
		rs.forget(weak.Make(instance))
		if i < len(instances)-1 && rs.shared[userData].Len() != 2 {
			t.Fatalf("what %d VMs have is gone with others", len(instances)-1-i)
		}
	}
	rs.forget(weak.Make(changed))
	if rs.size != 0 || rs.shared[userData].Len() != 0 {
		t.Errorf("%d bytes and %d documents are left", rs.size, rs.shared[userData].Len())
	}
	runtime.KeepAlive(instances)
}

func TestADocumentThatDoesNotFitIsNotKept(t *testing.T) {
	rs := renderings{limit: 10_000}
	vm, text := metadata.VM{Name: "web"}, strings.Repeat("x", 10_000)
	small := &metadata.Instance{UserData: []byte("small")}
	for name, large := range map[string]*metadata.Instance{
		"user-data":   {UserData: []byte(text)},
		"vendor-data": {VendorData: []byte(text)},
		"meta-data":   {MetaData: map[string]any{"text": text}},
		"network":     {Network: map[string]any{"address": "192.0.2.1/24", "search": slices.Repeat([]any{"example.com"}, 1000)}},
	} {
		for range 2 {
			for _, instance := range []*metadata.Instance{small, large} {
				if _, err := rs.of(vm, instance); err != nil {
					t.Fatal(err)
				}
			}
		}
		if rs.kept(vm, small) == nil || rs.kept(vm, large) != nil || rs.size > rs.limit {
			t.Errorf("%s: %d bytes are kept", name, rs.size)
		}
	}
}

// TestOffersTakeTurns has more offers than there is room for.
func TestOffersTakeTurns(t *testing.T) {
	offer, err := packet.NewOffer(map[packet.Document][]byte{packet.UserData: make([]byte, 1000)}, false)
	if err != nil {
		t.Fatal(err)
	}
	o := offers{limit: 2500}
	guests := []*guest{{}, {}, {}}
	check := func(kept int) {
		t.Helper()
		if len(o.byGuest) != kept || o.size != kept*offer.Size() {
			t.Errorf("%d offers with %d bytes are kept, want %d", len(o.byGuest), o.size, kept)
		}
	}
	for range 10 {
		for _, g := range guests {
			o.keep(g, offer, making{})
			if got, _ := o.of(g); got != offer {
				t.Fatal("the latest offer is not kept")
			}
		}
		check(2)
	}
	for _, g := range guests {
		o.drop(g)
		o.drop(g)
	}
	check(0)
	guests[0].closed = true
	o.keep(guests[0], offer, making{})
	check(0)
}

func TestAGuestThatIsGoneLeavesNothing(t *testing.T) {
	offer, err := packet.NewOffer(map[packet.Document][]byte{packet.UserData: make([]byte, 1000)}, false)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{offers: offers{limit: 1 << 20}}
	g := newGuest(s, nil)
	s.stats.Ports.Add(1)
	s.offers.keep(g, offer, making{})
	g.Closed(nil)
	s.offers.keep(g, offer, making{}) // made by a request that was under way
	if len(s.offers.byGuest) != 0 || s.offers.size != 0 || s.stats.Ports.Load() != 0 {
		t.Errorf("%d offers with %d bytes, %d ports", len(s.offers.byGuest), s.offers.size, s.stats.Ports.Load())
	}
}
