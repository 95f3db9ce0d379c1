package seed

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

func TestAnExchangeThatFailsSaysWhere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nocloud")
	err := exchange(dir, dir+".new")
	if errors.Is(err, errNoExchange) {
		t.Skip("the file system of the temporary folder can't exchange folders")
	}
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v", err)
	}
}
