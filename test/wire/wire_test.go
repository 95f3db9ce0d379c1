// Package wire holds what we send against what Wireshark makes of it.
package wire

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"vmw-cloudinit-metadata/internal/testenv"
	"vmw-cloudinit-metadata/telnet"
	"vmw-cloudinit-metadata/vspc"
)

// TestWiresharkReadsAll captures a port's whole life, with all that our side ever sends, and has tshark read it: there
// must be nothing malformed in it, and our commands must be seen for what they are.
func TestWiresharkReadsAll(t *testing.T) {
	tools := testenv.Need(t, "tshark", "dumpcap")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	file := filepath.Join(t.TempDir(), "port.pcapng")
	stop := capture(t, tools[1], port, file)
	live(t, ln)
	stop(ln)

	out, err := exec.Command(tools[0], "-r", file, "-d", fmt.Sprintf("tcp.port==%d,telnet", port), "-Y", "telnet", "-T", "json",
		"-e", "tcp.srcport", "-e", "telnet.cmd", "-e", "telnet.option_data", "-e", "_ws.malformed", "-e", "_ws.expert.message", "-e", "_ws.expert.severity").Output()
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, out)
	}
	var packets []struct {
		Source struct {
			Layers map[string][]string `json:"layers"`
		} `json:"_source"`
	}
	if err := json.Unmarshal(out, &packets); err != nil {
		t.Fatalf("tshark's output: %v\n%s", err, out)
	}
	subnegotiations, seen := 0, make(map[vspc.Command]bool)
	for i, p := range packets {
		layers := p.Source.Layers
		if len(layers["_ws.malformed"]) > 0 {
			t.Errorf("packet %d is malformed: %v", i+1, layers)
		}
		for k, severity := range layers["_ws.expert.severity"] {
			if n, err := strconv.ParseUint(severity, 0, 32); err != nil || n >= expertWarning {
				t.Errorf("packet %d: %s", i+1, layers["_ws.expert.message"][k])
			}
		}
		if layers["tcp.srcport"][0] != strconv.Itoa(port) {
			continue
		}
		for _, command := range layers["telnet.cmd"] {
			if command == strconv.Itoa(int(telnet.SB)) {
				subnegotiations++
			}
		}
		for _, data := range layers["telnet.option_data"] {
			params, err := hex.DecodeString(data)
			if err != nil {
				t.Fatal(err)
			}
			m, err := vspc.Parse(params)
			if err != nil {
				t.Errorf("packet %d: %v", i+1, err)
				continue
			}
			seen[m.Command()] = true
			t.Logf("packet %d: %+v", i+1, m)
		}
	}
	if subnegotiations < 20 {
		t.Errorf("tshark saw %d subnegotiations of ours", subnegotiations)
	}
	if len(seen) == 0 && subnegotiations > 0 {
		t.Skip("this tshark takes VMware's option apart itself, so its parameters can't be compared")
	}
	for _, command := range []vspc.Command{
		vspc.CmdKnownSuboptions2, vspc.CmdUnknownSuboption2, vspc.CmdVMotionGoAhead, vspc.CmdVMotionNotNow, vspc.CmdVMotionPeerOK,
		vspc.CmdWillProxy, vspc.CmdWontProxy, vspc.CmdGetVMVCUUID, vspc.CmdGetVMName, vspc.CmdGetVMBIOSUUID, vspc.CmdGetVMLocationUUID,
	} {
		if !seen[command] {
			t.Errorf("tshark saw no %v", command)
		}
	}
}

// expertWarning is the least severity that a packet of ours may not have (PI_WARN of Wireshark).
const expertWarning = 0x00600000

