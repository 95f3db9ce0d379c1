//go:build !linux

package file

import (
	"io/fs"
	"time"
)

// stamp is empty: what a stat tells of a change differs too much between systems.
type stamp struct{}

func stampOf(fs.FileInfo) stamp         { return stamp{} }
func stampAt(string) (stamp, bool)      { return stamp{}, false }
func (stamp) valid() bool               { return false }
func (stamp) latest() time.Time         { return time.Time{} }
func (stamp) sameFileSystem(stamp) bool { return false }
func (stamp) isLocal(string) bool       { return false }

// changeTime returns the modification time, for want of a better one.
func changeTime(info fs.FileInfo) time.Time { return info.ModTime() }
