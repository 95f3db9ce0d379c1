package file_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vmw-cloudinit-metadata/driver/file"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/metadata/metadatatest"
	"vmw-cloudinit-metadata/vmfile"
)

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, config file.Config) *file.Driver {
	t.Helper()
	driver, err := file.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := driver.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return driver
}

func TestContract(t *testing.T) {
	metadatatest.Run(t, metadatatest.Suite{New: func(t *testing.T, records []metadatatest.Record) metadata.Driver {
		directory := t.TempDir()
		for _, record := range records {
			base := record.UUID
			if base == "" {
				base = record.Name
			}
			write(t, filepath.Join(directory, base+".yaml"), record.Document)
		}
		return open(t, file.Config{Directory: directory})
	}})
}

const testUUID = "421338a5-0a6a-b9b4-b647-3007991cf1d6"

func hostname(t testing.TB, driver metadata.Driver, vm metadata.VM) any {
	t.Helper()
	inst, err := driver.Find(t.Context(), vm)
	if err != nil {
		t.Fatalf("Find(%s): %v", vm, err)
	}
	return inst.MetaData["hostname"]
}

func TestNamesOnDisk(t *testing.T) {
	for _, tc := range []struct {
		name, file string
		vm         metadata.VM
		found      bool
	}{
		{"UUID", testUUID + ".yaml", metadata.VM{UUID: testUUID, Name: "a"}, true},
		{"UUID and yml", testUUID + ".yml", metadata.VM{UUID: testUUID}, true},
		{"UUID in upper case", strings.ToUpper(testUUID) + ".yaml", metadata.VM{UUID: testUUID}, true},
		{"name", "web 1 (old).yaml", metadata.VM{Name: "web 1 (old)", UUID: testUUID}, true},
		{"name and yml", "web1.yml", metadata.VM{Name: "web1"}, true},
		{"name in UTF-8", "größe.yaml", metadata.VM{Name: "größe"}, true},
		{"slash, escaped by both", "a%2fb.yaml", metadata.VM{Name: "a%2fb"}, true},
		{"slash, escaped on disk", "a%2fb.yaml", metadata.VM{Name: "a/b"}, true},
		{"slash, escaped on disk in upper case", "a%2Fb.yaml", metadata.VM{Name: "a/b"}, true},
		{"backslash, escaped by the host", `a\b.yaml`, metadata.VM{Name: "a%5cb"}, true},
		{"percent, escaped by the host", "50%.yaml", metadata.VM{Name: "50%25"}, true},
		{"percent, escaped on disk", "50%25.yaml", metadata.VM{Name: "50%"}, true},
		{"name with an extension", "web1.yaml.yaml", metadata.VM{Name: "web1.yaml"}, true},
		{"longest name", strings.Repeat("a", 250) + ".yaml", metadata.VM{Name: strings.Repeat("a", 250)}, true},
		{"other VM's UUID for a name", testUUID + ".yaml", metadata.VM{Name: testUUID}, false},
		{"its own UUID for a name", testUUID + ".yaml", metadata.VM{Name: testUUID, UUID: testUUID}, true},
		{"bare UUID for a name", strings.ReplaceAll(testUUID, "-", "") + ".yaml", metadata.VM{Name: strings.ReplaceAll(testUUID, "-", "")}, false},
		{"defaults", "defaults.yaml", metadata.VM{Name: "defaults"}, false},
		{"hidden file", ".web1.yaml", metadata.VM{Name: ".web1"}, false},
		{"slash is no path", "vms/web1.yaml", metadata.VM{Name: "vms/web1"}, false},
		{"slash, escaped by the host, is no path", "vms/web1.yaml", metadata.VM{Name: "vms%2fweb1"}, false},
		{"line end", "web1\n.yaml", metadata.VM{Name: "web1\n"}, false},
		{"not UTF-8", "web1\xff.yaml", metadata.VM{Name: "web1\xff"}, false},
		{"BIOS UUID", testUUID + ".yaml", metadata.VM{BIOSUUID: testUUID, LocationUUID: testUUID}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			directory := t.TempDir()
			if err := os.Mkdir(filepath.Join(directory, "vms"), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(directory, tc.file), "metadata: {hostname: here}")
			inst, err := open(t, file.Config{Directory: directory}).Find(t.Context(), tc.vm)
			if tc.found && (err != nil || inst.MetaData["hostname"] != "here") {
				t.Errorf("not found: %v", err)
			}
			if !tc.found && !errors.Is(err, metadata.ErrNotFound) {
				t.Errorf("got %v, %v; want ErrNotFound", inst, err)
			}
		})
	}
}

