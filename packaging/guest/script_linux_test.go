// Package packaging_test runs the guest's shell script as an image would.
package packaging_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmw-cloudinit-metadata/internal/guest/guesttest"
	"vmw-cloudinit-metadata/internal/testenv"
	"vmw-cloudinit-metadata/internal/tty/ttytest"
	"vmw-cloudinit-metadata/packet"
)

const script = "vmw-cloudinit-guest.sh"

// shells are those that images without much in them have.
func shells(t *testing.T) map[string][]string {
	paths := testenv.Need(t, "dash", "busybox")
	return map[string][]string{"dash": {paths[0]}, "busybox": {paths[1], "sh"}}
}

// noisy is a line on which the console prints, and whose driver puts carriage returns and flow control in.
type noisy struct{ *os.File }

func (n noisy) Write(b []byte) (int, error) {
	text := strings.ReplaceAll(string(b), "\n", "\r\n")
	if at := len(text) / 2; at > 20 {
		text = text[:at] + "\x11" + text[at:]
	}
	if _, err := n.WriteString("\r\n[    1.2] usb 1-1: new!! device\r\nlogin: " + text); err != nil {
		return 0, err
	}
	return len(b), nil
}

func TestScript(t *testing.T) {
	docs := map[packet.Document][]byte{
		packet.MetaData: []byte(`{"instance-id":"i-1"}`), packet.UserData: bytes.Repeat([]byte("# a comment, \\n and more\n"), 8000),
		packet.NetworkConfig: []byte("version: 1\n"), packet.VendorData: []byte("\x00\xff\n"),
	}
	some := map[packet.Document][]byte{packet.MetaData: []byte("{}")}
	someSeed := map[packet.Document][]byte{packet.MetaData: []byte("{}"), packet.UserData: {}}
	empty := map[packet.Document][]byte{packet.MetaData: []byte("{}"), packet.UserData: {}, packet.NetworkConfig: {}, packet.VendorData: {}}
	before := map[packet.Document][]byte{packet.MetaData: []byte("before")}
	for shell, command := range shells(t) {
		for _, tc := range []struct {
			name   string
			server *guesttest.Server
			noise  bool
			code   int
			seed   map[packet.Document][]byte
		}{
			{"all documents", &guesttest.Server{Documents: docs}, false, 0, docs},
			{"noise", &guesttest.Server{Documents: docs}, true, 0, docs},
			{"few documents", &guesttest.Server{Documents: some}, false, 0, someSeed},
			{"empty documents", &guesttest.Server{Documents: empty}, false, 0, someSeed},
			{"few documents, older server", &guesttest.Server{Documents: some, Old: true}, false, 0, someSeed},
			{"nothing for it", &guesttest.Server{Fail: packet.NotFound}, false, 3, before},
			{"denied", &guesttest.Server{Fail: packet.Denied}, false, 4, before},
			{"invalid", &guesttest.Server{Fail: packet.Invalid}, false, 7, before},
			{"driver fails", &guesttest.Server{Fail: packet.Unavailable}, false, 8, before},
			{"mute", &guesttest.Server{Mute: true}, false, 5, before},
		} {
			t.Run(shell+"/"+tc.name, func(t *testing.T) {
				t.Parallel()
				server := &guesttest.Server{Documents: tc.server.Documents, Old: tc.server.Old, Fail: tc.server.Fail, Mute: tc.server.Mute}
				runScript(t, command, server, tc.noise, tc.code, tc.seed)
			})
		}
	}
}

// An older server is silent about what it does not have. One that is held up has it, and says so when that is over.
func TestScriptOfAServerThatStalls(t *testing.T) {
	docs := map[packet.Document][]byte{
		packet.MetaData: []byte("{}"), packet.UserData: []byte("#cloud-config\n"), packet.NetworkConfig: []byte("version: 1\n"),
	}
	for shell, command := range shells(t) {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			server := &guesttest.Server{Documents: docs, Old: true}
			stalled := false
			server.Rewrite = func(_ packet.Code, data []byte) []byte {
				if server.Delay = 0; !stalled {
					stalled, server.Delay = true, 7500*time.Millisecond
				}
				return data
			}
			runScript(t, command, server, false, 0, docs)
		})
	}
}

