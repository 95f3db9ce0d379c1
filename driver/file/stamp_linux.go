package file

import (
	"io/fs"
	"syscall"
	"time"
)

// changeTime returns when the file's content or attributes last changed. Unlike the modification time nobody can set it.
func changeTime(info fs.FileInfo) time.Time {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(stat.Ctim.Unix())
	}
	return info.ModTime()
}
