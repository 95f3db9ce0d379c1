package guest

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"vmw-cloudinit-metadata/packet"
)

// nicWait is how long the drivers of network hardware get at least, and a quarter of the wait for a server if that is
// more. They are loaded while this runs at boot, which takes a second or so, and much longer where hundreds of machines
// boot at once. Hardware that has no driver must not hold up each boot for long.
const nicWait = 10 * time.Second

// awaitNICs lists the physical network interfaces as soon as all network hardware on the PCI bus has one. Where udev is
// still at work when nicWait is over, as on a very busy host, it has until wait is.
func awaitNICs(ctx context.Context, root string, wait time.Duration) []packet.NIC {
	started, least := time.Now(), max(nicWait, wait/4)
	for lacksDriver(root) {
		waited := time.Since(started)
		if waited >= least && (waited >= wait || !udevWorks(root)) || pause(ctx, time.Second/20) != nil {
			break
		}
	}
	return NICs(root)
}

// udevWorks says if udev has hardware to see to, of which it says so in a file under root.
func udevWorks(root string) bool {
	_, err := os.Stat(filepath.Join(root, "run/udev/queue"))
	return err == nil
}

// lacksDriver says if a network controller has no interface yet, from /sys under root.
func lacksDriver(root string) bool {
	classes, _ := filepath.Glob(filepath.Join(root, "sys/bus/pci/devices/*/class")) // the pattern is good
	for _, class := range classes {
		const network = "0x02" // PCI's base class
		if !strings.HasPrefix(line(class), network) {
			continue
		}
		own, _ := filepath.Glob(filepath.Join(filepath.Dir(class), "net/*"))
		virtio, _ := filepath.Glob(filepath.Join(filepath.Dir(class), "virtio*/net/*"))
		if len(own)+len(virtio) == 0 {
			return true
		}
	}
	return false
}

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
