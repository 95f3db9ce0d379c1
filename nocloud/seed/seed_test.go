package seed

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"syscall"
	"testing"
)

func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[entry.Name()] = string(data)
	}
	return files
}

func write(t *testing.T, dir string, files map[string]string) bool {
	t.Helper()
	raw := map[string][]byte{}
	for name, text := range files {
		raw[name] = []byte(text)
	}
	changed, err := Write(dir, raw)
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, dir); !reflect.DeepEqual(got, files) {
		t.Fatalf("the seed has %v, want %v", got, files)
	}
	if entries, _ := os.ReadDir(filepath.Dir(dir)); len(entries) != 1 {
		t.Fatalf("leftovers beside the seed: %v", entries)
	}
	return changed
}

func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cloud", "seed", "nocloud")
	first := map[string]string{MetaData: `{"instance-id":"i-1"}`, UserData: "", NetworkConfig: "version: 1\n"}
	for _, step := range []struct {
		name    string
		files   map[string]string
		before  func()
		changed bool
	}{
		{"new", first, nil, true},
		{"the same", first, nil, false},
		{"one document gone, another one came", map[string]string{MetaData: "{}", UserData: "#!/bin/sh\n", VendorData: "v"}, nil, true},
		{"as long, and different", map[string]string{MetaData: "{}", UserData: "#!/bin/ash"[:10], VendorData: "w"}, nil, true},
		{"one document came", map[string]string{MetaData: "{}", UserData: "#!/bin/ash", VendorData: "w", NetworkConfig: ""}, nil, true},
		{"one document is gone", map[string]string{MetaData: "{}", UserData: "#!/bin/ash", NetworkConfig: ""}, nil, true},
		{"a stranger's file", first, nil, true},
		{"a stranger's file is removed", first, func() { os.WriteFile(filepath.Join(dir, "note"), nil, 0o600) }, true},
		{"a file that others can read", first, func() { os.Chmod(filepath.Join(dir, MetaData), 0o644) }, true},
		{"a folder that others can read", first, func() { os.Chmod(dir, 0o755) }, true},
		{"leftovers of a crash", first, func() { os.Mkdir(filepath.Join(filepath.Dir(dir), ".nocloud.new-123"), 0o700) }, false},
	} {
		if step.before != nil {
			step.before()
		}
		if changed := write(t, dir, step.files); changed != step.changed {
			t.Errorf("%s: changed is %v", step.name, changed)
		}
		for name := range step.files {
			if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %s: %v, %v", step.name, name, info.Mode(), err)
			}
		}
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: the folder: %v, %v", step.name, info.Mode(), err)
		}
	}
}

func TestUnchangedSeedIsNotWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nocloud")
	files := map[string]string{MetaData: "{}", UserData: "u"}
	write(t, dir, files)
	before, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, files)
	if after, err := os.Stat(dir); err != nil || !os.SameFile(before, after) {
		t.Errorf("it is another folder now, %v", err)
	}
}

// Who owns the folder, or a file in it, can put other data there, and have it run as root.
func TestASeedOfAnotherUserIsReplaced(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	files := map[string]string{MetaData: "{}", UserData: "u"}
	for _, path := range []string{".", UserData} {
		dir := filepath.Join(t.TempDir(), "nocloud")
		write(t, dir, files)
		if err := os.Chown(filepath.Join(dir, path), 12345, 12345); err != nil {
			t.Fatal(err)
		}
		if !write(t, dir, files) {
			t.Errorf("%s of another user: the seed was left as it was", path)
		}
		if write(t, dir, files) {
			t.Errorf("%s: the seed was written again", path)
		}
	}
}

func TestSymlinkIsReplaced(t *testing.T) {
	elsewhere, dir := t.TempDir(), filepath.Join(t.TempDir(), "nocloud")
	if err := os.Symlink(elsewhere, dir); err != nil {
		t.Fatal(err)
	}
	write(t, dir, map[string]string{MetaData: "{}", UserData: ""})
	if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) != 0 {
		t.Errorf("written through the link: %v, %v", entries, err)
	}
}

func TestRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nocloud")
	for name, files := range map[string]map[string][]byte{
		"nothing":         {},
		"no user-data":    {MetaData: nil},
		"no meta-data":    {UserData: nil},
		"a path":          {MetaData: nil, UserData: nil, "../passwd": nil},
		"an unknown file": {MetaData: nil, UserData: nil, "readme": nil},
	} {
		if _, err := Write(dir, files); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: something was written", name)
		}
	}
}

// Whoever looks while seeds are exchanged finds one of them, whole.
func TestThereIsAlwaysASeed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nocloud")
	seeds := []map[string][]byte{
		{MetaData: []byte("a"), UserData: []byte("a")},
		{MetaData: []byte("b"), UserData: []byte("b"), VendorData: []byte("b")},
	}
	if _, err := Write(dir, seeds[0]); err != nil {
		t.Fatal(err)
	}
	if err := exchange(dir, dir); errors.Is(err, errNoExchange) {
		t.Skip("the file system of the temporary folder can't exchange folders")
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if _, err := os.Stat(filepath.Join(dir, MetaData)); err != nil {
				t.Errorf("for a moment there was no seed: %v", err)
				return
			}
		}
	})
	for i := range 200 {
		if _, err := Write(dir, seeds[(i+1)%2]); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	wg.Wait()
}

// Without the exchange there are two steps; a crash after the first is mended by the next run.
func TestTwoSteps(t *testing.T) {
	noExchange := func(string, string) error { return errNoExchange }
	dir := filepath.Join(t.TempDir(), "nocloud")
	old, fresh := map[string]string{MetaData: "old", UserData: ""}, filepath.Join(filepath.Dir(dir), ".nocloud.new-1")
	write(t, dir, old)
	prepare := func() {
		if err := os.Mkdir(fresh, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := fill(fresh, map[string][]byte{MetaData: []byte("new"), UserData: nil}); err != nil {
			t.Fatal(err)
		}
	}
	prepare()
	if err := os.Rename(dir, retired(dir)); err != nil { // and the power goes
		t.Fatal(err)
	}
	if err := Recover(dir); err != nil {
		t.Fatal(err)
	}
	if got := read(t, dir); !reflect.DeepEqual(got, old) {
		t.Errorf("after the crash the seed has %v", got)
	}
	prepare()
	if err := replace(dir, fresh, noExchange, os.Rename); err != nil {
		t.Fatal(err)
	}
	if got := read(t, dir)[MetaData]; got != "new" {
		t.Errorf("the seed has %q", got)
	}
	if entries, _ := os.ReadDir(filepath.Dir(dir)); len(entries) != 1 {
		t.Errorf("leftovers beside the seed: %v", entries)
	}
	if err := os.Mkdir(retired(dir), 0o700); err != nil { // as if the power had gone before it was removed
		t.Fatal(err)
	}
	if err := fill(retired(dir), map[string][]byte{MetaData: []byte("old"), UserData: nil}); err != nil {
		t.Fatal(err)
	}
	if err := Recover(dir); err != nil {
		t.Fatal(err)
	}
	if got := read(t, dir)[MetaData]; got != "new" {
		t.Errorf("after a crash behind both steps the seed has %q", got)
	}
	if entries, _ := os.ReadDir(filepath.Dir(dir)); len(entries) != 1 {
		t.Errorf("leftovers beside the seed: %v", entries)
	}
	prepare()
	broken := errors.New("broken")
	if err := replace(dir, fresh, func(string, string) error { return broken }, os.Rename); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	second := func(from, to string) error {
		if from == fresh {
			return broken
		}
		return os.Rename(from, to)
	}
	if err := replace(dir, fresh, noExchange, second); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if got := read(t, dir)[MetaData]; got != "new" {
		t.Errorf("after a step that failed the seed has %q", got)
	}
}

// overlay is an overlay file system as far as folders of the disk below can't be renamed, and allows so many steps before
// the power goes.
type overlay struct {
	below string
	steps int
}

var errPowerGone = errors.New("the power is gone")

func (o *overlay) rename(from, to string) error {
	switch {
	case from == o.below:
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: syscall.EXDEV}
	case o.steps == 0:
		return errPowerGone
	}
	o.steps--
	if to == o.below {
		o.below = "" // it is the disk above's now
	}
	return os.Rename(from, to)
}

