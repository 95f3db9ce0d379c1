package main

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmw-cloudinit-metadata/internal/guest/guesttest"
	"vmw-cloudinit-metadata/internal/tty/ttytest"
	"vmw-cloudinit-metadata/packet"
)

// run is the program with args and an environment of "KEY=VALUE".
func run(t *testing.T, args []string, env ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	p := program{out: &o, err: &e, env: func(key string) (string, bool) {
		for _, entry := range env {
			if value, ok := strings.CutPrefix(entry, key+"="); ok {
				return value, true
			}
		}
		return "", false
	}}
	code = p.run(t.Context(), args)
	return code, o.String(), e.String()
}

// port is a real tty with a server behind it.
func port(t *testing.T, server *guesttest.Server) (path string) {
	t.Helper()
	host, path := ttytest.Open(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(host)
	}()
	t.Cleanup(func() { host.SetDeadline(time.Unix(1, 0)); <-done })
	return path
}

func documents() map[packet.Document][]byte {
	return map[packet.Document][]byte{
		packet.MetaData: []byte(`{"instance-id":"i-1"}`), packet.UserData: bytes.Repeat([]byte("# a comment\n"), 20_000),
	}
}

func TestSeed(t *testing.T) {
	server := &guesttest.Server{Documents: documents()}
	path, dir := port(t, server), t.TempDir()
	args := []string{"seed", "--console", "", "--dir", filepath.Join(dir, "seed/nocloud"), "--cloud-dir", dir, "--result", filepath.Join(dir, "run/result.json")}
	for _, step := range []struct {
		name           string
		before         func()
		args           []string
		code           int
		result, seed   string
		version        float64
		wantNoMetaData bool
	}{
		{"mute", func() { server.Mute = true }, []string{"--wait", "1s"}, 5, "unreachable", "none", 0, true},
		{"nothing for it", func() { server.Mute, server.Fail = false, packet.NotFound }, nil, 3, "not-found", "none", 0, true},
		{"all is well", func() { server.Fail = "" }, nil, 0, "ok", "written", 2, false},
		{"once more", func() {}, nil, 0, "ok", "unchanged", 2, false},
		{"by version 1", func() {}, []string{"--protocol", "1"}, 0, "ok", "unchanged", 1, false},
		{"denied", func() { server.Fail = packet.Denied }, nil, 4, "denied", "kept", 0, false},
	} {
		server.Do(step.before)
		code, _, errs := run(t, append(args, step.args...), "VMW_CLOUDINIT_GUEST_DEVICE="+path)
		data, err := os.ReadFile(filepath.Join(dir, "run/result.json"))
		if err != nil {
			t.Fatal(err)
		}
		var result map[string]any
		if err := json.Unmarshal(data, &result); err != nil {
			t.Fatal(err)
		}
		version, _ := result["protocol"].(float64)
		if code != step.code || result["result"] != step.result || result["seed"] != step.seed || version != step.version {
			t.Errorf("%s: exit code %d, %s%s", step.name, code, data, errs)
		}
		if !strings.Contains(errs, name+": "+step.result+": ") {
			t.Errorf("%s: the log says\n%s", step.name, errs)
		}
		got, err := os.ReadFile(filepath.Join(dir, "seed/nocloud/meta-data"))
		if step.wantNoMetaData != os.IsNotExist(err) || err == nil && string(got) != `{"instance-id":"i-1"}` {
			t.Errorf("%s: meta-data is %q, %v", step.name, got, err)
		}
	}
}

// asProgram has this test be the program, with its arguments.
const asProgram = "VMW_CLOUDINIT_GUEST_TEST_ARGS"

func TestMain(m *testing.M) {
	if args := os.Getenv(asProgram); args != "" {
		os.Args = append(os.Args[:1], strings.Fields(args)...)
		main()
	}
	os.Exit(m.Run())
}

// Who reads the log may end before the boot's data is there.
func TestSeedOutlivesWhoReadsTheLog(t *testing.T) {
	dir := t.TempDir()
	path := port(t, &guesttest.Server{Documents: documents()})
	unread, log, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	unread.Close()
	defer log.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asProgram+"=seed --console= --result= --device "+path+" --dir "+dir+"/seed/nocloud --cloud-dir "+dir)
	cmd.Stderr = log
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "seed/nocloud/meta-data")); err != nil {
		t.Error(err)
	}
}

