package tty

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Find lists the system's UARTs in the order of their numbers. root is "/", or where a test keeps its /sys.
func Find(root string) ([]Candidate, error) {
	class := filepath.Join(root, "sys/class/tty")
	entries, err := os.ReadDir(class)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	active, err := os.ReadFile(filepath.Join(class, "console/active"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	consoles := strings.Fields(string(active))
	var found []Candidate
	for _, entry := range entries {
		// Only the drivers of UARTs have this file. It holds the kind of chip: 0 is none, a name kept for a port
		// that may come.
		kind, err := os.ReadFile(filepath.Join(class, entry.Name(), "type"))
		if err != nil {
			continue
		}
		c := Candidate{Path: "/dev/" + entry.Name()}
		switch {
		case strings.TrimSpace(string(kind)) == "0":
			c.Skip, c.Phantom = "the name is there, and no hardware behind it", true
		case slices.Contains(consoles, entry.Name()):
			c.Skip = "it is a console of this machine (console=" + entry.Name() + " on the kernel's command line)"
		}
		found = append(found, c)
	}
	slices.SortFunc(found, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(len(a.Path), len(b.Path)), cmp.Compare(a.Path, b.Path))
	})
	return found, nil
}

// Holders lists the processes, other than this one, that have the port open. It sees those whose /proc this process
// may read.
func Holders(root, path string) []Holder {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	processes, err := os.ReadDir(filepath.Join(root, "proc"))
	if err != nil {
		return nil
	}
	var holders []Holder
	for _, process := range processes {
		pid, err := strconv.Atoi(process.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		dir := filepath.Join(root, "proc", process.Name())
		if !holds(filepath.Join(dir, "fd"), path) {
			continue
		}
		name, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil {
			name = []byte("a process")
		}
		holders = append(holders, Holder{PID: pid, Name: strings.TrimSpace(string(name))})
	}
	return holders
}

func holds(fds, path string) bool {
	entries, err := os.ReadDir(fds)
	if err != nil {
		return false
	}
	for _, entry := range entries {
		if target, err := os.Readlink(filepath.Join(fds, entry.Name())); err == nil && target == path {
			return true
		}
	}
	return false
}