func TestAFolderThatCannotBeRenamed(t *testing.T) {
	for steps, want := range []string{"old", "new", "new"} {
		dir := filepath.Join(t.TempDir(), "nocloud")
		write(t, dir, map[string]string{MetaData: "old", UserData: "", VendorData: "old"})
		fresh := filepath.Join(filepath.Dir(dir), ".nocloud.new-1")
		if err := os.Mkdir(fresh, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := fill(fresh, map[string][]byte{MetaData: []byte("new"), UserData: nil}); err != nil {
			t.Fatal(err)
		}
		disk := &overlay{below: dir, steps: steps}
		err := replace(dir, fresh, func(string, string) error { return errNoExchange }, disk.rename)
		if done := steps == 2; done != (err == nil) || !done && !errors.Is(err, errPowerGone) {
			t.Errorf("after %d steps: %v", steps, err)
		}
		if err := Recover(dir); err != nil {
			t.Error(err)
		}
		if got := read(t, dir); got[MetaData] != want || (got[VendorData] == "old") != (want == "old") {
			t.Errorf("after %d steps the seed has %v", steps, got)
		}
		if entries, _ := os.ReadDir(filepath.Dir(dir)); len(entries) != 1 {
			t.Errorf("after %d steps there are leftovers beside the seed: %v", steps, entries)
		}
	}
}

// Write may be used beside files of somebody's who edits them.
func TestOthersFilesStay(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "web1")
	for _, name := range []string{".web1.new-123", ".web1.new.17", ".web1.old"} {
		if err := os.Mkdir(filepath.Join(parent, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	others := []string{".web1.new-idea", ".web1.newer", ".web1.old.yaml", ".web1.yaml.swp"}
	for _, name := range others[:2] {
		if err := os.Mkdir(filepath.Join(parent, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range append(others[2:], ".web1.new-4") {
		if err := os.WriteFile(filepath.Join(parent, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Write(dir, map[string][]byte{MetaData: nil, UserData: nil}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(parent)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if want := append([]string{".web1.new-4"}, append(others, "web1")...); !reflect.DeepEqual(names, want) {
		t.Errorf("there are %v, want %v", names, want)
	}
}

// A crash may come while the old seed is being removed.
func TestHalfOfASeedIsReplaced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nocloud")
	want := map[string]string{MetaData: "new", UserData: ""}
	write(t, dir, want)
	if err := os.Rename(dir, retired(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, MetaData), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if write(t, dir, want) {
		t.Error("the new seed was written again")
	}
}

func TestComplete(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nocloud")
	if Complete(dir) {
		t.Error("a folder that is not there is complete")
	}
	write(t, dir, map[string]string{MetaData: "", UserData: ""})
	if !Complete(dir) {
		t.Error("meta-data and user-data are not complete")
	}
	if err := os.Remove(filepath.Join(dir, UserData)); err != nil {
		t.Fatal(err)
	}
	if Complete(dir) {
		t.Error("meta-data alone is complete")
	}
}

func TestInstanceID(t *testing.T) {
	for in, want := range map[string]string{
		`{"hostname":"h","instance-id":"i-1"}`:                   "i-1",
		`{"instance-id":17}`:                                     "17",
		`{"hostname":"h"}`:                                       "",
		"local-hostname: h\ninstance-id: 'i-2' # made by hand\n": "i-2",
		"instance-id: \"i-3\"":                                   "i-3",
		"nested:\n  instance-id: no\n":                           "",
		"":                                                       "",
	} {
		if got := InstanceID([]byte(in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
