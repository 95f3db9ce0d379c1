package inventory_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"vmw-cloudinit-metadata/bench/inventory"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/vmfile"
)

func TestVMsAreDistinctAndAlike(t *testing.T) {
	names, addresses, uuids := make(map[string]bool), make(map[string]bool), make(map[string]bool)
	size := len(inventory.File(0, nil))
	for i := range 40_000 {
		identity := inventory.Identity(i)
		for _, uuid := range []string{identity.VCUUID, identity.BIOSUUID, identity.LocationUUID} {
			if canonical, ok := metadata.ParseUUID(uuid); !ok || canonical != uuid || uuids[uuid] {
				t.Fatalf("VM %d has the UUID %q, of bad form or another VM's", i, uuid)
			}
			uuids[uuid] = true
		}
		if names[identity.Name] || addresses[inventory.Address(i)] {
			t.Fatalf("VM %d has the name or address of another: %q, %s", i, identity.Name, inventory.Address(i))
		}
		names[identity.Name], addresses[inventory.Address(i)] = true, true
		if got := len(inventory.File(i, nil)); got != size {
			t.Fatalf("VM %d's file is %d bytes, VM 0's %d", i, got, size)
		}
	}
}

func TestFilesHoldWhatTheVMGets(t *testing.T) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		userData := inventory.UserData(size)
		if len(userData) != size {
			t.Fatalf("%d bytes of user-data, want %d", len(userData), size)
		}
		instance, err := vmfile.Parse("vm.yaml", inventory.File(3, userData))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(instance.UserData, userData) {
			t.Errorf("%d bytes of user-data are read from the file, %d were written", len(instance.UserData), size)
		}
		if got := instance.MetaData["hostname"]; got != inventory.Name(3) {
			t.Errorf("hostname %v, want %v", got, inventory.Name(3))
		}
	}
}

func TestWriteWritesOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "files")
	if err := inventory.Write(dir, 3, 100); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, inventory.Name(2)+".yaml")
	if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, inventory.File(2, inventory.UserData(100))) {
		t.Fatalf("%s holds %q, %v", name, got, err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := inventory.Write(dir, 3, 100); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(name); err == nil {
		t.Error("a directory that was whole is written again")
	}
	if err := inventory.Write(dir, 4, 100); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(name); err != nil {
		t.Errorf("a directory for more VMs lacks one: %v", err)
	}
}
