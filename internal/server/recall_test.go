package server_test

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"weak"

	"vmw-cloudinit-metadata/internal/server"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/vspc"
)

// remembering is a driver that keeps what it found until it is told to forget. Its user-data are a word and the VM's name.
type remembering struct {
	mu      sync.Mutex
	word    string
	found   map[metadata.VM]*memory
	lookUps int
}

type memory struct {
	driver   *remembering
	instance *metadata.Instance
}

func (d *remembering) Find(_ context.Context, vm metadata.VM) (*metadata.Instance, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m := d.found[vm]; m != nil { // a request that had to wait for the one before
		return m.instance, nil
	}
	d.lookUps++
	m := &memory{d, &metadata.Instance{UserData: []byte(d.word + " " + vm.Name)}}
	if d.found == nil {
		d.found = make(map[metadata.VM]*memory)
	}
	d.found[vm] = m
	return m.instance, nil
}

func (d *remembering) Recall(vm metadata.VM) metadata.Recollection {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m := d.found[vm]; m != nil {
		return m
	}
	return nil
}

func (m *memory) Instance() *metadata.Instance {
	m.driver.mu.Lock()
	defer m.driver.mu.Unlock()
	return m.instance
}

// change makes all that is remembered void.
func (d *remembering) change(word string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.word = word
	for _, m := range d.found {
		m.instance = nil
	}
	clear(d.found)
}

// TestWhatIsRememberedHolds has a guest that asks all the time, while that changes on which its last answer rested.
func TestWhatIsRememberedHolds(t *testing.T) {
	first, second := &remembering{word: "first"}, &remembering{word: "second"}
	s, address, _ := start(t, server.Config{Services: []server.Service{{URI: uri, Driver: first}}})
	h := boot(t, address, "web")
	expect := func(when, want string, driver *remembering, lookUps int) {
		t.Helper()
		for range 3 {
			if frame := ask(t, h, "!!REQUEST_USERDATA#\n"); string(frame.Data) != want {
				t.Errorf("%s: %s %q; want %q", when, frame.Code, frame.Data, want)
			}
		}
		driver.mu.Lock()
		defer driver.mu.Unlock()
		if driver.lookUps != lookUps {
			t.Errorf("%s: %d look-ups; want %d", when, driver.lookUps, lookUps)
		}
	}
	expect("at first", "first web", first, 1)
	first.change("changed")
	expect("when the data has changed", "changed web", first, 2)
	if err := h.Send(vspc.VMName{Name: "db"}); err != nil {
		t.Fatal(err)
	}
	expect("when the VM has another name", "changed db", first, 3)
	if err := s.SetServices([]server.Service{{URI: uri, Driver: second}}); err != nil {
		t.Fatal(err)
	}
	expect("when the service has another driver", "second db", second, 1)
	if err := h.Send(vspc.VMName{Name: "web"}); err != nil {
		t.Fatal(err)
	}
	expect("when the VM has its name again", "second web", second, 2)
}

// TestFormerServicesAreLetGoOf has a guest that was answered from services which are replaced then, and asks no more.
func TestFormerServicesAreLetGoOf(t *testing.T) {
	memory := new([1 << 20]byte)
	other := metadata.DriverFunc(func(context.Context, metadata.VM) (*metadata.Instance, error) {
		return &metadata.Instance{UserData: memory[:]}, nil
	})
	s, address, _ := start(t, server.Config{Services: []server.Service{{URI: uri, Driver: &remembering{word: "a"}}, {URI: "other", Driver: other}}})
	h, former := boot(t, address, "web"), weak.Make(memory)
	for range 2 {
		if frame := ask(t, h, "!!REQUEST_USERDATA#\n"); string(frame.Data) != "a web" {
			t.Fatalf("%s %q", frame.Code, frame.Data)
		}
	}
	if err := s.SetServices([]server.Service{{URI: uri, Driver: &remembering{word: "b"}}}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		runtime.GC()
		return former.Value() == nil
	})
	if frame := ask(t, h, "!!REQUEST_USERDATA#\n"); string(frame.Data) != "b web" {
		t.Errorf("%s %q", frame.Code, frame.Data)
	}
}
