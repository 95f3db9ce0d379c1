// Package inventory invents the benchmark's virtual machines: who they are, and the file that the server's driver
// reads of each.
package inventory

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"

	"vmw-cloudinit-metadata/vspc"
)

// Name is VM i's, and that of its file without .yaml.
func Name(i int) string { return fmt.Sprintf("bench-%06d", i) }

// Identity is what VM i's host says.
func Identity(i int) vspc.Identity {
	return vspc.Identity{
		Name:         Name(i),
		VCUUID:       fmt.Sprintf("502e71fa-1a2b-4c3d-8e4f-%012x", i),
		BIOSUUID:     fmt.Sprintf("422e71fa-1a2b-4c3d-8e4f-%012x", i),
		LocationUUID: fmt.Sprintf("564d71fa-1a2b-4c3d-8e4f-%012x", i),
	}
}

// Address is VM i's, and is as long as any other VM's: all VMs have answers of one size.
func Address(i int) string {
	return netip.AddrFrom4([4]byte{10, byte(100 + i/100/100), byte(100 + i/100%100), byte(100 + i%100)}).String()
}

// UserData makes a user-data of size bytes: lines that a shell ignores, with no pattern that a shortcut could use.
func UserData(size int) []byte {
	const alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"
	random := rand.New(rand.NewPCG(1, uint64(size))) //nolint:gosec // G404: the same in every run, and no secret
	data := make([]byte, 0, size+80)
	data = append(data, "#!/bin/sh\n"...)
	for len(data) < size {
		data = append(data, "# "...)
		for range 76 {
			data = append(data, alphabet[random.IntN(len(alphabet))])
		}
		data = append(data, '\n')
	}
	data = data[:size]
	data[size-1] = '\n'
	return data
}

// File is what the driver reads of VM i: what people write, and a user-data.
func File(i int, userData []byte) []byte {
	var file bytes.Buffer
	fmt.Fprintf(&file, `---
metadata:
  ami-id: my-image
  instance-id: i-%s
  region: us-east1
  availability-zone: us-east1-a
  tags:
    - web
    - production
  public-keys:
    - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKv4bJ7tqS0x2m7m0Qw7vA4n0o1u5y9c2e8f3g6h7i8j admin@example.com
  hostname: %s
network:
  address: %s
  netmask: 255.0.0.0
  gateway: 10.0.0.1
  search: example.com
  nameservers:
    - 10.0.0.2
    - 10.0.0.3
userdata: |
`, Name(i), Name(i), Address(i))
	for line := range bytes.Lines(userData) {
		file.WriteString("  ")
		file.Write(line)
	}
	return file.Bytes()
}

// Write makes dir with the files of VMs 0 to count-1. A directory that has them already is left as it is.
func Write(dir string, count, userDataSize int) error {
	done := filepath.Join(dir, fmt.Sprintf(".%d-of-%d", count, userDataSize))
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	userData := UserData(userDataSize)
	for i := range count {
		if err := os.WriteFile(filepath.Join(dir, Name(i)+".yaml"), File(i, userData), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(done, nil, 0o644)
}

// Documents are VM i's meta-data and network-config as the server may render them from its file: what the floors
// answer when there is no server to take the answers from.
func Documents(i int) (metaData, networkConfig []byte) {
	metaData = fmt.Appendf(nil, `{"ami-id":"my-image","availability-zone":"us-east1-a","hostname":%q,"instance-id":"i-%s",`+
		`"local-hostname":%q,"public-keys":["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKv4bJ7tqS0x2m7m0Qw7vA4n0o1u5y9c2e8f3g6h7i8j admin@example.com"],`+
		`"region":"us-east1","tags":["web","production"]}`+"\n", Name(i), Name(i), Name(i))
	networkConfig = fmt.Appendf(nil, `version: 1
config:
- type: physical
  name: eth0
  subnets:
  - type: static
    address: %s
    netmask: 255.0.0.0
    gateway: 10.0.0.1
    dns_search:
    - example.com
    dns_nameservers:
    - 10.0.0.2
    - 10.0.0.3
`, Address(i))
	return metaData, networkConfig
}
