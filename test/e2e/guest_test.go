// Package e2e_test boots real guests, with the packages that are built from this tree, against the real server.
package e2e_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	guestUnit = "vmw-cloudinit-guest.service"

	macA = "00:50:56:8f:00:0a"
	macB = "00:50:56:8f:00:0b"
	key  = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyrz4l2Yk1kM5GHyOJXqFVQ7vVYyEyA0Z3Yz0o e2e"
)

// flat is the network of a file in its short form, which names no NIC and no MAC address.
const flat = `
network:
  address: 192.168.1.1
  netmask: 255.255.255.0
  gateway: 192.168.1.254
  search: example.com
  nameservers: [8.8.8.8, 8.8.4.4]
`

// userdata leaves traces that a boot's report shows: what ran at which boot, and what was written.
const userdata = `
userdata: |
  #cloud-config
  # e2e-secret
  write_files:
    - path: /etc/e2e-written
      content: |
        written by user-data
      permissions: '0644'
  runcmd:
    - mkdir -p /var/lib/e2e
    - echo ran >> /var/lib/e2e/runs
`

// vendordata uses a key that userdata has not: cloud-init lets user-data's value of a key win.
const vendordata = `
vendordata: |
  #cloud-config
  # e2e-secret
  bootcmd:
    - echo written by vendor-data > /etc/e2e-vendor
`

// vmware and virtio are the NICs of most machines on ESXi, and on everything else.
func vmware() []nic { return []nic{{"vmxnet3", macA}} }
func virtio() []nic { return []nic{{"virtio-net-pci", macA}} }

func identity(instance, hostname string) string {
	return fmt.Sprintf("metadata:\n  instance-id: %s\n  hostname: %s\n  public-keys:\n    - %s\n", instance, hostname, key)
}

// suites are Debian's releases of which there are images.
func suites(t *testing.T) []string {
	t.Helper()
	if os.Getenv("E2E_DIR") == "" {
		t.Skip("E2E_DIR names no folder with images: make e2e builds them and runs this")
	}
	return strings.Fields(os.Getenv("E2E_SUITES"))
}

// TestLife is a machine from its first boot to the removal of our package.
func TestLife(t *testing.T) {
	t.Parallel()
	for _, suite := range suites(t) {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, suite)
			s := startService(t, m.logs)

			s.put(t, identity("i-first", "first")+flat+userdata+vendordata)
			first := m.boot(t, boot{port: s.port(t), nics: vmware()})
			t.Run("first boot", func(t *testing.T) {
				first.isWhole(t, "i-first", "first")
				first.guestSays(t, result{"ok", "written", "first"})
				first.hasAddress(t, "192.168.1.1/24")
				first.wants(t, "route", "default via 192.168.1.254")
				first.wants(t, "authorized-keys", key)
				first.wants(t, "written", "written by user-data")
				first.wants(t, "vendor", "written by vendor-data")
				first.ran(t, 1)
				first.isValid(t)
				first.failed(t)
				first.isPrivate(t)
				first.isBeforeNetwork(t)
			})

			again := m.boot(t, boot{port: s.port(t), nics: vmware()})
			t.Run("same data", func(t *testing.T) {
				again.isWhole(t, "i-first", "first")
				again.guestSays(t, result{"ok", "unchanged", "later"})
				again.hasAddress(t, "192.168.1.1/24")
				again.ran(t, 1)
				again.failed(t)
				again.same(t, first, "host-keys", "seed-sums")
			})

			down := m.boot(t, boot{nics: vmware()})
			t.Run("server down", func(t *testing.T) {
				down.isWhole(t, "i-first", "first")
				down.guestSays(t, result{"unreachable", "kept", "later"})
				down.hasAddress(t, "192.168.1.1/24")
				down.ran(t, 1)
				down.failed(t, guestUnit) // so that people see it
				down.same(t, first, "host-keys", "seed-sums")
				// 10 s is what the guest waits for a server; the rest is for an emulated machine's drivers.
				down.guestTook(t, 30)
			})

			s.put(t, identity("i-second", "second")+`
network:
  version: 2
  ethernets:
    primary:
      match: {macaddress: "`+macA+`"}
      set-name: eth0
      addresses: [192.168.2.2/24]
      routes: [{to: 0.0.0.0/0, via: 192.168.2.254}]
`+userdata+"    - dpkg --purge vmw-cloudinit-guest\n")
			other := m.boot(t, boot{port: s.port(t), nics: vmware()})
			t.Run("new instance", func(t *testing.T) {
				other.isWhole(t, "i-second", "second")
				other.hasAddress(t, "192.168.2.2/24")
				other.wants(t, "route", "default via 192.168.2.254")
				other.ran(t, 2)
				other.isValid(t)
				other.failed(t)
				if other.sections["host-keys"] == first.sections["host-keys"] {
					t.Error("the new instance has the old one's SSH host key")
				}
			})

			removed := m.boot(t, boot{port: s.port(t), nics: vmware()})
			t.Run("package removed", func(t *testing.T) {
				if left := removed.sections["leftovers"]; left != "" {
					t.Errorf("left behind:\n%s", left)
				}
				removed.wants(t, "hostname", "second")
				removed.hasAddress(t, "192.168.2.2/24")
				removed.same(t, other, "host-keys")
				removed.ran(t, 2)
				removed.failed(t)
			})
		})
	}
}

