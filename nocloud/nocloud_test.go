package nocloud_test

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/nocloud"
	"vmw-cloudinit-metadata/vmfile"
)

const testUUID = "421338a5-0a6a-b9b4-b647-3007991cf1d6"

func parse(t testing.TB, name, text string) *metadata.Instance {
	t.Helper()
	inst, err := vmfile.Parse(name, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return inst
}

func TestRenderExample(t *testing.T) {
	data, err := os.ReadFile("../examples/metadata/web1.yaml")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := nocloud.Render(metadata.VM{Name: "web1"}, parse(t, "web1.yaml", string(data)), nocloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var meta map[string]any
	if err := json.Unmarshal(docs.MetaData, &meta); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for key := range meta {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	if got, want := strings.Join(keys, " "), "ami-id availability-zone hostname instance-id local-hostname public-keys region tags"; got != want {
		t.Errorf("keys are %s, want %s", got, want)
	}
	if meta["local-hostname"] != "myhostnamehere" || meta["instance-id"] != "my-instance" {
		t.Errorf("meta-data is %s", docs.MetaData)
	}
	const wantNetwork = `version: 1
config:
- type: physical
  name: eth0
  subnets:
  - type: static
    address: 192.168.1.1
    netmask: 255.255.255.0
    gateway: 192.168.1.254
    dns_search:
    - example.com
    dns_nameservers:
    - 8.8.8.8
    - 8.8.4.4
`
	if string(docs.NetworkConfig) != wantNetwork {
		t.Errorf("network-config is\n%s\nwant\n%s", docs.NetworkConfig, wantNetwork)
	}
	_, wantUser, _ := strings.Cut(string(data), "userdata: |\n")
	if wantUser = strings.ReplaceAll(wantUser[2:], "\n  ", "\n"); string(docs.UserData) != wantUser {
		t.Errorf("user-data is\n%s\nwant\n%s", docs.UserData, wantUser)
	}
	if docs.VendorData != nil {
		t.Errorf("there is vendor-data: %q", docs.VendorData)
	}
}

var errInvalid = metadata.ErrInvalid

func TestRenderNeedsAnInstance(t *testing.T) {
	if _, err := nocloud.Render(metadata.VM{Name: "a"}, nil, nocloud.Options{}); err == nil || errors.Is(err, errInvalid) {
		t.Errorf("got %v", err)
	}
}
