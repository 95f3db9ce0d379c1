package guest

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"vmw-cloudinit-metadata/packet"
)

// NICs lists the physical network interfaces in kernel order, from /sys under root.
func NICs(root string) []packet.NIC {
	class := filepath.Join(root, "sys/class/net")
	entries, err := os.ReadDir(class)
	if err != nil {
		return nil
	}
	type indexed struct {
		index int
		nic   packet.NIC
	}
	var found []indexed
	for _, entry := range entries {
		dir := filepath.Join(class, entry.Name())
		if _, err := os.Stat(filepath.Join(dir, "device")); err != nil {
			continue // bridges, tunnels, lo: no hardware
		}
		const ethernet = "1" // ARPHRD_ETHER
		index, err := strconv.Atoi(line(filepath.Join(dir, "ifindex")))
		if err != nil || line(filepath.Join(dir, "type")) != ethernet {
			continue
		}
		found = append(found, indexed{index, packet.NIC{Name: entry.Name(), MAC: line(filepath.Join(dir, "address"))}})
	}
	slices.SortFunc(found, func(a, b indexed) int { return cmp.Compare(a.index, b.index) })
	nics := make([]packet.NIC, len(found))
	for i := range found {
		nics[i] = found[i].nic
	}
	return nics
}

// BootID names this boot, from /proc under root.
func BootID(root string) string { return line(filepath.Join(root, "proc/sys/kernel/random/boot_id")) }

// MachineID names this machine as its BIOS does (uuid.bios), from /sys under root. A copy of a VM has another one. It
// is empty where that is not known.
func MachineID(root string) string {
	return strings.ToLower(line(filepath.Join(root, "sys/class/dmi/id/product_uuid")))
}

// CachedInstance returns the instance-id that cloud-init goes on with if it finds it in the seed again; "" if it
// has no instance cached, or only the one that it makes up when there is no datasource.
func CachedInstance(cloudDir string) string {
	if _, err := os.Stat(filepath.Join(cloudDir, "instance/obj.pkl")); err != nil {
		return ""
	}
	id := line(filepath.Join(cloudDir, "data/instance-id"))
	if id == "iid-datasource-none" {
		return ""
	}
	return id
}

// line returns a small file's text without its end; "" if it can't be read.
func line(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