func TestYamlGoesBeforeYml(t *testing.T) {
	directory := t.TempDir()
	write(t, filepath.Join(directory, "a.yml"), "metadata: {hostname: short}")
	write(t, filepath.Join(directory, "a.yaml"), "metadata: {hostname: long}")
	if got := hostname(t, open(t, file.Config{Directory: directory}), metadata.VM{Name: "a"}); got != "long" {
		t.Errorf("got the file of %v", got)
	}
}

func TestChangedFileIsServedAtOnce(t *testing.T) {
	directory := t.TempDir()
	path := filepath.Join(directory, "a.yaml")
	driver, vm := open(t, file.Config{Directory: directory}), metadata.VM{Name: "a"}
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	for i := range 100 { // the same size, the same inode, and mostly the same tick of the clock
		want := fmt.Sprintf("h%02d", i)
		write(t, path, "metadata: {hostname: "+want+"}")
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
		if got := hostname(t, driver, vm); got != want {
			t.Fatalf("got %v after %s was written", got, want)
		}
	}
	replacement := filepath.Join(directory, "new")
	write(t, replacement, "metadata: {hostname: new}")
	if err := os.Rename(replacement, path); err != nil {
		t.Fatal(err)
	}
	if got := hostname(t, driver, vm); got != "new" {
		t.Errorf("got %v after the file was replaced", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := driver.Find(t.Context(), vm); !errors.Is(err, metadata.ErrNotFound) {
		t.Errorf("got %v after the file was removed", err)
	}
}

func TestUnchangedFileIsTheSameInstance(t *testing.T) {
	directory := t.TempDir()
	path := filepath.Join(directory, "a.yaml")
	write(t, path, "metadata: {}")
	driver := open(t, file.Config{Directory: directory})
	first, err := driver.Find(t.Context(), metadata.VM{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, "metadata: {}") // touched, not changed
	second, err := driver.Find(t.Context(), metadata.VM{Name: "a"})
	if err != nil || first != second {
		t.Errorf("got another instance: %p, %p, %v", first, second, err)
	}
}

// within fails the test if f takes so long that it must be waiting for something.
func within(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("hangs")
	}
}

func TestWhatIsNoFileIsInvalid(t *testing.T) {
	directory := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(directory, "fifo.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(directory, "directory.yaml"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"device": "/dev/zero", "outside": "/etc/hostname", "parent": "../../etc/hostname", "circle": "circle.yaml",
		"absolute": filepath.Join(directory, "file.yaml"),
	} {
		if err := os.Symlink(target, filepath.Join(directory, name+".yaml")); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(directory, "file.yaml"), "{}")
	write(t, filepath.Join(directory, "huge.yaml"), "userdata: "+strings.Repeat("a", vmfile.MaxSize))
	write(t, filepath.Join(directory, "sparse.yaml"), "{}")
	if err := os.Truncate(filepath.Join(directory, "sparse.yaml"), 1<<40); err != nil { // more than there is memory
		t.Fatal(err)
	}
	t.Chdir(directory) // a socket's path may be no longer than a hundred bytes
	socket, err := net.Listen("unix", "socket.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if err := os.Symlink("file.yaml/nothing", filepath.Join(directory, "through.yaml")); err != nil {
		t.Fatal(err)
	}
	driver := open(t, file.Config{Directory: directory})
	for name, want := range map[string]string{
		"socket": "is not a regular file", "through": "is a link through something that is no directory",
		"fifo": "is not a regular file", "directory": "is not a regular file", "huge": "is larger than 4 MiB", "sparse": "is larger than 4 MiB",
		"device": "leads out of the directory", "outside": "leads out of the directory", "parent": "leads out of the directory", "circle": "in a circle",
		"absolute": "absolute one: use a relative one",
	} {
		within(t, func() {
			_, err := driver.Find(t.Context(), metadata.VM{Name: name})
			if !errors.Is(err, metadata.ErrInvalid) || !strings.Contains(err.Error(), name+".yaml: ") || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want ErrInvalid and %q", name, err, want)
			}
		})
	}
}

func TestFileWithoutPermission(t *testing.T) {
	if os.Geteuid() == 0 { // who may read every file
		asNobody(t)
		return
	}
	directory := t.TempDir()
	path := filepath.Join(directory, "a.yaml")
	write(t, path, "metadata: {}")
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	driver := open(t, file.Config{Directory: directory})
	_, err := driver.Find(t.Context(), metadata.VM{Name: "a"})
	if !errors.Is(err, metadata.ErrInvalid) || !strings.Contains(err.Error(), "permission denied; the server runs as user ") {
		t.Errorf("got %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := driver.Find(t.Context(), metadata.VM{Name: "a"}); err != nil {
		t.Errorf("after the permission was given: %v", err)
	}
}

// TestDirectoryWithoutPermission has one that can't be opened, and one that can be listed, and not searched: chmod -R 644
// leaves such.
func TestDirectoryWithoutPermission(t *testing.T) {
	if os.Geteuid() == 0 {
		asNobody(t)
		return
	}
	directory := t.TempDir()
	write(t, filepath.Join(directory, "a.yaml"), "metadata: {}")
	driver := open(t, file.Config{Directory: directory})
	for _, mode := range []os.FileMode{0, 0o644} {
		if err := os.Chmod(directory, mode); err != nil {
			t.Fatal(err)
		}
		for _, vm := range []metadata.VM{{Name: "a"}, {Name: "stranger"}} {
			_, err := driver.Find(t.Context(), vm)
			if err == nil || errors.Is(err, metadata.ErrInvalid) || errors.Is(err, metadata.ErrNotFound) ||
				!strings.Contains(err.Error(), "directory "+directory+" can't be read: permission denied; the server runs as user ") {
				t.Errorf("%v, mode %v: %v; want an error that says try again, and names the directory", vm, mode, err)
			}
		}
	}
	if err := os.Chmod(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := driver.Find(t.Context(), metadata.VM{Name: "a"}); err != nil {
		t.Errorf("after the permission was given: %v", err)
	}
}

func TestDirectoryGoesAndComesBack(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "vms")
	if err := os.Mkdir(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(directory, "a.yaml"), "metadata: {hostname: old}")
	driver, vm := open(t, file.Config{Directory: directory}), metadata.VM{Name: "a"}
	if got := hostname(t, driver, vm); got != "old" {
		t.Fatalf("got %v", got)
	}
	if err := os.Rename(directory, directory+".away"); err != nil {
		t.Fatal(err)
	}
	_, err := driver.Find(t.Context(), vm)
	if err == nil || errors.Is(err, metadata.ErrNotFound) || errors.Is(err, metadata.ErrInvalid) {
		t.Errorf("without the directory: %v; want an error that says try again", err)
	}
	if err := os.Mkdir(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(directory, "a.yaml"), "metadata: {hostname: new}")
	if got := hostname(t, driver, vm); got != "new" {
		t.Errorf("in the new directory: got %v", got)
	}
}

// TestLinkedDirectory lays files out as Kubernetes does with a ConfigMap, and replaces them all by one rename.
func TestLinkedDirectory(t *testing.T) {
	directory := t.TempDir()
	link := func(target, name string) {
		t.Helper()
		temporary := filepath.Join(directory, "..tmp")
		if err := os.Symlink(target, temporary); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(temporary, filepath.Join(directory, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, version := range []string{"..1", "..2"} {
		if err := os.Mkdir(filepath.Join(directory, version), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(directory, version, "a.yaml"), "metadata: {hostname: v"+version[2:]+"}")
	}
	link("..1", "..data")
	link("..data/a.yaml", "a.yaml")
	driver, vm := open(t, file.Config{Directory: directory}), metadata.VM{Name: "a"}
	if got := hostname(t, driver, vm); got != "v1" {
		t.Errorf("got %v", got)
	}
	link("..2", "..data")
	if got := hostname(t, driver, vm); got != "v2" {
		t.Errorf("after the swap: got %v", got)
	}
}

func TestAll(t *testing.T) {
	directory := t.TempDir()
	for name, text := range map[string]string{
		"b.yaml": "metadata: {hostname: b}", testUUID + ".yml": "metadata: {}", "c.yaml": "metdata: {}", "d.yaml": "{}", "d.yml": "{}",
		"defaults.yaml": "metadata: {}", ".hidden.yaml": "{}", "README.md": "# here", "e.yaml~": "{}",
	} {
		write(t, filepath.Join(directory, name), text)
	}
	if err := os.Mkdir(filepath.Join(directory, "roles.yaml"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere.yaml", filepath.Join(directory, "f.yaml")); err != nil {
		t.Fatal(err)
	}
	driver := open(t, file.Config{Directory: directory})
	var got []string
	for entry, err := range driver.All(t.Context()) {
		line := entry.Key + " " + entry.VM.String()
		if err != nil {
			line += " " + strings.ReplaceAll(err.Error(), directory+"/", "")
		}
		got = append(got, line)
	}
	want := []string{
		testUUID + ".yml " + testUUID,
		`b.yaml "b"`,
		`c.yaml "c" c.yaml:1:1: metdata: is not a key of this format: did you mean metadata?`,
		`d.yaml "d"`,
		`d.yml "d" d.yml: is never read: "d.yaml" goes before it; remove one of them`,
		`f.yaml "f" f.yaml: is a link to a file that is not there`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n, err := driver.Count(t.Context()); n != len(want) || err != nil {
		t.Errorf("Count: %d, %v; All yields %d", n, err, len(want))
	}
	for range driver.All(t.Context()) {
		break // a caller may stop
	}
	for entry, err := range driver.All(t.Context()) { // a file that goes meanwhile is none
		if entry.Key == "b.yaml" {
			for _, name := range []string{"d.yaml", "d.yml"} {
				if err := os.Remove(filepath.Join(directory, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if entry.Key == "d.yaml" {
			t.Errorf("a file that was removed: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for entry, err := range driver.All(ctx) {
		if entry.Key != "" || !errors.Is(err, context.Canceled) {
			t.Errorf("with an ended context: %v, %v", entry, err)
		}
	}
}

// Files that somebody wrote for a VM, or for all, and nobody gets are told.
func TestAllTellsOfFilesThatAreNeverRead(t *testing.T) {
	directory := t.TempDir()
	digits := strings.ReplaceAll(testUUID, "-", "")
	vmx := digits[:2] + " " + digits[2:16] + "-" + digits[16:]
	upper := strings.ToUpper(testUUID)
	for _, name := range []string{testUUID + ".yml", upper + ".yaml", digits + ".yaml", vmx + ".yaml", strings.ToUpper(testUUID[:8]) + testUUID[8:] + ".yml", "defaults.yaml", "defaults.yml", "Defaults.yaml"} {
		write(t, filepath.Join(directory, name), "{}")
	}
	driver := open(t, file.Config{Directory: directory})
	got, n := map[string]string{}, 0
	for entry, err := range driver.All(t.Context()) {
		got[entry.Key] = strings.TrimPrefix(fmt.Sprint(err), filepath.Join(directory, entry.Key)+": is never read: ")
		n++
	}
	other := `the file of the VM with this UUID is named "` + testUUID + `.yaml"`
	want := map[string]string{
		testUUID + ".yml": "<nil>",
		upper + ".yaml":   `"` + testUUID + `.yml" goes before it; remove one of them`,
		digits + ".yaml":  other,
		vmx + ".yaml":     other,
		strings.ToUpper(testUUID[:8]) + testUUID[8:] + ".yml": other,
		"defaults.yml":  `"defaults.yaml" goes before it; remove one of them`,
		"Defaults.yaml": `the file for all VMs is named "defaults.yaml"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if counted, err := driver.Count(t.Context()); counted != n || err != nil {
		t.Errorf("Count: %d, %v; All yields %d", counted, err, n)
	}
}

func TestClosedDriver(t *testing.T) {
	driver, err := file.New(file.Config{Directory: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := driver.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := driver.Find(t.Context(), metadata.VM{Name: "a"}); err == nil || errors.Is(err, metadata.ErrNotFound) {
		t.Errorf("Find: %v", err)
	}
	told := 0
	for _, err := range driver.All(t.Context()) {
		if told++; err == nil {
			t.Error("All gives entries")
		}
	}
	if told != 1 {
		t.Errorf("All gives %d errors: no entries alone look like an empty directory", told)
	}
}

func TestAllEndsWithItsContext(t *testing.T) {
	directory := t.TempDir()
	for _, name := range []string{"a.yaml", "b.yaml"} {
		write(t, filepath.Join(directory, name), "{}")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []error
	for _, err := range open(t, file.Config{Directory: directory}).All(ctx) {
		got = append(got, err)
		cancel()
	}
	if len(got) != 2 || got[0] != nil || !errors.Is(got[1], context.Canceled) {
		t.Errorf("got %v, want one entry, and why there are no more", got)
	}
}

func TestNewNeedsTheDirectory(t *testing.T) {
	if _, err := file.New(file.Config{Directory: filepath.Join(t.TempDir(), "missing")}); err == nil || !strings.Contains(err.Error(), "there is no directory /") {
		t.Errorf("got %v", err)
	}
	path := filepath.Join(t.TempDir(), "a")
	write(t, path, "")
	if _, err := file.New(file.Config{Directory: path}); err == nil {
		t.Error("a file is taken for a directory")
	}
}

func TestParseConfig(t *testing.T) {
	for _, tc := range []struct{ options, want string }{
		{`{"directory": "/some/directory/here"}`, ""},
		{`{"directory": "/a", "cache-bytes": 1000000}`, ""},
		{`{"directoryy": "/a"}`, `file: option directoryy: there is no such option: did you mean directory?`},
		{`{"directory": "/a", "watch": true}`, `file: option watch: there is no such option: known are directory, cache-bytes, templates, defaults-for-all`},
		{`{"directory": 1}`, `file: option directory: must be text, not number`},
		{`{}`, `file: option directory: is missing: the directory with the VMs' files`},
		{`[]`, `file: the options must be a JSON object, such as {"directory": "/srv/metadata"}`},
		{`null`, `file: the options must be a JSON object, such as {"directory": "/srv/metadata"}`},
		{`{"directory": "/a", "cache-bytes": -2}`, `file: option cache-bytes: must be a number of bytes, 0 for the default, or -1 for no cache`},
	} {
		_, err := file.ParseConfig(json.RawMessage(tc.options))
		if got := fmt.Sprint(err); got != tc.want && (tc.want != "" || err != nil) {
			t.Errorf("%s: got %q, want %q", tc.options, got, tc.want)
		}
	}
}

// TestManual checks the limits and defaults that the manual states.
func TestManual(t *testing.T) {
	manual, err := os.ReadFile("../../docs/drivers/file.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{fmt.Sprintf("%d (256 MiB)", file.DefaultCacheBytes), fmt.Sprintf("at most %d MiB", vmfile.MaxSize>>20)} {
		if !strings.Contains(string(manual), want) {
			t.Errorf("the manual does not say %q", want)
		}
	}
	_, options, found := strings.Cut(string(manual), "--driver-opts '")
	options, _, closed := strings.Cut(options, "'")
	if !found || !closed {
		t.Fatal("the manual has no example")
	}
	config, err := file.ParseConfig(json.RawMessage(options))
	if err != nil {
		t.Fatal(err)
	}
	config.Directory = "../../" + config.Directory
	if got := hostname(t, open(t, config), metadata.VM{Name: "web1"}); got != "myhostnamehere" {
		t.Errorf("got the file of %v", got)
	}
}
