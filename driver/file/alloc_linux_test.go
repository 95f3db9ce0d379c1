//go:build !race

package file

import (
	"testing"

	"vmw-cloudinit-metadata/metadata"
)

// TestAKnownFileCostsTwoStats checks what a look-up allocates that finds what it found before: two paths for the system.
func TestAKnownFileCostsTwoStats(t *testing.T) {
	directory := t.TempDir()
	put(t, directory, "web.yaml", "metadata: {}")
	driver, vm := settledDriver(t, Config{Directory: directory}), metadata.VM{Name: "web", UUID: "502e71fa-1a2b-4c3d-8e4f-000000000001"}
	if _, err := driver.Find(t.Context(), vm); err != nil {
		t.Fatal(err)
	}
	allocations := testing.AllocsPerRun(100, func() {
		if recalled(driver, vm) == nil {
			t.Fatal("nothing is remembered")
		}
	})
	if allocations > 2 {
		t.Errorf("a look-up costs %v allocations", allocations)
	}
}
