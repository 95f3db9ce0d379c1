//go:build unix

package seed

import (
	"io/fs"
	"os"
	"syscall"
)

// owned says whether a file or folder belongs to the user that this process is.
func owned(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return !ok || int(stat.Uid) == os.Geteuid()
}
