//go:build !linux

package file

import (
	"io/fs"
	"time"
)

// changeTime returns the modification time, for want of a better one.
func changeTime(info fs.FileInfo) time.Time { return info.ModTime() }
