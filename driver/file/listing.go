package file

import (
	"os"
	"sync"
	"time"
)

const (
	// listAfter is how many look-ups a directory has to stay as it is for, before it is listed.
	listAfter = 4
	// lookUpsPerName is how much cheaper it is to list a name than to look for a VM's files by all names that they
	// may have. A directory that changes all the time, and a large one, is listed no more often than that pays for.
	lookUpsPerName = 64
)

// listing is the directory's file names. Most names that a VM's file may have are not there, and each would be a system
// call.
type listing struct {
	mu    sync.Mutex
	of    stamp // the directory's, when it was listed
	names map[string]struct{}

	// What was seen of the directory since it was last listed.
	stamp   stamp
	lookUps int
}

// filter returns those of names that are in the directory, whose stamp is now, and true; or names and false, if it can't
// tell without looking for each.
func (l *listing) filter(root *os.Root, path string, directory stamp, names []string, now time.Time) ([]string, bool) {
	if !directory.isSettled(now) {
		return names, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of != directory && !l.list(root, path, directory) {
		return names, false
	}
	var there []string
	for _, name := range names {
		if _, ok := l.names[name]; ok {
			there = append(there, name)
		}
	}
	return there, true
}

// forget drops what is listed.
func (l *listing) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of, l.names = stamp{}, nil
}

// isOf reports whether the directory with a stamp is listed, and so on a file system of this machine's own.
func (l *listing) isOf(directory stamp) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of == directory && directory.valid()
}

// list lists the directory, if that pays and it is on a file system with one name for each file. l.mu is held.
func (l *listing) list(root *os.Root, path string, directory stamp) bool {
	if l.stamp != directory {
		l.stamp, l.lookUps = directory, 0
	}
	if l.lookUps++; l.lookUps < max(listAfter, len(l.names)/lookUpsPerName) {
		return false
	}
	l.lookUps = 0
	if !directory.isLocal(path) {
		return false
	}
	f, err := root.Open(".")
	if err != nil {
		return false
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return false
	}
	// The directory that root has open need not be the one that the stamp was taken of.
	if info, err := f.Stat(); err != nil || stampOf(info) != directory {
		return false
	}
	l.of, l.names = directory, make(map[string]struct{}, len(names))
	for _, name := range names {
		l.names[name] = struct{}{}
	}
	return true
}
