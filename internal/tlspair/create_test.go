package tlspair

import (
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// A file that can't be written, as on a full disk, is not left there: it would be in the way of the next try.
func TestCreateLeavesNoPart(t *testing.T) {
	name := filepath.Join(t.TempDir(), "server.key")
	unwritable := &pem.Block{Type: "PRIVATE KEY", Headers: map[string]string{"no:colon": "may be in a key"}}
	if err := create(name, 0o600, unwritable); err == nil {
		t.Error("no error")
	}
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is there: %v", err)
	}
}