// TestNetworks boots machines whose NICs the data names in every way that there is. The name that the kernel gives a
// NIC in QEMU is ens3, ens4 and so on.
func TestNetworks(t *testing.T) {
	t.Parallel()
	const twoByMAC = `
network:
  version: 1
  config:
    - type: physical
      name: front
      mac_address: "` + macB + `"
      subnets: [{type: static, address: 10.0.0.2/24, gateway: 10.0.0.1}]
    - type: physical
      name: back
      mac_address: "` + macA + `"
      subnets: [{type: static, address: 10.0.1.2/24}]
`
	const byName = `
network:
  version: 1
  config:
    - type: physical
      name: ens3
      subnets: [{type: static, address: 10.0.0.2/24}]
`
	const subnetOfOne = `
network:
  address: 192.0.2.7/32
  gateway: 198.51.100.1
`
	for _, tc := range []struct {
		name, network string
		nics          []nic
		want          []string
		route         string
	}{
		{"flat on virtio", flat, virtio(), []string{"192.168.1.1/24"}, "default via 192.168.1.254"},
		{"two by MAC", twoByMAC, []nic{{"vmxnet3", macA}, {"virtio-net-pci", macB}}, []string{"front 10.0.0.2/24", "back 10.0.1.2/24"}, "default via 10.0.0.1"},
		{"by name", byName, vmware(), []string{"ens3 10.0.0.2/24"}, ""},
		{"subnet of one", subnetOfOne, virtio(), []string{"192.0.2.7/32"}, "default via 198.51.100.1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, suites(t)[0])
			s := startService(t, m.logs)
			s.put(t, identity("i-net", "net")+tc.network+userdata)
			r := m.boot(t, boot{port: s.port(t), nics: tc.nics})
			r.isWhole(t, "i-net", "net")
			for _, want := range tc.want {
				r.hasAddress(t, want)
			}
			r.wants(t, "route", tc.route)
			r.isBeforeNetwork(t)
			r.isValid(t)
			r.failed(t)
		})
	}
}

// TestOldGuest has the older tool's kind of guest in place of ours: three processes, one document each, version 1.
func TestOldGuest(t *testing.T) {
	t.Parallel()
	m := newMachine(t, suites(t)[0])
	s := startService(t, m.logs)
	s.put(t, identity("i-old", "old")+flat+userdata)
	r := m.boot(t, boot{
		port: s.port(t), nics: vmware(),
		// Nobody tells the server the NIC's MAC address here, so the NIC has to have the name that the server assumes.
		cmdline: "e2e.old-guest systemd.mask=vmw-cloudinit-guest.service net.ifnames=0",
	})
	r.isWhole(t, "i-old", "old")
	r.hasAddress(t, "eth0 192.168.1.1/24")
	r.wants(t, "guest-unit", "LoadState=masked")
	r.ran(t, 1)
}

