package metadata_test

import (
	"errors"
	"fmt"
	"testing"

	"vmw-cloudinit-metadata/metadata"
)

func TestVMStringKeepsToItsLine(t *testing.T) {
	const id = "421338a5-0a6a-b9b4-b647-3007991cf1d6"
	for _, tc := range []struct {
		vm   metadata.VM
		want string
	}{
		{metadata.VM{Name: "web 1", UUID: id}, `"web 1" (` + id + `)`},
		{metadata.VM{Name: "a\nlevel=ERROR\x1b[2J"}, `"a\nlevel=ERROR\x1b[2J"`},
		{metadata.VM{UUID: id}, id},
		{metadata.VM{BIOSUUID: id}, "BIOS UUID " + id},
		{metadata.VM{UUID: "a\nb"}, `"a\nb"`},
		{metadata.VM{Name: "web1", UUID: "a\x1b[2J"}, `"web1" ("a\x1b[2J")`},
		{metadata.VM{BIOSUUID: "a\x00"}, `BIOS UUID "a\x00"`},
		{metadata.VM{}, "unidentified VM"},
	} {
		if got := tc.vm.String(); got != tc.want {
			t.Errorf("String() = %s, want %s", got, tc.want)
		}
	}
}

func TestDataErrorSaysWhereAndIsInvalid(t *testing.T) {
	err := fmt.Errorf("reading: %w", &metadata.DataError{Origin: "web1.yaml:3:5", Path: "network.mtu", Problem: "must be a number"})
	if !errors.Is(err, metadata.ErrInvalid) || errors.Is(err, metadata.ErrNotFound) {
		t.Errorf("%v: is not (only) ErrInvalid", err)
	}
	if want := "reading: web1.yaml:3:5: network.mtu: must be a number"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestDataErrorKeepsToItsLine(t *testing.T) {
	err := &metadata.DataError{Path: "metadata.a\nlevel=ERROR\x1b[2J", Problem: "is wrong"}
	if got, want := err.Error(), `"metadata.a\nlevel=ERROR\x1b[2J": is wrong`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