// Who wants no result may name a device for it, which other programs need.
func TestTheResultReplacesNoDevice(t *testing.T) {
	dir := t.TempDir()
	fifo, link, file := filepath.Join(dir, "fifo"), filepath.Join(dir, "link"), filepath.Join(dir, "file")
	if err := errors.Join(syscall.Mkfifo(fifo, 0o600), os.Symlink(file, link), os.WriteFile(file, []byte("before"), 0o600)); err != nil {
		t.Fatal(err)
	}
	_, device := ttytest.Open(t)
	for path, want := range map[string]os.FileMode{fifo: os.ModeNamedPipe, link: os.ModeSymlink, device: os.ModeDevice | os.ModeCharDevice, file: 0} {
		code, _, errs := run(t, []string{"seed", "--device", dir + "/none", "--console", "", "--dir", dir + "/seed/nocloud", "--cloud-dir", dir, "--result", path})
		if info, err := os.Lstat(path); code != 6 || err != nil || info.Mode().Type() != want {
			t.Errorf("exit code %d, and %s is %v, %v\n%s", code, path, info.Mode(), err, errs)
		}
	}
	if data, err := os.ReadFile(file); err != nil || !strings.Contains(string(data), `"no-port"`) {
		t.Errorf("behind the link is %q, %v", data, err)
	}
}

// An empty variable is an empty value where that means something, and no value elsewhere.
func TestEmptyVariables(t *testing.T) {
	f := (&program{err: io.Discard, env: func(string) (string, bool) { return "", true }}).flags("seed", "", time.Minute, "")
	f.String("console", "/dev/console", "")
	f.String("result", defaultResult, "")
	code, ok := f.parse(nil, 0)
	for name, want := range map[string]string{"console": "", "result": "", "wait": "1m0s", "protocol": "auto", "speed": "115200", "device": ""} {
		if got := f.Lookup(name).Value.String(); !ok || got != want {
			t.Errorf("exit code %d, and --%s is %q, not %q", code, name, got, want)
		}
	}
}

