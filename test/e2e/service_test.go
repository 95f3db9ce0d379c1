package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The VM, as the host that `simulate` plays has it.
const (
	vmName = "web 1 (e2e)"
	vmUUID = "50210338-1dc4-a1ae-bd04-76d3a96c92ba"
	uri    = "e2e"
)

// service is the real server with the file driver.
type service struct {
	program, address, vms, logs string
	mu                          sync.Mutex
	log                         strings.Builder
}

// startService runs the server until the test ends. Its log stays with the machine's.
func startService(t *testing.T, logs string) *service {
	t.Helper()
	program := os.Getenv("E2E_SERVER")
	if program == "" {
		t.Fatal("E2E_SERVER doesn't name the server's program; make e2e builds and names it")
	}
	s := &service{program: program, vms: t.TempDir(), logs: logs}
	options, err := json.Marshal(map[string]string{"directory": s.vms})
	if err != nil {
		t.Fatal(err)
	}
	lines := s.start(t, "server.log", "run", "--uri", uri, "--listen", "127.0.0.1:0", "--log-format", "json",
		"--driver", "file", "--driver-opts", string(options))
	for line := range lines {
		var entry struct {
			Message string `json:"msg"`
			Address string `json:"address"`
		}
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Message == "listening" {
			s.address = entry.Address
			break
		}
	}
	if s.address == "" {
		t.Fatalf("the server never said where it listens:\n%s", s.said())
	}
	go func() {
		for range lines { // the rest is in the log
		}
	}()
	return s
}

// said is the server's log so far.
func (s *service) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// put gives the VM this data, or with "" none.
func (s *service) put(t *testing.T, data string) {
	t.Helper()
	name := filepath.Join(s.vms, vmUUID+".yaml")
	var err error
	if data == "" {
		err = os.Remove(name)
	} else {
		err = os.WriteFile(name, []byte(data), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// port returns a unix socket that `simulate`, playing the ESXi host, connects with the server. It is for one boot.
func (s *service) port(t *testing.T, flags ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "port.sock")
	args := []string{"simulate", "--connect", s.address, "--uri", uri, "--name", vmName, "--uuid", vmUUID, "--unix", socket}
	lines := s.start(t, "simulate.log", append(args, flags...)...)
	go func() {
		for range lines {
		}
	}()
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, err := os.Stat(socket); err == nil {
			return socket
		}
		if time.Now().After(deadline) {
			t.Fatalf("simulate made no socket in 10 s; see %s", filepath.Join(s.logs, "simulate.log"))
		}
		<-time.After(20 * time.Millisecond)
	}
}

// portWithRaw is port with another end for later: when the guest says "e2e.raw", the line leads to the server no more, and
// raw comes from it at once, as fast as the guest takes it.
func (s *service) portWithRaw(t *testing.T, raw []byte) string {
	t.Helper()
	server, guests := s.port(t), listen(t, "raw.sock")
	ended := make(chan struct{})
	t.Cleanup(func() { guests.Close(); <-ended })
	go func() {
		defer close(ended)
		guest, err := guests.Accept()
		if err != nil {
			return
		}
		defer guest.Close()
		defer context.AfterFunc(t.Context(), func() { guest.Close() })()
		host, err := new(net.Dialer).DialContext(t.Context(), "unix", server)
		if err != nil {
			return
		}
		defer host.Close()
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			io.Copy(guest, host) // ends with either end
		}()
		if copyUntil(host, guest, "e2e.raw\n") == nil {
			host.Close()
			<-answered
			if _, err := guest.Write(raw); err == nil {
				io.Copy(io.Discard, guest) // until the machine is off
			}
		}
	}()
	return guests.Addr().String()
}

// copyUntil copies what it reads until word comes. Its error says that it never came.
func copyUntil(dst io.Writer, src io.Reader, word string) error {
	buffer := make([]byte, 4096)
	last := ""
	for {
		n, err := src.Read(buffer)
		if last += string(buffer[:n]); strings.Contains(last, word) {
			return nil
		}
		last = last[max(0, len(last)-len(word)):]
		if err != nil {
			return err
		}
		if _, err := dst.Write(buffer[:n]); err != nil {
			return err
		}
	}
}

// start runs the program until the test ends, and returns the lines that it writes to standard error, which must be
// read. The lines go to a file as well.
func (s *service) start(t *testing.T, log string, args ...string) <-chan string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), s.program, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	file, err := os.OpenFile(filepath.Join(s.logs, log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	reader, writer := io.Pipe()
	cmd.Stderr = writer
	cmd.Stdout = file
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		scanner := bufio.NewScanner(reader)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			line := scanner.Text() + "\n"
			s.mu.Lock()
			s.log.WriteString(line)
			s.mu.Unlock()
			io.WriteString(file, line)
			lines <- line
		}
	}()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait() // its end by our signal is an error too, and says nothing
		writer.Close()
	}()
	t.Cleanup(func() {
		<-ended
		file.Close()
	})
	return lines
}
