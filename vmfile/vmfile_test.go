package vmfile_test

import (
	"errors"
	"os"
	"testing"

	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/vmfile"
)

func TestParseExample(t *testing.T) {
	data, err := os.ReadFile("../examples/metadata/web1.yaml")
	if err != nil {
		t.Fatal(err)
	}
	inst, err := vmfile.Parse("web1.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	if got := inst.MetaData["hostname"]; got != "myhostnamehere" {
		t.Errorf("hostname is %v", got)
	}
	if got, want := inst.Origin.Locate("network.nameservers.1"), "web1.yaml:21:7"; got != want {
		t.Errorf("second name server is at %s, want %s", got, want)
	}
}

func TestMisspeltKeyNamesTheOneMeant(t *testing.T) {
	_, err := vmfile.Parse("web1.yaml", []byte("metadata: {}\nusrdata: |\n  #!/bin/sh\n"))
	want := "web1.yaml:2:1: usrdata: is not a key of this format: did you mean userdata?"
	if err == nil || err.Error() != want || !errors.Is(err, metadata.ErrInvalid) {
		t.Errorf("got %v, want %s", err, want)
	}
}
