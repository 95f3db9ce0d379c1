package e2e_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// bootLimit is for one boot, from power-on to power-off. An idle machine with two cores needs 40 s for it, a busy one
// some minutes.
const bootLimit = 10 * time.Minute

// machine is a virtual machine whose disk stays from one boot to the next.
type machine struct {
	suite string
	disk  string
	logs  string
	boots int
}

// nic is a network adapter, which leads nowhere. What the guest sends on it is recorded.
type nic struct{ model, mac string }

// boot is one boot's circumstances.
type boot struct {
	// port is the unix socket at which the other end of the machine's second serial port listens. With none, nobody is
	// there.
	port string
	// noPort leaves the second serial port out of the machine.
	noPort bool
	nics   []nic
	// cmdline is added to the kernel's command line.
	cmdline string
}

// report is what a boot left.
type report struct {
	sections map[string]string // what the guest's own report says, by section
	console  string
	frames   [][]byte // what the guest sent on all its NICs
}

// newMachine makes a machine from the suite's image, which it leaves alone.
func newMachine(t *testing.T, suite string) *machine {
	t.Helper()
	dir := os.Getenv("E2E_DIR")
	if dir == "" {
		t.Skip("E2E_DIR names no folder with images: make e2e builds them and runs this")
	}
	m := &machine{
		suite: filepath.Join(dir, suite),
		logs:  filepath.Join(dir, "logs", strings.ReplaceAll(t.Name(), "/", "-")),
	}
	if err := os.RemoveAll(m.logs); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(m.logs, 0o755); err != nil {
		t.Fatal(err)
	}
	m.disk = filepath.Join(t.TempDir(), "disk.qcow2")
	base, err := filepath.Abs(filepath.Join(m.suite, "guest.img"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, m.disk).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img: %v\n%s", err, out)
	}
	return m
}

// boot starts the machine, waits until it has told what became of it and powered off, and returns that.
func (m *machine) boot(t *testing.T, b boot) *report {
	t.Helper()
	m.boots++
	logs := filepath.Join(m.logs, fmt.Sprintf("boot%d", m.boots))
	if err := os.MkdirAll(logs, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the logs of this boot are in %s", logs)
		}
	})

	reports := listen(t, "report.sock")
	said := make(chan string, 1)
	go func() { said <- readReport(ctx, reports) }()

	began := time.Now()
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64", m.arguments(b, logs, reports.Addr().String())...)
	out, err := qemu.CombinedOutput()
	if writeErr := os.WriteFile(filepath.Join(logs, "qemu.log"), out, 0o644); writeErr != nil {
		t.Error(writeErr)
	}
	reports.Close()
	text := <-said
	if writeErr := os.WriteFile(filepath.Join(logs, "report.txt"), []byte(text), 0o644); writeErr != nil {
		t.Error(writeErr)
	}
	console, readErr := os.ReadFile(filepath.Join(logs, "console.log"))
	if readErr != nil {
		t.Error(readErr)
	}
	r := &report{sections: sections(text), console: string(console)}
	if _, whole := r.sections["end"]; err != nil || !whole {
		t.Fatalf("the machine did not boot to its end in %v (QEMU: %v %s); the console's last lines:\n%s",
			time.Since(began).Round(time.Second), err, out, tail(r.console, 30))
	}
	for i := range b.nics {
		frames, err := readCapture(filepath.Join(logs, fmt.Sprintf("nic%d.pcap", i)))
		if err != nil {
			t.Fatal(err)
		}
		r.frames = append(r.frames, frames...)
	}
	t.Logf("booted and powered off in %v", time.Since(began).Round(time.Second))
	return r
}

