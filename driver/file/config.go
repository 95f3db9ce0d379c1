package file

import (
	"encoding/json"
	"fmt"
	"strings"

	"vmw-cloudinit-metadata/internal/options"
)

// DefaultCacheBytes is enough for some fifty thousand files of the usual kilobyte.
const DefaultCacheBytes = 256 << 20

// Config says where the files are. Only Directory is required.
type Config struct {
	// Directory holds a file for each VM. Links in it are followed as long as they are relative and stay in it.
	Directory string `json:"directory"`
	// CacheBytes bounds the memory for files that have been read, roughly. 0 means DefaultCacheBytes; -1 means that
	// no file is kept.
	CacheBytes int64 `json:"cache-bytes,omitempty"`
	// Templates fills in {{ .VM.Name }} and the like, as package metadata/template has it.
	Templates bool `json:"templates,omitempty"`
	// DefaultsForAll gives VMs that have no file what is in defaults.yaml. Without it they are not found.
	DefaultsForAll bool `json:"defaults-for-all,omitempty"`
}

// ParseConfig reads a Config from a JSON object, as a command line has it. Unknown keys are errors.
func ParseConfig(data json.RawMessage) (Config, error) {
	var config Config
	if err := options.Decode(data, &config); err != nil {
		return config, fmt.Errorf("file: %w", err)
	}
	return config, config.check()
}

func (c Config) check() error {
	var wrong options.Error
	switch {
	case c.Directory == "":
		wrong = options.Error{Key: "directory", Problem: "is missing: the directory with the VMs' files"}
	case strings.ContainsRune(c.Directory, 0):
		wrong = options.Error{Key: "directory", Problem: "is no path"}
	case c.CacheBytes < -1:
		wrong = options.Error{Key: "cache-bytes", Problem: "must be a number of bytes, 0 for the default, or -1 for no cache"}
	default:
		return nil
	}
	return fmt.Errorf("file: %w", &wrong)
}