// capture starts to capture what goes to and from a port on the loopback interface, and returns how to end that
// once all has been captured.
func capture(t *testing.T, dumpcap string, port int, file string) (stop func(ln net.Listener)) {
	t.Helper()
	cmd := exec.Command(dumpcap, "-i", "lo", "-f", fmt.Sprintf("tcp port %d", port), "-w", file)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	read := func(until string) bool {
		buf := make([]byte, 1024)
		for !strings.Contains(said.String(), until) {
			n, err := stderr.Read(buf)
			said.Write(buf[:n])
			if err != nil {
				return false
			}
		}
		return true
	}
	if !read("File:") {
		cmd.Wait()
		t.Fatalf("dumpcap does not capture: %s", said.String())
	}
	return func(ln net.Listener) {
		// What dumpcap has not taken from the kernel yet, it leaves there. The last packet is one that can be found.
		const last = "this is the end of the capture"
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte(last)); err != nil {
			t.Fatal(err)
		}
		for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
			if captured, err := os.ReadFile(file); err != nil || t.Context().Err() != nil {
				t.Fatal("the capture does not come to its end", err)
			} else if bytes.Contains(captured, []byte(last)) {
				break
			}
		}
		cmd.Process.Signal(os.Interrupt)
		read("\x00") // to its end
		if err := cmd.Wait(); err != nil {
			t.Errorf("dumpcap: %v\n%s", err, said.String())
		}
	}
}

// live plays the hosts of a few VMs.
func live(t *testing.T, ln net.Listener) {
	t.Helper()
	sessions := make(chan *vspc.Session, 1)
	c := vspc.NewConcentrator(vspc.Config{
		Admit: func(m vspc.DoProxy) error {
			if m.ServiceURI != "x" {
				return errors.New("not ours")
			}
			return nil
		},
		Open: func(s *vspc.Session) vspc.Receiver { sessions <- s; return silent{} },
	})
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go c.Serve(conn)
		}
	}()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	cfg := vspc.HostConfig{Identity: vspc.Identity{Name: "vm-00000", VCUUID: "01234567-89ab-cdef-fedc-ba9800000000"}, ServiceURI: "x"}
	h := vspc.NewHost(dial(), cfg)
	must(h.Handshake(t.Context()))
	session := <-sessions
	answer := []byte("!!RESPONSE\xff\xff\xf0\x00\r\n")
	hears := func(h *vspc.Host) {
		t.Helper()
		got := make([]byte, len(answer))
		_, err := io.ReadFull(h, got)
		must(err)
		if !bytes.Equal(got, answer) {
			t.Fatalf("the guest got %q", got)
		}
	}
	session.Send(answer, nil)
	hears(h)

	// UNKNOWN-SUBOPTION-RCVD-2. (Not for code 255: some versions of Wireshark lose a doubled FF that is the last one.)
	must(h.Send(vspc.UnknownMessage{Code: 99, Params: []byte{255, 240}}))
	// A vMotion that is aborted, and one that is not; FF and F0 in the sequence.
	_, err := h.Begin(t.Context(), []byte{0xff, 0xf0, 0xff, 0xff})
	must(err)
	session.Send(answer, nil)
	must(h.Abort())
	hears(h)
	move, err := h.Begin(t.Context(), []byte{0xff, 0xff, 0xf0, 1})
	must(err)
	target := vspc.NewTarget(dial(), cfg, move)
	must(target.Peer(t.Context()))
	// Somebody shows a secret that is used.
	thief := vspc.NewTarget(dial(), cfg, move)
	if err := thief.Peer(t.Context()); !errors.Is(err, vspc.ErrPeerRefused) {
		t.Fatalf("PEER with a used secret: %v", err)
	}
	thief.Close()
	must(target.Complete())
	session.Send(answer, nil)
	hears(target)
	// A port that is not ours.
	refused := vspc.NewHost(dial(), vspc.HostConfig{Identity: cfg.Identity, ServiceURI: "y"})
	if err := refused.Handshake(t.Context()); !errors.Is(err, vspc.ErrWontProxy) {
		t.Fatalf("a port that is not ours: %v", err)
	}
	refused.Close()
	// The end of the day: NOTNOW.
	session.Send(answer, nil)
	hears(target)
	_, err = target.Begin(t.Context(), []byte("last"))
	must(err)
	session.Send(answer, nil) // held back, so that Shutdown has to wait
	ctx, cancel := context.WithCancel(t.Context())
	down := make(chan error)
	go func() { down <- c.Shutdown(ctx) }()
	for {
		if _, err = target.Begin(t.Context(), []byte("late")); err != nil {
			break
		}
	}
	if !errors.Is(err, vspc.ErrNotNow) {
		t.Fatalf("BEGIN while shutting down: %v", err)
	}
	cancel()
	<-down
	target.Close()
	h.Close()
}

type silent struct{}

func (silent) Receive([]byte) {}
func (silent) Closed(error)   {}
