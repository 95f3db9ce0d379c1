package file_test

import (
	"os"
	"path/filepath"
	"testing"

	"vmw-cloudinit-metadata/driver/file"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/metadata/metadatatest"
)

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, config file.Config) *file.Driver {
	t.Helper()
	driver, err := file.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := driver.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return driver
}

func TestContract(t *testing.T) {
	metadatatest.Run(t, metadatatest.Suite{New: func(t *testing.T, records []metadatatest.Record) metadata.Driver {
		directory := t.TempDir()
		for _, record := range records {
			base := record.UUID
			if base == "" {
				base = record.Name
			}
			write(t, filepath.Join(directory, base+".yaml"), record.Document)
		}
		return open(t, file.Config{Directory: directory})
	}})
}
