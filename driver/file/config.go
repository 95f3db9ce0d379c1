package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"vmw-cloudinit-metadata/internal/nearest"
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

// options are the keys that ParseConfig knows.
func options() []string { return []string{"directory", "cache-bytes", "templates", "defaults-for-all"} }

// ParseConfig reads a Config from a JSON object, as a command line has it. Unknown keys are errors.
func ParseConfig(data json.RawMessage) (Config, error) {
	var config Config
	var given map[string]json.RawMessage
	if err := json.Unmarshal(data, &given); err != nil || given == nil {
		return config, errors.New(`file: the options must be a JSON object, as in {"directory": "/etc/my-vms"}`)
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(options(), key) {
			return config, fmt.Errorf("file: unknown option %q%s", key, nearest.Hint(key, options()))
		}
	}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&config); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return config, fmt.Errorf("file: option %q must be a %s, not a %s", wrong.Field, wrong.Type.Kind(), wrong.Value)
		}
		return config, fmt.Errorf("file: options: %w", err)
	}
	return config, config.check()
}

func (c Config) check() error {
	switch {
	case c.Directory == "":
		return errors.New(`file: the option "directory" is missing: the directory with the VMs' files`)
	case strings.ContainsRune(c.Directory, 0):
		return errors.New(`file: the option "directory" is no path`)
	case c.CacheBytes < -1:
		return errors.New(`file: the option "cache-bytes" must be a number of bytes, 0 for the default, or -1 for no cache`)
	}
	return nil
}