// A slip in an image's settings must not keep all machines made of it from their data.
func TestSeedIgnoresWrongVariables(t *testing.T) {
	for _, wrong := range []string{"WAIT=120", "WAIT=-1s", "SPEED=fast", "PROTOCOL=3"} {
		dir := t.TempDir()
		console := filepath.Join(dir, "console")
		if err := os.WriteFile(console, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		path := port(t, &guesttest.Server{Documents: documents()})
		args := []string{"seed", "--device", path, "--console", console, "--dir", dir + "/seed/nocloud", "--cloud-dir", dir, "--result", dir + "/result.json"}
		code, _, errs := run(t, args, prefix+wrong)
		text, err := os.ReadFile(console)
		key, value, _ := strings.Cut(wrong, "=")
		said := fmt.Sprintf("%s%s=%q: ", prefix, key, value)
		if code != 0 || err != nil || !strings.Contains(errs, said) || !strings.Contains(string(text), said) || !strings.Contains(errs, "ignored") {
			t.Errorf("%s: exit code %d, console: %q\n%s", wrong, code, text, errs)
		}
		if _, err := os.Stat(filepath.Join(dir, "seed/nocloud/meta-data")); err != nil {
			t.Error(err)
		}
	}
}

func TestSeedTellsTheConsole(t *testing.T) {
	dir := t.TempDir()
	console := filepath.Join(dir, "console")
	if err := os.WriteFile(console, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	path := port(t, &guesttest.Server{Fail: packet.NotFound})
	code, _, errs := run(t, []string{"seed", "--device", path, "--console", console, "--dir", dir + "/seed/nocloud", "--cloud-dir", dir, "--result", ""})
	if text, err := os.ReadFile(console); code != 3 || err != nil || !strings.Contains(string(text), "not-found: "+path+": the server says not-found") {
		t.Errorf("exit code %d, console: %q\n%s", code, text, errs)
	}
}

func TestGet(t *testing.T) {
	path := port(t, &guesttest.Server{Documents: documents()})
	file := filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(file, []byte("what everybody could read, and longer than what comes"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		code int
		out  string
	}{
		{[]string{"get", "--device", path, "meta-data"}, 0, `{"instance-id":"i-1"}`},
		{[]string{"get", "--device", path, "user-data"}, 0, string(documents()[packet.UserData])},
		{[]string{"get", "meta-data", "--device", path, "--protocol", "1"}, 0, `{"instance-id":"i-1"}`},
		{[]string{"get", "--device", path, "vendor-data"}, 3, ""},
		{[]string{"get", "--device", path, "--output", file, "meta-data"}, 0, ""},
		{[]string{"get", "--device", path + "0000", "meta-data"}, 6, ""},
		{[]string{"get", "--device", path}, 2, ""},
		{[]string{"get", "--device", path, "passwd"}, 2, ""},
	} {
		if code, out, errs := run(t, tc.args); code != tc.code || out != tc.out || (code == 0) != (errs == "") {
			t.Errorf("%q: exit code %d, %.100q\n%s", tc.args, code, out, errs)
		}
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != `{"instance-id":"i-1"}` {
		t.Errorf("%q, %v", data, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", info.Mode(), err)
	}
}

func TestProbe(t *testing.T) {
	server := &guesttest.Server{Documents: documents()}
	path := port(t, server)
	code, out, errs := run(t, []string{"probe", "--device", path})
	if want := path + ": a server answers, with version 2, meta-data: 21 bytes, user-data: 240000 bytes\n"; code != 0 || out != want || errs != "" {
		t.Errorf("exit code %d, %q\n%s", code, out, errs)
	}
	server.Do(func() { server.Fail = packet.Denied })
	if code, out, _ := run(t, []string{"probe", "--device", path}); code != 4 || !strings.HasPrefix(out, path+": denied: ") {
		t.Errorf("exit code %d, %q", code, out)
	}
}

// A pseudo-terminal is held open by whoever carries its bytes to a server; that is nobody in the way.
func TestPseudoTerminalHeldByItsMaker(t *testing.T) {
	path := port(t, &guesttest.Server{Documents: documents()})
	held, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	maker := exec.Command("sleep", "60")
	maker.Stdin = held
	if err := maker.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { maker.Process.Kill(); maker.Wait() }()
	if code, out, errs := run(t, []string{"get", "--device", path, "meta-data"}); code != 0 || out != `{"instance-id":"i-1"}` {
		t.Errorf("exit code %d, %q\n%s", code, out, errs)
	}
}

func TestUsage(t *testing.T) {
	for _, tc := range []struct {
		args []string
		env  string
		code int
		text string
	}{
		{nil, "", 2, "which command?"},
		{[]string{"sead"}, "", 2, `no command "sead"`},
		{[]string{"help"}, "", 0, "Exit codes"},
		{[]string{"help", "seed"}, "", 0, "-cloud-dir"},
		{[]string{"help", "help"}, "", 0, "Exit codes"},
		{[]string{"help", "--help"}, "", 0, "Exit codes"},
		{[]string{"-h", "-h"}, "", 0, "Exit codes"},
		{[]string{"help", "sead"}, "", 2, `no command "sead"`},
		{[]string{"get"}, "", 2, "get needs a document: meta-data"},
		{[]string{"get", "userdata"}, "", 2, `no document "userdata", but meta-data, user-data`},
		{[]string{"get", "-h"}, "", 0, "get [FLAGS] DOCUMENT"},
		{[]string{"version"}, "", 0, runtime.GOARCH},
		{[]string{"seed", "now"}, "", 2, `"now" is one argument too many`},
		{[]string{"seed", "now", "--wait", "1s"}, "", 2, `"now" is one argument too many`},
		{[]string{"get", "user-data", "-h"}, "", 0, "get [FLAGS] DOCUMENT"},
		{[]string{"get", "user-data", "--colour"}, "", 2, "colour"},
		{[]string{"get", "user-data", "meta-data"}, "", 2, `"meta-data" is one argument too many`},
		{[]string{"seed", "--colour"}, "", 2, "colour"},
		{[]string{"seed", "--protocol", "3"}, "", 2, "1, 2 or auto"},
		{[]string{"seed", "--wait", "0s"}, "", 2, "it must be more than nothing"},
		{[]string{"get"}, "VMW_CLOUDINIT_GUEST_WAIT=long", 2, `VMW_CLOUDINIT_GUEST_WAIT="long"`},
		{[]string{"get", "--device", "/nowhere"}, "VMW_CLOUDINIT_GUEST_PROTOCOL=3", 2, `VMW_CLOUDINIT_GUEST_PROTOCOL="3": it may be 1, 2 or auto`},
		{[]string{"get"}, "VMW_CLOUDINIT_GUEST_WAIT=120", 2, `VMW_CLOUDINIT_GUEST_WAIT="120": it takes a number with its unit, as in 90s or 2m`},
		{[]string{"seed", "--wait", "120"}, "", 2, "it takes a number with its unit"},
		{[]string{"seed", "-h"}, "", 0, "(default 2m0s)"},
		{[]string{"seed", "-h"}, "VMW_CLOUDINIT_GUEST_CLOUD_DIR=/elsewhere", 0, "-wait"},
	} {
		if code, out, errs := run(t, tc.args, tc.env); code != tc.code || !strings.Contains(out+errs, tc.text) {
			t.Errorf("%q: exit code %d\n%s%s", tc.args, code, out, errs)
		}
	}
}

// The manual page has the flags that the program has, with the values that they have if they are not given.
func TestManualPage(t *testing.T) {
	text, err := os.ReadFile("../../packaging/guest/vmw-cloudinit-guest.8")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	flag := regexp.MustCompile(`(?m)^  -([a-z-]+).*\n(?:.*\(default "?([^")]+)"?\))?`)
	for _, command := range []string{"seed", "get", "probe"} {
		_, _, help := run(t, []string{command, "-h"})
		flags := flag.FindAllStringSubmatch(help, -1)
		if len(flags) < 4 {
			t.Fatalf("%s has only the flags %q", command, flags)
		}
		for _, match := range flags {
			name, value := match[1], match[2]
			_, entry, found := strings.Cut(page, "\n.It Fl -"+name+" ")
			entry, _, _ = strings.Cut(entry, "\n.It ")
			switch {
			case !found:
				t.Errorf("it says nothing of --%s", name)
			case name == "wait":
				want, err := time.ParseDuration(value)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(entry, fmt.Sprintf(".Cm %.0fs\nfor\n.Cm %s", want.Seconds(), command)) {
					t.Errorf("it lacks the --wait %s of %s", value, command)
				}
			case strings.HasPrefix(value, "each") || value == "print": // said in its own words
			case !strings.Contains(entry, value):
				t.Errorf("it lacks the %q of --%s", value, name)
			}
			if !strings.Contains(page, ".Ev "+prefix+strings.ToUpper(strings.ReplaceAll(name, "-", "_"))) {
				t.Errorf("it lacks the variable of --%s", name)
			}
		}
	}
}

// The program goes into images and runs as root on each boot: what it is made of changes on purpose only.
func TestDependencies(t *testing.T) {
	var lists [][]string
	for _, arch := range []string{"amd64", "arm64"} {
		cmd := exec.Command("go", "list", "-deps", ".")
		cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for dep := range strings.FieldsSeq(string(out)) {
			// The insides of the standard library are its own affair.
			if first, _, _ := strings.Cut(dep, "/"); first != "internal" && first != "vendor" && !strings.HasPrefix(dep, "crypto/internal") && !strings.HasPrefix(dep, "runtime") {
				list = append(list, dep)
			}
		}
		slices.Sort(list)
		lists = append(lists, list)
	}
	if !slices.Equal(lists[0], lists[1]) {
		t.Errorf("amd64 and arm64 differ:\n%q\n%q", lists[0], lists[1])
	}
	for _, banned := range []string{"net", "net/http", "crypto/tls", "os/user", "C"} {
		if slices.Contains(lists[0], banned) {
			t.Errorf("%s is among the dependencies", banned)
		}
	}
	want, err := os.ReadFile("testdata/dependencies")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(lists[0], "\n") + "\n"; got != string(want) {
		for _, dep := range lists[0] {
			if !strings.Contains("\n"+string(want), "\n"+dep+"\n") {
				t.Errorf("new: %s", dep)
			}
		}
		for dep := range strings.FieldsSeq(string(want)) {
			if !slices.Contains(lists[0], dep) {
				t.Errorf("gone: %s", dep)
			}
		}
		t.Error("if that is meant, change testdata/dependencies")
	}
}

func TestBinary(t *testing.T) {
	if testing.Short() {
		t.Skip("builds for four systems")
	}
	const most = 3 << 20
	dir := t.TempDir()
	for _, target := range []string{"linux/amd64", "linux/arm64", "windows/amd64", "freebsd/amd64"} {
		system, arch, _ := strings.Cut(target, "/")
		file := filepath.Join(dir, system+arch)
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, ".")
		cmd.Env = append(os.Environ(), "GOOS="+system, "GOARCH="+arch, "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", target, err, out)
			continue
		}
		if system != "linux" {
			continue
		}
		if info, err := os.Stat(file); err != nil || info.Size() > most {
			t.Errorf("%s: %d bytes, and it may have %d; %v", target, info.Size(), most, err)
		}
		f, err := elf.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, program := range f.Progs {
			if program.Type == elf.PT_INTERP {
				t.Errorf("%s: not static", target)
			}
		}
	}
}
