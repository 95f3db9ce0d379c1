package tty

import (
	"path/filepath"
	"slices"
	"strings"
)

// Find lists the system's UARTs. root is "/".
func Find(root string) ([]Candidate, error) {
	paths, err := filepath.Glob(filepath.Join(root, "dev/cuau*"))
	if err != nil {
		return nil, err
	}
	var found []Candidate
	for _, path := range slices.Sorted(slices.Values(paths)) {
		if !strings.Contains(filepath.Base(path), ".") { // .init and .lock are settings
			found = append(found, Candidate{Path: path})
		}
	}
	return found, nil
}

// Holders can't be told on this system.
func Holders(string, string) []Holder { return nil }
