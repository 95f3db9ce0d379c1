package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"vmw-cloudinit-metadata/internal/server"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/packet"
	"vmw-cloudinit-metadata/vspc"
)

const (
	uri   = "my-metadata"
	webID = "421338a5-0a6a-b9b4-b647-3007991cf1d6"
)

// inventory is a driver with a VM for each kind of answer.
func inventory(ctx context.Context, vm metadata.VM) (*metadata.Instance, error) {
	switch vm.Name {
	case "web":
		return &metadata.Instance{
			MetaData: map[string]any{"hostname": "web.example.com"},
			Network:  map[string]any{"address": "192.0.2.10/24"},
			UserData: []byte("#cloud-config\n{}\n"),
		}, nil
	case "appliance":
		return &metadata.Instance{VendorData: []byte("#!/bin/sh\nvendor\n")}, nil
	case "bare":
		return &metadata.Instance{}, nil
	case "wrong":
		return nil, &metadata.DataError{Origin: "wrong.yaml:3:5", Problem: "a secret is here"}
	case "denied":
		return nil, fmt.Errorf("quarantined: %w", metadata.ErrDenied)
	case "broken":
		return nil, errors.New("the database is at 192.0.2.1 and is down")
	case "panics":
		panic("driver bug")
	case "nothing":
		return nil, nil
	case "hangs":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return nil, metadata.ErrNotFound
}

// lines is a log that tests can read.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// start runs a server until the test ends, and returns its address and log.
func start(t *testing.T, cfg server.Config) (*server.Server, string, *lines) {
	t.Helper()
	log := new(lines)
	cfg.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if cfg.Services == nil {
		cfg.Services = []server.Service{{URI: uri, Driver: metadata.DriverFunc(inventory)}}
	}
	s, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s, ln.Addr().String(), log
}

// boot connects a VM's port.
func boot(t *testing.T, address, name string) *vspc.Host {
	t.Helper()
	return bootAs(t, address, vspc.HostConfig{Identity: vspc.Identity{Name: name, VCUUID: webID}, ServiceURI: uri})
}

func bootAs(t *testing.T, address string, cfg vspc.HostConfig) *vspc.Host {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	h := vspc.NewHost(conn, cfg)
	t.Cleanup(func() { h.Close() })
	if err := h.Handshake(t.Context()); err != nil {
		t.Fatalf("handshake: %v", err)
	}
	return h
}

// ask sends a line and returns the next frame.
func ask(t *testing.T, h *vspc.Host, line string) packet.Frame {
	t.Helper()
	if _, err := h.Write([]byte(line)); err != nil {
		t.Fatal(err)
	}
	return answer(t, h)
}

func answer(t *testing.T, h *vspc.Host) packet.Frame {
	t.Helper()
	h.SetReadDeadline(time.Now().Add(20 * time.Second))
	frame, err := packet.NewReader(h, 1<<20).ReadFrame()
	if err != nil {
		t.Fatalf("reading the answer: %v", err)
	}
	return frame
}

func TestAnswers(t *testing.T) {
	for _, tc := range []struct{ vm, request, code, data string }{
		{"web", "!!REQUEST_METADATA#\n", "RESPONSE_METADATA",
			`{"hostname": "web.example.com", "instance-id": "` + webID + `", "local-hostname": "web.example.com"}`},
		{"web", "!!REQUEST_USERDATA#\r\n", "RESPONSE_USERDATA", "#cloud-config\n{}\n"},
		{"web", "login: \x00!!REQUEST_NETWORKDATA#\r\n", "RESPONSE_NETWORKDATA", "address: 192.0.2.10"},
		{"web", "!!REQUEST_VENDORDATA#\n", "RESPONSE_ERROR", `"code":"not-found","message":"there is no vendor-data`},
		{"appliance", "!!REQUEST_VENDORDATA#\n", "RESPONSE_VENDORDATA", "#!/bin/sh\nvendor\n"},
		{"appliance", "!!REQUEST_USERDATA#\n", "RESPONSE_USERDATA", ""},
		{"web", "!!REQUEST_COFFEE#\n", "RESPONSE_ERROR", `"request":"REQUEST_COFFEE","code":"bad-request"`},
		{"web", "!!REQUEST_METADATA#***\n", "RESPONSE_ERROR", `"code":"bad-request"`},
		{"web", "!!REQUEST_HELLO#bm90IGpzb24=\n", "RESPONSE_ERROR", `"code":"bad-request"`},
		{"web", "!!REQUEST_CHUNK#e30=\n", "RESPONSE_ERROR", `"code":"bad-request"`},
		{"bare", "!!REQUEST_USERDATA#\n", "RESPONSE_USERDATA", ""},
		{"bare", "!!REQUEST_NETWORKDATA#\n", "RESPONSE_ERROR", `"code":"not-found"`},
		{"unknown", "!!REQUEST_METADATA#\n", "RESPONSE_ERROR", `"code":"not-found","message":"nothing is known for VM \"unknown\"`},
		{"wrong", "!!REQUEST_METADATA#\n", "RESPONSE_ERROR", `"code":"invalid"`},
		{"denied", "!!REQUEST_METADATA#\n", "RESPONSE_ERROR", `"code":"denied"`},
		{"broken", "!!REQUEST_METADATA#\n", "RESPONSE_ERROR", `"code":"unavailable"`},
		{"panics", "!!REQUEST_METADATA#\n", "RESPONSE_ERROR", `"code":"unavailable"`},
		{"nothing", "!!REQUEST_METADATA#\n", "RESPONSE_ERROR", `"code":"unavailable"`},
		{"hangs", "!!REQUEST_METADATA#\n", "RESPONSE_ERROR", `"code":"unavailable"`},
	} {
		t.Run(tc.vm+" "+tc.request, func(t *testing.T) {
			s, address, log := start(t, server.Config{RequestTimeout: 50 * time.Millisecond})
			h := boot(t, address, tc.vm)
			frame := ask(t, h, tc.request)
			stats, code := s.Stats(), ""
			if told, err := packet.ParseError(frame.Data); err == nil {
				code = string(told.Code)
			}
			for counter, value := range map[string]int64{
				"": stats.Answers.Load(), "not-found": stats.NotFound.Load(), "invalid": stats.Invalid.Load(), "unavailable": stats.Unavailable.Load(),
				"denied": stats.Denied.Load(), "bad-request": stats.BadRequest.Load(), "stale": stats.Stale.Load(),
			} {
				if (value == 1) != (counter == code) {
					t.Errorf("%d answers with error %q are counted, and %q was told", value, counter, code)
				}
			}
			if string(frame.Code) != tc.code || !strings.Contains(string(frame.Data), tc.data) {
				t.Errorf("answer %s %s, want %s with %s", frame.Code, frame.Data, tc.code, tc.data)
			}
			// The port goes on.
			if again := ask(t, h, "!!REQUEST_COFFEE#\n"); again.Code != packet.ResponseError {
				t.Errorf("then %s", again.Code)
			}
			if strings.Contains(string(frame.Data), "secret") || strings.Contains(string(frame.Data), "192.0.2.1 ") {
				t.Errorf("the guest is told what is for the log: %s", frame.Data)
			}
			if text := log.String(); strings.Contains(text, "driver bug") || (tc.vm == "panics") != strings.Contains(text, "made the server panic") {
				t.Errorf("the log has no panic, one of another, or what was in it: %s", text)
			}
		})
	}
}

func TestRequestsInOneWriteAreAnsweredInOrder(t *testing.T) {
	_, address, _ := start(t, server.Config{})
	h := boot(t, address, "web")
	if _, err := h.Write([]byte("!!REQUEST_METADATA#\n!!REQUEST_NETWORKDATA#\n!!REQUEST_USERDATA#\n!!RESPONSE_USERDATA#\n!!REQUEST_VENDORDATA#\n")); err != nil {
		t.Fatal(err)
	}
	h.SetReadDeadline(time.Now().Add(20 * time.Second))
	r := packet.NewReader(h, 1<<20)
	for _, want := range []packet.Code{packet.ResponseMetaData, packet.ResponseNetworkData, packet.ResponseUserData, packet.ResponseError} {
		frame, err := r.ReadFrame()
		if err != nil || frame.Code != want {
			t.Fatalf("got %s, %v; want %s", frame.Code, err, want)
		}
	}
}

// TestRefusedPortThatHangsUp: the log has the refusal even of a host that does not wait to be asked which VM it has.
func TestRefusedPortThatHangsUp(t *testing.T) {
	s, address, log := start(t, server.Config{})
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	h := vspc.NewHost(conn, vspc.HostConfig{
		ServiceURI: "other",
		Variant:    vspc.HostVariant{Answer: func(vspc.Command) []vspc.Message { return nil }},
	})
	if err := h.Handshake(t.Context()); !errors.Is(err, vspc.ErrWontProxy) {
		t.Fatal(err)
	}
	h.Close()
	waitFor(t, func() bool { return s.Stats().Refused.Load() == 1 })
	waitFor(t, func() bool { return strings.Contains(log.String(), `its port URI is \"other\"`) })
}

func TestRefusedPorts(t *testing.T) {
	for _, tc := range []struct {
		name string
		cfg  server.Config
		host vspc.HostConfig
		log  string // "" means that it is admitted
	}{
		{"other URI", server.Config{}, vspc.HostConfig{ServiceURI: "other"}, `its port URI is \"other\", and this server's is \"my-metadata\"`},
		{"other URI than all", server.Config{Services: []server.Service{
			{URI: uri, Driver: metadata.DriverFunc(inventory)}, {URI: "second", Driver: metadata.DriverFunc(inventory)},
		}}, vspc.HostConfig{ServiceURI: "other"}, `this server's is \"my-metadata\" or \"second\": change`},
		{"server", server.Config{}, vspc.HostConfig{ServiceURI: uri, Direction: vspc.Server}, "--direction any"},
		{"server, where any is allowed", server.Config{AnyDirection: true}, vspc.HostConfig{ServiceURI: uri, Direction: vspc.Server}, ""},
		{"second port", server.Config{}, vspc.HostConfig{ServiceURI: uri + "?port=2"}, ""},
		{"no direction", server.Config{AnyDirection: true}, vspc.HostConfig{ServiceURI: uri, Direction: 'x'}, "neither client nor server"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, address, log := start(t, tc.cfg)
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			tc.host.Identity = vspc.Identity{Name: "web", VCUUID: webID}
			h := vspc.NewHost(conn, tc.host)
			defer h.Close()
			err = h.Handshake(t.Context())
			if tc.log == "" {
				if err != nil {
					t.Fatal(err)
				}
				if frame := ask(t, h, "!!REQUEST_METADATA#\n"); frame.Code != packet.ResponseMetaData {
					t.Errorf("got %s", frame.Code)
				}
				return
			}
			if !errors.Is(err, vspc.ErrWontProxy) {
				t.Fatalf("handshake: %v", err)
			}
			waitFor(t, func() bool { return s.Stats().Refused.Load() == 1 && strings.Contains(log.String(), "port refused") })
			if !strings.Contains(log.String(), tc.log) || !strings.Contains(log.String(), webID) {
				t.Errorf("the log says neither why nor which VM:\n%s", log)
			}
		})
	}
}