// TestLargeUserData is a script that no compression makes smaller than 1 MiB, by way of two vMotions a second. It is text, for
// Debian 12's cloud-init fails at a script that isn't.
func TestLargeUserData(t *testing.T) {
	t.Parallel()
	random := rand.NewChaCha8([32]byte{1})
	payload := make([]byte, 1<<20)
	random.Read(payload)
	script := "#!/bin/sh\nmkdir -p /var/lib/e2e\necho ran >>/var/lib/e2e/runs\nexit 0\n" + base64.StdEncoding.EncodeToString(payload) + "\n"

	m := newMachine(t, suites(t)[0])
	s := startService(t, m.logs)
	s.put(t, identity("i-large", "large")+flat+"userdata: "+strconv.Quote(script)+"\n")
	r := m.boot(t, boot{port: s.port(t, "--vmotion-every", "500ms"), nics: vmware()})
	r.isWhole(t, "i-large", "large")
	r.wants(t, "instance-sums", fmt.Sprintf("%x", sha256.Sum256([]byte(script))))
	r.ran(t, 1)
	if !strings.Contains(s.said(), "vMotion completed") {
		t.Error("the server tells of no vMotion")
	}
}

// TestSerialSpeed prints how long a machine waits for 1 MiB of user-data: at its boot, where the CPU has more to do, and
// again when the boot is over; and how long dd takes for as many bytes on the same port. It holds no clock against anything.
func TestSerialSpeed(t *testing.T) {
	const size = 1 << 20
	random := rand.NewChaCha8([32]byte{2})
	raw := make([]byte, size)
	random.Read(raw)
	const head = "#!/bin/sh\nexit 0\n"
	text := []byte(head)
	for words := rand.New(random); len(text) < size; {
		for _, word := range []string{"server", "listen", "address", "option", "# see", "0x%x", "%d\n", "= /etc/app/%d.conf\n"} {
			if strings.Contains(word, "%") {
				word = fmt.Sprintf(word, words.IntN(100_000))
			}
			if words.IntN(2) == 0 {
				text = append(append(text, word...), ' ')
			}
		}
	}
	for _, tc := range []struct {
		name     string
		userdata []byte
	}{
		{"text", text[:size]},
		{"random", append([]byte(head), raw[len(head):]...)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newMachine(t, suites(t)[0])
			s := startService(t, m.logs)
			s.put(t, identity("i-speed", "speed")+"userdata: !!binary "+base64.StdEncoding.EncodeToString(tc.userdata)+"\n")
			r := m.boot(t, boot{port: s.portWithRaw(t, raw), cmdline: fmt.Sprintf("e2e.speed=%d", size)})
			r.guestSays(t, result{"ok", "written", "first"})
			r.wants(t, "seed-sums", fmt.Sprintf("%x  user-data", sha256.Sum256(tc.userdata)))
			r.wants(t, "speed-result", `"seed": "written"`, fmt.Sprintf(`"size": %d`, size))
			r.wants(t, "speed-sum", fmt.Sprintf("%x", sha256.Sum256(raw)))
			began := property(t, r.sections["guest-unit"], "ExecMainStartTimestampMonotonic")
			ended := property(t, r.sections["guest-unit"], "ExecMainExitTimestampMonotonic")
			t.Logf("%d bytes; from the unit's start to the seed written: %.1f s at the boot, %.1f s after it; dd: %s s",
				size, float64(ended-began)/1e6, seconds(t, r.sections["speed-result"]), find(t, r.sections["speed-dd"], `copied, ([0-9.]+) s`))
		})
	}
}