// Whatever comes without end, and is no answer, a boot goes on.
func TestScriptOnALineWithoutEnd(t *testing.T) {
	for shell, command := range shells(t) {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			text := "a console prints this\n"
			if shell == "dash" {
				text = "x" // one endless line, while the other shell bounds its reads by itself
			}
			host, path := ttytest.Open(t)
			saved := termios(t, path)
			done := make(chan struct{})
			go func() {
				defer close(done)
				tick := time.NewTicker(500 * time.Millisecond)
				defer tick.Stop()
				for range tick.C {
					if _, err := host.WriteString(text); err != nil {
						return
					}
				}
			}()
			t.Cleanup(func() { host.SetDeadline(time.Unix(1, 0)); <-done })
			cloud := t.TempDir()
			cached := filepath.Join(cloud, "instance/obj.pkl")
			if err := errors.Join(os.MkdirAll(filepath.Dir(cached), 0o700), os.WriteFile(cached, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, command[0], append(command[1:], script, path, filepath.Join(cloud, "seed/nocloud"))...)
			cmd.Env = append(os.Environ(), "CLOUD_DIR="+cloud)
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState == nil {
				t.Fatal(err)
			}
			if code := cmd.ProcessState.ExitCode(); code != 5 || ctx.Err() != nil {
				t.Errorf("exit code %d\n%s", code, out)
			}
			if entries, _ := os.ReadDir(filepath.Join(cloud, "seed")); len(entries) != 0 {
				t.Errorf("leftovers: %v", entries)
			}
			if after := termios(t, path); after != saved {
				t.Errorf("the port's settings were %+v, and are %+v", saved, after)
			}
		})
	}
}

// A boot without data leaves cloud-init with an instance that is none: the next one waits as a first boot does.
func TestScriptAfterABootWithoutData(t *testing.T) {
	for shell, command := range shells(t) {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			docs := map[packet.Document][]byte{packet.MetaData: []byte("{}"), packet.UserData: []byte("#cloud-config\n")}
			late := &guesttest.Server{Documents: docs, Fail: packet.BadRequest}
			refused := 0
			late.Rewrite = func(_ packet.Code, data []byte) []byte {
				if refused++; refused == 4 {
					late.Fail = ""
				}
				return data
			}
			cloud := t.TempDir()
			id := filepath.Join(cloud, "data/instance-id")
			if err := errors.Join(os.MkdirAll(filepath.Dir(id), 0o700), os.WriteFile(id, []byte("iid-datasource-none\n"), 0o600)); err != nil {
				t.Fatal(err)
			}
			runScriptIn(t, cloud, command, late, false, 0, docs)
		})
	}
}

func runScript(t *testing.T, command []string, server *guesttest.Server, noise bool, code int, want map[packet.Document][]byte) {
	t.Helper()
	runScriptIn(t, t.TempDir(), command, server, noise, code, want)
}

// runScriptIn is runScript with cloud-init's folder as it is, and with an instance cached.
func runScriptIn(t *testing.T, cloud string, command []string, server *guesttest.Server, noise bool, code int, want map[packet.Document][]byte) {
	t.Helper()
	host, path := ttytest.Open(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if noise {
			server.Serve(noisy{host})
		} else {
			server.Serve(host)
		}
	}()
	t.Cleanup(func() { host.SetDeadline(time.Unix(1, 0)); <-done })
	saved := termios(t, path)

	dir := filepath.Join(cloud, "seed/nocloud")
	// A later boot: it doesn't wait for two minutes. The seed is where an interrupted run left it.
	for file, text := range map[string]string{"instance/obj.pkl": "", "seed/.nocloud.old/meta-data": "before", "seed/.nocloud.new.17/user-data": "half"} {
		file = filepath.Join(cloud, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), command[0], append(command[1:], script, path, dir)...)
	cmd.Env = append(os.Environ(), "CLOUD_DIR="+cloud)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code || (code == 0) != (len(out) == 0) {
		t.Errorf("exit code %d, want %d\n%s", got, code, out)
	}
	got := map[packet.Document][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		file := filepath.Join(dir, entry.Name())
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
		got[packet.Document(entry.Name())] = data
	}
	if !maps.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("the seed is %.300q, want %.300q", got, want)
	}
	if entries, _ := os.ReadDir(filepath.Dir(dir)); len(entries) != 1 {
		t.Errorf("leftovers beside the seed: %v", entries)
	}
	if after := termios(t, path); after != saved {
		t.Errorf("the port's settings were %+v, and are %+v", saved, after)
	}
}

func termios(t *testing.T, path string) unix.Termios {
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

func TestScriptWithoutPort(t *testing.T) {
	for shell, command := range shells(t) {
		for _, path := range []string{"/dev/null", filepath.Join(t.TempDir(), "ttyS1")} {
			cmd := exec.CommandContext(t.Context(), command[0], append(command[1:], script, path, t.TempDir())...)
			out, _ := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != 6 || !strings.Contains(string(out), "no such serial port") {
				t.Errorf("%s: exit code %d\n%s", shell, code, out)
			}
		}
	}
}

func TestScriptIsShort(t *testing.T) {
	data, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(data, []byte("\n")); lines >= 60 {
		t.Errorf("%d lines: it is meant to be pasted into images", lines)
	}
}