// waitFor waits for something that another goroutine is about to do.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
		tick := time.NewTimer(time.Millisecond)
		<-tick.C
	}
}

func TestVersion2(t *testing.T) {
	_, address, log := start(t, server.Config{})
	h := boot(t, address, "web")
	hello := &packet.Hello{Versions: []int{2}, Agent: "test/1", Nonce: "n0nce", NICs: []packet.NIC{{Name: "ens192", MAC: "00:50:56:00:00:01"}}}
	frame := ask(t, h, string(packet.AppendFrame(nil, packet.RequestHello, hello.Append(nil))))
	if frame.Code != packet.ResponseHello {
		t.Fatalf("%s %s", frame.Code, frame.Data)
	}
	reply, err := packet.ParseHelloReply(frame.Data)
	if err != nil || reply.Nonce != "n0nce" {
		t.Fatalf("%+v, %v", reply, err)
	}
	network := reply.Documents[packet.NetworkConfig]
	request := packet.ChunkRequest{Generation: reply.Generation, Document: packet.NetworkConfig, Offset: 0, Length: network.Size}
	frame = ask(t, h, string(packet.AppendFrame(nil, packet.RequestChunk, request.Append(nil))))
	chunk, err := packet.ParseChunk(frame.Data)
	if err != nil || !bytes.Contains(chunk.Data, []byte("00:50:56:00:00:01")) {
		t.Errorf("network-config %s, %v; it lacks the NIC's address", chunk.Data, err)
	}
	request.Generation = "another"
	frame = ask(t, h, string(packet.AppendFrame(nil, packet.RequestChunk, request.Append(nil))))
	if !strings.Contains(string(frame.Data), `"stale"`) {
		t.Errorf("%s %s, want stale", frame.Code, frame.Data)
	}
	for _, report := range []packet.Report{{BootID: "b", Stage: "seed", Result: "ok"}, {BootID: "b", Stage: "seed", Result: "failed", Message: "read-only file\nsystem"}} {
		if frame = ask(t, h, string(packet.AppendFrame(nil, packet.RequestReport, report.Append(nil)))); frame.Code != packet.ResponseReport {
			t.Errorf("%s %s", frame.Code, frame.Data)
		}
	}
	for _, want := range []string{`level=INFO msg="the guest reports" vm.name=web`, `level=WARN msg="the guest reports a failure" vm.name=web`, `result=failed instance-id="" message="read-only file system"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, log.String())
		}
	}
}
