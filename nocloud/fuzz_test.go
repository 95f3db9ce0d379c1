package nocloud_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"

	"vmw-cloudinit-metadata/internal/yaml11"
	"vmw-cloudinit-metadata/internal/yaml11/yaml11test"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/nocloud"
	"vmw-cloudinit-metadata/vmfile"
)

// FuzzRender checks that whatever a file and a VM's name hold, there are errors of the data's kind, or documents
// that parse, twice the same.
func FuzzRender(f *testing.F) {
	f.Add("web1", []byte("network: {address: 192.168.1.1, netmask: 255.255.255.0, gateway: 192.168.1.254, search: a, nameservers: [8.8.8.8]}"))
	f.Add("Größe %2f", []byte("network: {address: ['10.0.0.1/31', '2001:db8::1/127'], gateway: ['10.0.0.0', 'fe80::1'], mtu: 1500, dhcp: no, mac-address: 12:34:56:12:34:56}"))
	f.Add("..", []byte("network: {version: 1, config: [{type: physical, name: a, subnets: [{type: static, address: 10.0.0.1/8}]}]}\nmetadata: {tags: {a: b}, public-keys: {a: [b]}}"))
	f.Add("", []byte(version2Inline))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		inst, err := vmfile.Parse("f", data)
		if err != nil {
			return
		}
		vm := metadata.VM{Name: name}
		opts := nocloud.Options{NICs: []nocloud.NIC{{Name: name, MAC: name}, {Name: "eth0", MAC: "00:50:56:00:00:01"}}}
		docs, err := nocloud.Render(vm, inst, opts)
		if err != nil {
			if !errors.Is(err, metadata.ErrInvalid) {
				t.Fatalf("is not ErrInvalid: %v", err)
			}
			return
		}
		var meta map[string]any
		if err := json.Unmarshal(docs.MetaData, &meta); err != nil {
			t.Fatalf("%s: %v", docs.MetaData, err)
		}
		for _, key := range []string{"instance-id", "hostname", "local-hostname"} {
			if text, _ := meta[key].(string); text == "" {
				t.Fatalf("there is no %s in %s", key, docs.MetaData)
			}
		}
		if docs.NetworkConfig != nil {
			root, err := yaml11.Parse(docs.NetworkConfig)
			if err != nil {
				t.Fatalf("%s: %v", docs.NetworkConfig, err)
			}
			var d yaml11.Decoder
			if network, ok := d.Decode("", root).(map[string]any); !ok || network["version"] == nil {
				t.Fatalf("%s is %s", docs.NetworkConfig, yaml11test.Describe(network))
			}
		}
		again, err := nocloud.Render(vm, inst, opts)
		if err != nil || string(again.MetaData) != string(docs.MetaData) || string(again.NetworkConfig) != string(docs.NetworkConfig) {
			t.Fatalf("came out differently the second time: %v", err)
		}
	})
}

const version2Inline = `{"network": {"version": 2, "ethernets": {"a": {"match": {"macaddress": "00:50:56:00:00:01"}, "set-name": "b", "addresses": ["10.0.0.1/24"],
"gateway4": "10.0.0.2", "nameservers": {"addresses": ["10.0.0.3"]}, "routes": [{"to": "default", "via": "10.0.0.2"}], "mtu": 1500, "dhcp6": true}}}}`

func BenchmarkRender(b *testing.B) {
	data, err := os.ReadFile("../examples/metadata/web1.yaml")
	if err != nil {
		b.Fatal(err)
	}
	inst, vm := parse(b, "web1.yaml", string(data)), metadata.VM{Name: "web1", UUID: testUUID}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := nocloud.Render(vm, inst, nocloud.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleRender() {
	inst, err := vmfile.Parse("web1.yaml", []byte("network: {address: 192.0.2.7/24, gateway: 192.0.2.1}\nuserdata: |\n  #!/bin/sh\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	vm := metadata.VM{Name: "Web 1", UUID: "421338a5-0a6a-b9b4-b647-3007991cf1d6"}
	docs, err := nocloud.Render(vm, inst, nocloud.Options{NICs: []nocloud.NIC{{Name: "ens192", MAC: "00:50:56:ab:cd:ef"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n%s%s", docs.MetaData, docs.NetworkConfig, docs.UserData)
	// Output:
	// {"hostname": "web-1", "instance-id": "421338a5-0a6a-b9b4-b647-3007991cf1d6", "local-hostname": "web-1"}
	// version: 1
	// config:
	// - type: physical
	//   name: eth0
	//   mac_address: 00:50:56:ab:cd:ef
	//   subnets:
	//   - type: static
	//     address: 192.0.2.7/24
	//     gateway: 192.0.2.1
	// #!/bin/sh
}
