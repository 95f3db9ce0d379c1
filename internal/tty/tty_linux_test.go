package tty_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmw-cloudinit-metadata/internal/tty"
	"vmw-cloudinit-metadata/internal/tty/ttytest"
)

func open(t *testing.T, path string) *tty.Port {
	t.Helper()
	p, err := tty.Open(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func settings(t *testing.T, path string) unix.Termios {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	termios, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *termios
}

func TestEveryByteGoesThroughBothWays(t *testing.T) {
	host, path := ttytest.Open(t)
	p := open(t, path)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, way := range []struct {
		from io.Writer
		to   io.Reader
	}{{host, p}, {p, host}} {
		if _, err := way.from.Write(all); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(all))
		if _, err := io.ReadFull(way.to, got); err != nil || !bytes.Equal(got, all) {
			t.Errorf("got % x, %v", got, err)
		}
	}
}

// In the settings that a port has by itself, a line of more than 4095 bytes is cut.
func TestLongLines(t *testing.T) {
	host, path := ttytest.Open(t)
	p := open(t, path)
	line := append(bytes.Repeat([]byte("A"), 100_000), '\n')
	go host.Write(line)
	got := make([]byte, len(line))
	if _, err := io.ReadFull(p, got); err != nil || !bytes.Equal(got, line) {
		t.Errorf("the line did not survive: %v", err)
	}
}

func TestDeadline(t *testing.T) {
	_, path := ttytest.Open(t)
	p := open(t, path)
	if err := p.SetDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := p.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("reading: %d, %v", n, err)
	}
	if _, err := p.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("writing more than anybody reads: %v", err)
	}
}

func TestDeadlineEndsAWaitingRead(t *testing.T) {
	_, path := ttytest.Open(t)
	p := open(t, path)
	failed := make(chan error)
	go func() {
		_, err := p.Read(make([]byte, 1))
		failed <- err
	}()
	if err := p.SetDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestCloseRestoresTheSettings(t *testing.T) {
	_, path := ttytest.Open(t)
	before := settings(t, path)
	p := open(t, path)
	during := settings(t, path)
	if during.Lflag != 0 || during.Oflag != 0 || during.Iflag&^unix.IGNBRK != 0 || during.Cflag&unix.CBAUD != unix.B115200 || during.Cflag&unix.CLOCAL == 0 {
		t.Errorf("not raw: %+v", during)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if after := settings(t, path); after != before {
		t.Errorf("settings were %+v, and are %+v", before, after)
	}
}

// Closing must not wait for a host that reads nothing.
func TestCloseWithOutputStuck(t *testing.T) {
	host, path := ttytest.Open(t)
	p := open(t, path)
	p.SetDeadline(time.Now().Add(10 * time.Millisecond))
	p.Write(make([]byte, 1<<20))
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	host.SetReadDeadline(time.Now().Add(time.Second))
	if n, _ := io.Copy(io.Discard, host); n > 64<<10 {
		t.Errorf("%d bytes were kept for later", n)
	}
}

func TestOpenRefuses(t *testing.T) {
	_, path := ttytest.Open(t)
	open(t, path)
	for _, tc := range []struct {
		name, path string
		speed      int
		want       error
		text       string
	}{
		{"missing", filepath.Join(t.TempDir(), "ttyS1"), 0, tty.ErrNoPort, "add a serial port"},
		{"no line", "/dev/null", 0, tty.ErrNoPort, "no serial line"},
		{"taken", path, 0, tty.ErrBusy, "locked"},
	} {
		_, err := tty.Open(tc.path, tc.speed)
		if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) || !strings.HasPrefix(err.Error(), tc.path) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	_, free := ttytest.Open(t)
	if _, err := tty.Open(free, 12345); err == nil || !strings.Contains(err.Error(), "12345 baud") {
		t.Errorf("an unusual speed: %v", err)
	}
	open(t, free) // the refusal left no lock
}

func TestFind(t *testing.T) {
	root := t.TempDir()
	for name, content := range map[string]string{
		"ttyS0/type": "4\n", "ttyS1/type": "4\n", "ttyS2/type": "0\n", "ttyS10/type": "4\n", "ttyAMA0/type": "32\n",
		"tty1/dev": "4:1\n", "ttyprintk/dev": "5:3\n", "console/active": "tty0 ttyS0\n",
	} {
		path := filepath.Join(root, "sys/class/tty", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	found, err := tty.Find(root)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	var order []string
	for _, c := range found {
		order = append(order, c.Path)
		got[c.Path], _, _ = strings.Cut(c.Skip, " ")
		if c.Phantom != (c.Path == "/dev/ttyS2") {
			t.Errorf("%s: phantom is %v", c.Path, c.Phantom)
		}
	}
	if want := []string{"/dev/ttyS0", "/dev/ttyS1", "/dev/ttyS2", "/dev/ttyS10", "/dev/ttyAMA0"}; !reflect.DeepEqual(order, want) {
		t.Errorf("found %v, want %v", order, want)
	}
	if want := map[string]string{"/dev/ttyS0": "it", "/dev/ttyS1": "", "/dev/ttyS2": "the", "/dev/ttyS10": "", "/dev/ttyAMA0": ""}; !reflect.DeepEqual(got, want) {
		t.Errorf("found %v", found)
	}
	if found, err := tty.Find(t.TempDir()); len(found) != 0 || err != nil {
		t.Errorf("in an empty system: %v, %v", found, err)
	}
}

func TestHolders(t *testing.T) {
	_, path := ttytest.Open(t)
	if holders := tty.Holders("/", path); len(holders) != 0 {
		t.Errorf("this process counts itself: %v", holders)
	}
	slave, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	cat := exec.Command("cat")
	cat.Stdin = slave
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cat.Process.Kill(); cat.Wait() }()
	link := filepath.Join(t.TempDir(), "port")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, link} {
		want := []tty.Holder{{PID: cat.Process.Pid, Name: "cat"}}
		if got := tty.Holders("/", name); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}
