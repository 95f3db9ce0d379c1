package vspc_test

import (
	"testing"

	"vmw-cloudinit-metadata/vspc"
)

func TestWireUUID(t *testing.T) {
	for in, want := range map[string]string{
		"01234567-89AB-cdef-fedc-ba9800000000": uuidText,
		uuidText:                               uuidText,
		"none":                                 "none",
		"":                                     "",
	} {
		if got := vspc.WireUUID(in); got != want {
			t.Errorf("WireUUID(%q) = %q, want %q", in, got, want)
		}
	}
	if id, ok := vspc.ParseUUID(uuidText); !ok || id != "01234567-89ab-cdef-fedc-ba9800000000" {
		t.Errorf("ParseUUID = %q, %v", id, ok)
	}
}
