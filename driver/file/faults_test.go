package file_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmw-cloudinit-metadata/driver/file"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/metadata/metadatatest"
)

// A directory can't be made to hang without a kernel's help; the rest of the faults it can have.
func TestFaults(t *testing.T) {
	metadatatest.Faults{
		Have:   []metadatatest.Fault{metadatatest.Dying, metadatatest.Lying, metadatatest.Huge},
		Shared: []metadatatest.Fault{metadatatest.Dying},
		New: func(t *testing.T, fault metadatatest.Fault) metadata.Driver {
			dir := filepath.Join(t.TempDir(), "vms")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			driver := open(t, file.Config{Directory: dir})
			write(t, filepath.Join(dir, metadatatest.Bystander+".yaml"), metadatatest.GoodDocument())
			victim := filepath.Join(dir, metadatatest.Victim+".yaml")
			switch fault {
			case metadatatest.Dying:
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
			case metadatatest.Lying:
				write(t, victim, "\x7fELF"+metadatatest.Planted)
			case metadatatest.Huge:
				write(t, victim, strings.Repeat("# "+metadatatest.Planted+"\n", 1<<20))
			}
			return driver
		},
	}.Run(t)
}