// TestFirstBootWithout has nothing to give to a machine that cloud-init doesn't know yet. It boots all the same, and
// tells a person at its console why it is nobody.
func TestFirstBootWithout(t *testing.T) {
	t.Parallel()
	const wait = 15
	for _, tc := range []struct {
		name   string
		boot   func(t *testing.T, s *service) boot
		data   string
		result string
		limit  float64 // seconds
	}{
		{"no data", func(t *testing.T, s *service) boot { return boot{port: s.port(t), nics: vmware()} }, "", "not-found", wait + 5},
		{"bad data", func(t *testing.T, s *service) boot { return boot{port: s.port(t)} }, "metdata: {}\n", "invalid", wait + 5},
		{"nobody at the port", func(*testing.T, *service) boot { return boot{} }, "", "unreachable", wait + 10},
		{"no port", func(*testing.T, *service) boot {
			// Named, for the port of the test's own report is a port too.
			return boot{noPort: true, cmdline: "systemd.setenv=VMW_CLOUDINIT_GUEST_DEVICE=/dev/ttyS1"}
		}, "", "no-port", 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, suites(t)[0])
			s := startService(t, m.logs)
			if tc.data != "" {
				s.put(t, tc.data)
			}
			b := tc.boot(t, s)
			b.cmdline += fmt.Sprintf(" systemd.setenv=VMW_CLOUDINIT_GUEST_WAIT=%ds", wait)
			r := m.boot(t, b)
			r.guestSays(t, result{tc.result, "none", "first"})
			r.guestTook(t, tc.limit)
			r.wants(t, "instance-id", "iid-datasource-none")
			// What cloud-init does with a NIC when it has no data; and the sign that DHCP would be seen elsewhere.
			if len(b.nics) > 0 && !slices.ContainsFunc(r.frames, isDHCP) {
				t.Error("no DHCP frame on the wire")
			}
			if tc.result != "no-port" && !strings.Contains(r.console, "vmw-cloudinit-guest: ") {
				t.Error("the console says nothing of it")
			}
		})
	}
}

// TestServerUnit starts the server's service as its package installs it, on a machine of its own.
func TestServerUnit(t *testing.T) {
	t.Parallel()
	r := newMachine(t, suites(t)[0]).boot(t, boot{noPort: true, cmdline: "e2e.server cloud-init=disabled"})
	r.wants(t, "server-answer", "i-unit")
	r.wants(t, "server-unit", "ActiveState=active", "User=vmw-cloudinit-metadata", "UnitFileState=disabled", "NRestarts=0")
	r.wants(t, "server-limits", "524288")
	r.wants(t, "server-gone", "LoadState=not-found", "ActiveState=inactive")
	r.wants(t, "server-data", "i-unit")
	if t.Failed() {
		t.Logf("the server's log:\n%s", r.sections["server-log"])
	}
}

// isWhole checks a boot for which there was data: cloud-init is done with it, and found nothing to complain about.
func (r *report) isWhole(t *testing.T, instance, hostname string) {
	t.Helper()
	r.wants(t, "instance-id", instance)
	r.wants(t, "hostname", hostname)
	r.wants(t, "cloud-status", "status: done", "DataSourceNoCloud [seed=/var/lib/cloud/seed/nocloud]")
	r.wants(t, "cloud-result", `"errors": []`)
	if complaints := r.sections["cloud-log"]; complaints != "" {
		t.Errorf("cloud-init's log complains:\n%s", complaints)
	}
	for _, frame := range r.frames {
		if isDHCP(frame) {
			t.Errorf("a DHCP frame on the wire: %x", frame)
			break
		}
	}
}

// isValid checks that cloud-init's own schemas take all that it got.
func (r *report) isValid(t *testing.T) {
	t.Helper()
	r.wants(t, "cloud-schema", "Valid")
	if regexp.MustCompile(`(?i)error|warning|deprecated|invalid`).MatchString(r.sections["cloud-schema"]) {
		t.Errorf("cloud-init's schema check complains:\n%s", r.sections["cloud-schema"])
	}
}

// failed checks that these units failed and no others.
func (r *report) failed(t *testing.T, units ...string) {
	t.Helper()
	var got []string
	for line := range strings.Lines(r.sections["failed-units"]) {
		if fields := strings.Fields(line); len(fields) > 0 {
			got = append(got, fields[0])
		}
	}
	if !slices.Equal(got, units) {
		t.Errorf("failed units: %q; want %q", got, units)
	}
}

// wants checks that a section of the report has each of the texts.
func (r *report) wants(t *testing.T, section string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.sections[section], text) {
			t.Errorf("%s lacks %q:\n%s", section, text, r.sections[section])
		}
	}
}