// arguments are QEMU's. The disk is NVMe, which the kernel needs no initrd for. Software emulation is chosen by name: a
// /dev/kvm may be there and not work. The CPU lacks cx16, with which QEMU 7.2 breaks newer kernels. There is one CPU: with two,
// one boot in ten of a newer kernel ended where a CPU ran into the breakpoint with which the other was just patching the kernel
// ("Oops: int3").
func (m *machine) arguments(b boot, logs, reports string) []string {
	args := []string{
		"-machine", "pc", "-accel", "tcg", "-cpu", "qemu64,-cx16", "-smp", "1", "-m", "768",
		"-nodefaults", "-display", "none", "-no-reboot",
		"-kernel", filepath.Join(m.suite, "vmlinuz"),
		"-append", "root=/dev/nvme0n1 rw console=ttyS0 panic=-1 tsc=reliable " + b.cmdline,
		"-drive", "file=" + m.disk + ",format=qcow2,if=none,id=disk,cache=unsafe",
		"-device", "nvme,drive=disk,serial=e2e",
		"-chardev", "file,id=console,path=" + filepath.Join(logs, "console.log"), "-device", "isa-serial,index=0,chardev=console",
		"-chardev", "socket,id=report,path=" + reports, "-device", "isa-serial,index=2,chardev=report",
	}
	switch {
	case b.noPort:
	case b.port == "":
		args = append(args, "-chardev", "null,id=port", "-device", "isa-serial,index=1,chardev=port")
	default:
		args = append(args, "-chardev", "socket,id=port,path="+b.port, "-device", "isa-serial,index=1,chardev=port")
	}
	for i, n := range b.nics {
		args = append(args,
			"-netdev", fmt.Sprintf("hubport,id=net%d,hubid=%d", i, i),
			// Fixed slots: the first NIC is ens3 to the guest, the second ens4.
			"-device", fmt.Sprintf("%s,netdev=net%d,mac=%s,addr=%#x", n.model, i, n.mac, i+3),
			"-object", fmt.Sprintf("filter-dump,id=dump%d,netdev=net%d,file=%s", i, i, filepath.Join(logs, fmt.Sprintf("nic%d.pcap", i))))
	}
	return args
}

// listen opens a unix socket. Its path is kept short: 107 bytes are all that it may have.
func listen(t *testing.T, name string) net.Listener {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// readReport returns all that the guest writes to the port, until the machine is off.
func readReport(ctx context.Context, reports net.Listener) string {
	conn, err := reports.Accept()
	if err != nil {
		return ""
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	text, _ := io.ReadAll(conn) // what came before an error is worth having
	return string(text)
}

func sections(text string) map[string]string {
	out := make(map[string]string)
	name := ""
	scanner := bufio.NewScanner(strings.NewReader(text))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		line := strings.TrimRight(scanner.Text(), "\r")
		if title, ok := strings.CutPrefix(line, "=== "); ok {
			name = title
			out[name] = ""
			continue
		}
		out[name] += line + "\n"
	}
	for name, text := range out {
		out[name] = strings.TrimSpace(text)
	}
	return out
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// readCapture returns the frames of a capture file as QEMU writes it: pcap in the machine's own byte order.
func readCapture(path string) ([][]byte, error) {
	const fileHeader, frameHeader = 24, 16
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(data) < fileHeader || string(data[:4]) != "\xd4\xc3\xb2\xa1" {
		return nil, fmt.Errorf("%s: not a little-endian pcap file", path)
	}
	var frames [][]byte
	for data = data[fileHeader:]; len(data) > 0; {
		if len(data) < frameHeader {
			return nil, errors.New(path + ": cut short")
		}
		n := int(data[8]) | int(data[9])<<8 | int(data[10])<<16 | int(data[11])<<24
		if len(data) < frameHeader+n {
			return nil, errors.New(path + ": cut short")
		}
		frames = append(frames, data[frameHeader:frameHeader+n])
		data = data[frameHeader+n:]
	}
	return frames, nil
}

// isDHCP says if a frame is DHCP or DHCPv6, from whichever end.
func isDHCP(frame []byte) bool {
	const ethernet, udp = 14, 17
	if len(frame) < ethernet+20 {
		return false
	}
	ip := frame[ethernet:]
	switch etherType := int(frame[12])<<8 | int(frame[13]); etherType {
	case 0x0800:
		header := int(ip[0]&0x0f) * 4
		return ip[9] == udp && len(ip) >= header+4 && anyPort(ip[header:], 67, 68)
	case 0x86dd:
		return ip[6] == udp && len(ip) >= 44 && anyPort(ip[40:], 546, 547)
	}
	return false
}

func anyPort(udp []byte, ports ...int) bool {
	source, target := int(udp[0])<<8|int(udp[1]), int(udp[2])<<8|int(udp[3])
	for _, port := range ports {
		if source == port || target == port {
			return true
		}
	}
	return false
}
