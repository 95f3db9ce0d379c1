package server_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"vmw-cloudinit-metadata/internal/server"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/packet"
	"vmw-cloudinit-metadata/vspc"
)

// shelf is a driver with the same data for all, that can be changed, and counts how often it is asked.
type shelf struct {
	mu       sync.Mutex
	instance *metadata.Instance
	lookUps  int
}

func (d *shelf) Find(context.Context, metadata.VM) (*metadata.Instance, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lookUps++
	return d.instance, nil
}

func (d *shelf) put(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.instance = &metadata.Instance{UserData: []byte(text)}
}

func (d *shelf) asked() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lookUps
}

// hello begins a transfer, and returns its generation.
func hello(t *testing.T, h *vspc.Host) string {
	t.Helper()
	frame := ask(t, h, string(packet.AppendFrame(nil, packet.RequestHello, (&packet.Hello{Versions: []int{2}, Nonce: "n"}).Append(nil))))
	reply, err := packet.ParseHelloReply(frame.Data)
	if err != nil {
		t.Fatalf("%s %s, %v", frame.Code, frame.Data, err)
	}
	return reply.Generation
}

// fetch returns the start of a document, or the code of an error.
func fetch(t *testing.T, h *vspc.Host, generation string, document packet.Document) string {
	t.Helper()
	request := packet.ChunkRequest{Generation: generation, Document: document, Length: 1000}
	frame := ask(t, h, string(packet.AppendFrame(nil, packet.RequestChunk, request.Append(nil))))
	if chunk, err := packet.ParseChunk(frame.Data); err == nil {
		return string(chunk.Data)
	}
	told, err := packet.ParseError(frame.Data)
	if err != nil {
		t.Fatalf("%s %s, %v", frame.Code, frame.Data, err)
	}
	return string(told.Code)
}

// TestEachHelloIsForWhatThereIsNow has data and a name that change between two hellos of a guest that says the same.
func TestEachHelloIsForWhatThereIsNow(t *testing.T) {
	driver := new(shelf)
	driver.put("first")
	_, address, _ := start(t, server.Config{Services: []server.Service{{URI: uri, Driver: driver}}})
	h := boot(t, address, "web")
	first := hello(t, h)
	if again := hello(t, h); again != first {
		t.Errorf("nothing has changed, and the generation is %s, not %s", again, first)
	}
	driver.put("second")
	if got := fetch(t, h, first, packet.UserData); got != "first" {
		t.Errorf("a transfer under way goes on with %q", got)
	}
	second := hello(t, h)
	if got := fetch(t, h, second, packet.UserData); got != "second" {
		t.Errorf("after a change of the data: %q", got)
	}
	if err := h.Send(vspc.VMName{Name: "db"}); err != nil {
		t.Fatal(err)
	}
	if got := fetch(t, h, hello(t, h), packet.MetaData); !strings.Contains(got, `"db"`) {
		t.Errorf("after another name: %s", got)
	}
}

// TestATransferThatIsNotKeptIsMadeAgain has as little room for transfers as can be: two guests take it from each other.
func TestATransferThatIsNotKeptIsMadeAgain(t *testing.T) {
	driver := new(shelf)
	driver.put("data")
	_, address, _ := start(t, server.Config{Services: []server.Service{{URI: uri, Driver: driver}}, RenderCache: -1})
	h := boot(t, address, "web")
	other := bootAs(t, address, vspc.HostConfig{Identity: vspc.Identity{Name: "db", VCUUID: "99" + webID[2:]}, ServiceURI: uri})
	if got := fetch(t, h, "g", packet.UserData); got != "stale" || driver.asked() != 0 {
		t.Errorf("without a hello: %s, and %d look-ups", got, driver.asked())
	}
	expect := func(when, generation, want string, lookUps int) {
		t.Helper()
		before := driver.asked()
		if got := fetch(t, h, generation, packet.UserData); got != want || driver.asked()-before != lookUps {
			t.Errorf("%s: %q after %d look-ups, want %q after %d", when, got, driver.asked()-before, want, lookUps)
		}
	}
	generation := hello(t, h)
	expect("while it is kept", generation, "data", 0)
	hello(t, other)
	expect("when another took its place", generation, "data", 1)
	expect("and then", generation, "data", 0)
	report := packet.Report{BootID: "b", Stage: "seed", Result: "ok"}
	if frame := ask(t, h, string(packet.AppendFrame(nil, packet.RequestReport, report.Append(nil)))); frame.Code != packet.ResponseReport {
		t.Errorf("%s %s", frame.Code, frame.Data)
	}
	expect("after the guest's report that it has all", generation, "data", 1)
	hello(t, other)
	driver.put("changed")
	expect("when another took its place, and the data changed", generation, "stale", 1)
}
