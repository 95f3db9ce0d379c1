package file

import (
	"io/fs"
	"syscall"
	"time"
)

// stamp is the part of a stat that tells a file from another, and from itself before a change.
type stamp struct {
	device, inode  uint64
	size           int64
	mode           uint32
	changed, wrote syscall.Timespec
}

func stampOfStat(stat *syscall.Stat_t) stamp {
	//nolint:unconvert // the types differ by architecture
	return stamp{uint64(stat.Dev), stat.Ino, stat.Size, stat.Mode, stat.Ctim, stat.Mtim}
}

// stampOf returns info's.
func stampOf(info fs.FileInfo) stamp {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stampOfStat(stat)
	}
	return stamp{}
}

// stampAt returns the stamp of what path leads to.
func stampAt(path string) (stamp, bool) {
	var stat syscall.Stat_t
	if err := syscall.Stat(path, &stat); err != nil {
		return stamp{}, false
	}
	return stampOfStat(&stat), true
}

func (s stamp) valid() bool { return s.inode != 0 }

// latest is when the file last changed. Unlike the modification time nobody can set the time of the last change.
func (s stamp) latest() time.Time {
	changed, wrote := time.Unix(s.changed.Unix()), time.Unix(s.wrote.Unix())
	if wrote.After(changed) {
		return wrote
	}
	return changed
}

func (s stamp) sameFileSystem(other stamp) bool { return s.device == other.device }

// isLocal reports whether directory, whose stamp is s, is on a file system of this machine's own, by the numbers of
// linux/magic.h. One that is not named here may have to ask another machine, or a program.
func (s stamp) isLocal(directory string) bool {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(directory, &stat); err != nil {
		return false
	}
	switch uint32(stat.Type) {
	case 0xef53, // ext2, ext3, ext4
		0x58465342, // XFS
		0x9123683e, // Btrfs
		0xf2f52010, // F2FS
		0x01021994, // tmpfs
		0x858458f6: // ramfs
		return true
	}
	return false
}

// changeTime returns when the file's content or attributes last changed. Unlike the modification time nobody can set it.
func changeTime(info fs.FileInfo) time.Time {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(stat.Ctim.Unix())
	}
	return info.ModTime()
}