// same checks that sections are what they were at another boot.
func (r *report) same(t *testing.T, other *report, names ...string) {
	t.Helper()
	for _, name := range names {
		if r.sections[name] != other.sections[name] {
			t.Errorf("%s changed from\n%s\nto\n%s", name, other.sections[name], r.sections[name])
		}
	}
}

// ran checks how often user-data's commands ran in the machine's life.
func (r *report) ran(t *testing.T, times int) {
	t.Helper()
	if got := strings.Count(r.sections["runs"], "ran"); got != times {
		t.Errorf("user-data's commands ran %d times, not %d", got, times)
	}
}

// hasAddress checks for an address on a NIC that is up; "eth0 192.0.2.1/24" names the NIC too.
func (r *report) hasAddress(t *testing.T, want string) {
	t.Helper()
	name, address, named := strings.Cut(want, " ")
	if !named {
		name, address = "", want
	}
	for line := range strings.Lines(r.sections["address"]) {
		fields := strings.Fields(line)
		if len(fields) > 2 && (name == "" || fields[0] == name) && fields[1] == "UP" && slices.Contains(fields[2:], address) {
			return
		}
	}
	t.Errorf("no NIC is up with %s:\n%s", want, r.sections["address"])
}

// isPrivate checks that what the documents say stays with root.
func (r *report) isPrivate(t *testing.T) {
	t.Helper()
	if files := r.sections["readable"]; files != "" {
		t.Errorf("an ordinary user reads the documents' secret in:\n%s", files)
	}
	lines := strings.Split(r.sections["seed-files"], "\n")
	if len(lines) != 5 {
		t.Errorf("the seed is not a folder with four files:\n%s", r.sections["seed-files"])
	}
	for _, line := range lines {
		fields := strings.Fields(line) // name (none for the folder itself), mode, user, size
		if len(fields) == 3 && fields[0] != "700" || len(fields) == 4 && fields[1] != "600" || fields[len(fields)-2] != "0" {
			t.Errorf("not root's alone: %s", line)
		}
	}
}

// isBeforeNetwork checks that the guest was done before anything brought the network up.
func (r *report) isBeforeNetwork(t *testing.T) {
	t.Helper()
	done := property(t, r.sections["guest-unit"], "ExecMainExitTimestampMonotonic")
	up := property(t, r.sections["network-units"], "ActiveEnterTimestampMonotonic")
	if done == 0 || up <= done {
		t.Errorf("the guest was done at %d µs, the network at %d µs", done, up)
	}
}

// result is what the guest's program says of its run.
type result struct{ Result, Seed, Boot string }

func (r *report) guestSays(t *testing.T, want result) {
	t.Helper()
	var got result
	if err := json.Unmarshal([]byte(r.sections["guest-result"]), &got); err != nil || got != want {
		t.Errorf("the guest says %+v; want %+v\n%s\n%s", got, want, r.sections["guest-result"], r.sections["guest-log"])
	}
}

// guestTook checks for how long the guest's program held up the boot, by its own clock.
func (r *report) guestTook(t *testing.T, limit float64) {
	t.Helper()
	if took := seconds(t, r.sections["guest-result"]); took > limit {
		t.Errorf("the guest took %.1f s, and %.0f s are enough:\n%s", took, limit, r.sections["guest-log"])
	}
}

// seconds returns what a result of the guest's program says of its time.
func seconds(t *testing.T, result string) float64 {
	t.Helper()
	var got struct{ Seconds *float64 }
	if err := json.Unmarshal([]byte(result), &got); err != nil || got.Seconds == nil {
		t.Fatalf("the guest doesn't say how long it took: %v\n%s", err, result)
	}
	return *got.Seconds
}

// find returns what the pattern's group matches.
func find(t *testing.T, text, pattern string) string {
	t.Helper()
	match := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if match == nil {
		t.Fatalf("no %s in:\n%s", pattern, text)
	}
	return match[1]
}

// property returns a number of what systemctl show prints, the first of that name.
func property(t *testing.T, shown, name string) int64 {
	t.Helper()
	for line := range strings.Lines(shown) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s in:\n%s", name, shown)
	return 0
}
