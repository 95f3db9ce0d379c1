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

func TestLocateLine(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"literal", "userdata: |\n  #cloud-config\n  a: b\n", "f:3:6"},
		{"literal, blank lines first", "userdata: |\n\n\n    #cloud-config\n    a: b\n", "f:5:8"},
		{"literal with indentation given", "userdata: |2\n   # first\n  a: b\n", "f:3:6"},
		{"literal, stripped, with a comment", "userdata: |- # text\n  #cloud-config\n  a: b", "f:3:6"},
		{"literal with a tag and an anchor", "userdata: !!str &a |\n  #cloud-config\n  a: b\n", "f:3:6"},
		{"literal behind CR LF", "userdata: |\r\n  #cloud-config\r\n  a: b\r\n", "f:3:6"},
		{"folded", "userdata: >\n  #cloud-config\n  a: b\n", ""},
		{"in quotes", "userdata: \"#cloud-config\\na: b\\n\"\n", ""},
		{"a mapping", "userdata:\n  a: b\n", ""},
	} {
		inst, err := vmfile.Parse("f", []byte(c.file))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := inst.Origin.(metadata.LineOrigin).LocateLine("userdata", 2, 4); got != c.want {
			t.Errorf("%s: line 2, column 4 of the text is at %q, want %q", c.name, got, c.want)
		}
	}
}
