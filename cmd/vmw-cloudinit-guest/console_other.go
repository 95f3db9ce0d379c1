//go:build !unix

package main

import "os"

// tell writes a line to a console, if that is there.
func tell(path, line string) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = f.WriteString(line + "\r\n")
}
