package check_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"vmw-cloudinit-metadata/internal/check"
	"vmw-cloudinit-metadata/internal/testenv"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/metadata/layer"
	"vmw-cloudinit-metadata/nocloud/schema"
	"vmw-cloudinit-metadata/vmfile"
)

const goodKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIL0v1Zw2Z3Jm4o7F3m7Yk2s1V5cN3i2o8f0m1n2b3c4d a@b"

// add parses files by their names and has them checked.
func add(t testing.TB, c *check.Checker, files ...string) {
	t.Helper()
	for i := 0; i < len(files); i += 2 {
		instance, err := vmfile.Parse(files[i], []byte(files[i+1]))
		c.Add(metadata.Entry{Key: files[i], VM: metadata.VM{Name: strings.TrimSuffix(files[i], ".yaml")}, Instance: instance}, err)
	}
}

func expect(t *testing.T, c *check.Checker, want ...string) {
	t.Helper()
	var got []string
	for _, f := range c.Findings() {
		got = append(got, f.String())
	}
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("missing: %s", want[i])
		case i >= len(want):
			t.Errorf("not wanted: %s", got[i])
		case !strings.Contains(got[i], want[i]):
			t.Errorf("got\n%s, want\n%s", got[i], want[i])
		}
	}
}

func TestFindings(t *testing.T) {
	c := check.New(nil)
	add(t, c,
		"a.yaml", "metadata: {public-keys: ['"+goodKey+"', ssh-rsa AAAA, 'no-pty "+goodKey+"']}\n",
		"b.yaml", "metdata: {}\n",
		"c.yaml", "network: {address: 192.0.2.7/24, gateway: 198.51.100.1}\n",
		"d.yaml", "userdata: |\n  #cloud-config\n  a: [\nvendordata: |\n  # cloud-config\n",
		"e.yaml", "userdata: {a: b}\n",
		"g.yaml", "metadata:\n  public-keys:\n    me: "+goodKey+"\n    you: ssh-rsa AAAA\n    them: ['"+goodKey+"', foo]\n",
	)
	c.Add(metadata.Entry{Key: "f"}, errors.New("the disk is on fire"))
	if c.Checked() != 7 {
		t.Errorf("%d checked, want 7", c.Checked())
	}
	expect(t, c,
		"f: error: the disk is on fire",
		"a.yaml:1:114: warning: metadata.public-keys.1: is no public key", // cloud-init hands it over, and sshd skips it
		"b.yaml:1:1: error: metdata: is not a key of this format",
		"c.yaml:1:34: error: network.gateway",
		"d.yaml:4:3: error: userdata: is not YAML",
		"d.yaml:5:3: error: vendordata: is of no kind that cloud-init knows",
		"g.yaml:4:5: warning: metadata.public-keys.you: is no public key that OpenSSH can read",
		"g.yaml:5:100: warning: metadata.public-keys.them.1: is no public key that OpenSSH can read",
	)
}

// What cloud-init takes, and does not pass on or guesses at, is a warning.
func TestNetworksWithoutEffect(t *testing.T) {
	c := check.New(nil)
	add(t, c,
		"a.yaml", "network:\n  dhcp: true\n  search: a.example\n",
		"b.yaml", "network: {dhcp: true, address: '2001:db8::1/64', search: a.example}\n",
		"c.yaml", "network: {dhcp: true, nameservers: 192.0.2.53, search: a.example}\n",
		"d.yaml", "network:\n  version: 1\n  config:\n  - {type: nameserver, address: 192.0.2.53}\n  - type: physical\n    name: eth0\n    subnets:\n"+
			"    - {type: dhcp, dns_search: [a.example], routes: [{destination: 10.0.0.0, gateway: 192.0.2.1}]}\n  - {type: route, destination: '2001:db8::', prefix: 32, gateway: 'fe80::1'}\n",
		"e.yaml", "network: {network: {version: 1, config: [{type: nameserver, address: 192.0.2.53}, {type: physical, name: eth0, subnets: [{type: static, address: 192.0.2.2/24, dns_search: [a], routes: [{network: '2001:db8::', gateway: 'fe80::1'}]}]}]}}\n",
		"f.yaml", "network: {version: 2, ethernets: {eth0: {match: {name: eth0}, dhcp4: true}, lan: {match: {macaddress: '00:50:56:00:00:01', driver: vmxnet3}}}}\n",
		"h.yaml", "network: {version: 1, config: [{type: physical, name: eth0}, {type: bond, name: b, bond_interfaces: [eth0], params: {bond-mode: 1, bond-arp-ip-target: 192.0.2.1}}]}\n",
		"g.yaml", "network:\n  version: 2\n  ethernets: {lan: {match: {name: 'en*'}, addresses: [192.0.2.3/24, {192.0.2.4/24: {label: x}}]}}\n",
	)
	expect(t, c,
		"a.yaml:3:3: warning: network.search: has no effect with netplan or networkd beside DHCP alone",
		"d.yaml:4:5: warning: network.config.0: has no effect with netplan where no subnet has an address",
		"d.yaml:8:20: warning: network.config.1.subnets.0.dns_search: has no effect with netplan in a subnet without an address",
		"d.yaml:8:45: warning: network.config.1.subnets.0.routes: has no effect with netplan in a subnet without an address",
		"d.yaml:8:55: warning: network.config.1.subnets.0.routes.0.destination: has no length of a prefix, and cloud-init takes /24",
		"d.yaml:9:5: warning: network.config.2: has no effect with netplan: make it one of the routes of a subnet",
		"e.yaml:1:187: warning: network.network.config.1.subnets.0.routes.0.network: has no length of a prefix, and cloud-init takes /64",
		"g.yaml:3:21: warning: network.ethernets.lan.match: has no macaddress",
		"g.yaml:3:69: warning: network.ethernets.lan.addresses.1: has options, which only netplan knows",
		"h.yaml:1:132: warning: network.config.1.params.bond-arp-ip-target: makes netplan give up",
	)
}

func TestDuplicates(t *testing.T) {
	c := check.New(nil)
	add(t, c,
		"a.yaml", "metadata: {instance-id: x, hostname: Web, local-hostname: web}\nnetwork: {address: 2001:db8::1/64, mac-address: 00:50:56:AA:BB:CC}\n",
		"b.yaml", "metadata: {instance-id: x, hostname: wEB}\nnetwork:\n  version: 1\n  config:\n  - {type: physical, name: eth0, mac_address: '00:50:56:aa:bb:cc', subnets: [{type: static, address: '2001:DB8:0::1/64'}]}\n  - {type: nameserver, address: 192.0.2.53}\n",
		"c.yaml", "network:\n  version: 2\n  ethernets:\n    a: {addresses: [192.0.2.7/24, {2001:db8::1/64: {label: x}}, 'fe80::1/64'], nameservers: {addresses: [192.0.2.53]}, match: {macaddress: '00:50:56:aa:bb:cc'}}\n",
		"d.yaml", "network: {version: 2, ethernets: {a: {addresses: [192.0.2.8/24, 'fe80::1/64'], nameservers: {addresses: [192.0.2.53]}}}}\n",
		"d1.yaml", "network: {version: 1, config: [{type: loopback, name: lo, subnets: [{type: static, address: 192.0.2.8/32}]}]}\n",
		"d2.yaml", "network: {version: 2, ethernets: {lo: {addresses: [192.0.2.8/32]}, l: {match: {name: lo}, addresses: [192.0.2.7/32]}}}\n",
		"e.yaml", "network: {address: [192.0.2.9/24, 'fe80::1/64', '2001:db8::5/64'], mac-address: 00-50-56-aa-bb-dd}\n",
		"f.yaml", "network:\n  address: 192.0.2.10/24, 2001:db8:0::5/64\n  mac-address: '0050.56AA.BBDD'\n",
	)
	expect(t, c,
		"b.yaml:1:12: error: metadata.instance-id: the instance-id x is also that of a.yaml:1:12",
		"b.yaml:1:28: warning: metadata.hostname: the hostname web is also that of a.yaml:1:28",
		"b.yaml:5:34: error: network.config.0.mac_address: the MAC address 00:50:56:aa:bb:cc is also that of a.yaml:2:",
		"b.yaml:5:93: error: network.config.0.subnets.0.address: the address 2001:db8::1 is also that of a.yaml:2:11",
		"c.yaml:4:35: warning: network.ethernets.a.addresses.1: has options",
		"c.yaml:4:35: error: network.ethernets.a.addresses.1: the address 2001:db8::1 is also that of a.yaml:2:11",
		"c.yaml:4:128: error: network.ethernets.a.match.macaddress",
		"d2.yaml:1:72: warning: network.ethernets.l.match: has no macaddress",
		"f.yaml:2:3: error: network.address: the address 2001:db8::5 is also that of e.yaml:1:49",
		"f.yaml:3:3: error: network.mac-address: the MAC address 00:50:56:aa:bb:dd is also that of e.yaml:1:68",
	)
	if errors, warnings := check.Count(c.Findings()); errors != 7 || warnings != 3 {
		t.Errorf("%d errors and %d warnings, want 7 and 3", errors, warnings)
	}
}

// A mistake that many VMs inherit is reported once.
func TestInheritedMistake(t *testing.T) {
	c := check.New(nil)
	for i := range 5 {
		c.Add(metadata.Entry{Key: fmt.Sprint("vm", i)}, &metadata.DataError{Origin: "defaults.yaml:3:1", Path: "x", Problem: "is wrong"})
		c.Add(metadata.Entry{Key: fmt.Sprint("row", i)}, errors.Join(&metadata.DataError{Problem: "is wrong"}))
	}
	if n := len(c.Findings()); n != 6 {
		t.Errorf("%d findings, want one for the file, and one for each row", n)
	}
}

// A mistake in one layer's user-data is reported in that layer's file, however it stands in the message of all.
func TestMistakesInLayers(t *testing.T) {
	const tab = "\\ta: 1" // cloud-init passes over such a document
	for _, lower := range []struct{ text, want string }{
		{"userdata: |\n  #cloud-config\n  \ta: 1\n", "lower.yaml:3:3: "},
		{"userdata: |\n  #cloud-config\n  # größe\n  \ta: 1\n", "lower.yaml:1:1: "},
		{"metadata: {a: 1}\nuserdata: \"#cloud-config\\n" + tab + "\"\n", "lower.yaml:2:1: "},
		{"userdata: |\n  MIME-Version: 1.0\n  Content-Type: multipart/mixed; boundary=B\n\n  --B\n  Content-Type: text/cloud-config\n\n  #cloud-config\n  \ta: 1\n  --B--\n", "lower.yaml:9:3: "},
	} {
		for _, upper := range []string{"userdata: |\n  #cloud-config\n  b: 1\n", "userdata: {b: 1}\n", "userdata: |\n  #cloud-config\n  # größe\n", "userdata: |\n  #cloud-config\n"} {
			var instances []*metadata.Instance
			for name, text := range map[string]string{"lower.yaml": lower.text, "upper.yaml": upper} {
				instance, err := vmfile.Parse(name, []byte(text))
				if err != nil {
					t.Fatal(err)
				}
				instances = append(instances, instance)
			}
			for range 2 { // in either order
				slices.Reverse(instances)
				merged, err := layer.Merge(instances...)
				if err != nil {
					t.Fatal(err)
				}
				c := check.New(nil)
				c.Add(metadata.Entry{Key: "vm", VM: metadata.VM{Name: "vm"}, Instance: merged}, nil)
				expect(t, c, lower.want)
			}
		}
	}
}

// Data for VMs that are not named is rendered for one of them.
func TestDataForUnnamedVMs(t *testing.T) {
	instance, err := vmfile.Parse("defaults.yaml", []byte("network: {dhcp: true}"))
	if err != nil {
		t.Fatal(err)
	}
	c := check.New(nil)
	c.Add(metadata.Entry{Key: "defaults.yaml", Instance: instance}, nil)
	expect(t, c)
}

func TestSchemas(t *testing.T) {
	schemas, err := schema.Load(testenv.CloudInit(t, "trixie"))
	if err != nil {
		t.Fatal(err)
	}
	c := check.New(schemas)
	add(t, c,
		"a.yaml", "userdata: |\n\n  #cloud-config\n  package_update: yes\n  pakages: []\n",
		"b.yaml", "userdata:\n  pakages: []\n",
		"c.yaml", "userdata: \"#cloud-config\\npakages: []\\n\"\n",
		"c2.yaml", "userdata: |\n  #cloud-config\n  apt_update: true\n",
		"d.yaml", "network:\n  network:\n    version: 2\n    ethernets:\n      eth0: {dhcp4: true, mtu: big}\n",
		"e.yaml", "network:\n  address: 192.0.2.7/24\n",
		"f.yaml", "network:\n  version: 2\n  ethernets:\n    lan:\n      match: {macaddress: '00:50:56:00:00:01'}\n      set-name: eth0\n      addresses: []\n      routes: [{to: default, via: 192.0.2.1, table: 5}]\n  bridges: {br0: {interfaces: [lan]}}\n",
	)
	findings := c.Findings()
	expect(t, c,
		"a.yaml:5:3: error: userdata.pakages: there is no such key here: did you mean packages?",
		"b.yaml:2:3: error: userdata.pakages: there is no such key here",
		"c.yaml:1:1: error: userdata.pakages: there is no such key here: did you mean packages? (line 2, column 1 of the userdata)",
		"c2.yaml:3:3: warning: userdata.apt_update: is deprecated since cloud-init 22.2: Use package_update instead",
		"d.yaml:5:27: error: network.network.ethernets.eth0.mtu",
		"f.yaml:8:46: warning: network.ethernets.lan.routes.0.table: is not in cloud-init's schema",
	)
	var text, object, sarif bytes.Buffer
	if err := errors.Join(check.WriteText(&text, 6, findings), check.WriteJSON(&object, 6, findings), check.WriteSARIF(&sarif, "1.0", findings)); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(text.String(), "\n6 VMs checked: 4 errors, 2 warnings\n") {
		t.Errorf("text is\n%s", text.String())
	}
	var read struct {
		Checked, Errors int
		Findings        []check.Finding
	}
	if err := json.Unmarshal(object.Bytes(), &read); err != nil || read.Checked != 6 || read.Errors != 4 || len(read.Findings) != 6 || read.Findings[0] != findings[0] {
		t.Errorf("JSON is %s, %v", object.String(), err)
	}
	var log struct {
		Version string
		Runs    []struct {
			Results []struct {
				RuleID, Level string
				Locations     []struct {
					PhysicalLocation struct {
						ArtifactLocation struct{ URI string }
						Region           struct{ StartLine, StartColumn int }
					}
				}
			}
		}
	}
	if err := json.Unmarshal(sarif.Bytes(), &log); err != nil || log.Version != "2.1.0" || len(log.Runs) != 1 || len(log.Runs[0].Results) != 6 {
		t.Fatalf("SARIF is %s, %v", sarif.String(), err)
	}
	first := log.Runs[0].Results[0]
	place := first.Locations[0].PhysicalLocation
	if first.RuleID != check.RuleUserData || first.Level != "error" || place.ArtifactLocation.URI != "a.yaml" || place.Region.StartLine != 5 || place.Region.StartColumn != 3 {
		t.Errorf("the first result is %+v", first)
	}
	object.Reset()
	if err := check.WriteJSON(&object, 0, nil); err != nil || !strings.Contains(object.String(), `"findings": []`) {
		t.Errorf("without findings: %s, %v", object.String(), err)
	}
}

func BenchmarkAdd(b *testing.B) {
	schemas, err := schema.Load(testenv.CloudInit(b, "trixie"))
	if err != nil {
		b.Fatal(err)
	}
	c := check.New(schemas)
	for b.Loop() {
		add(b, c, "a.yaml", "metadata: {hostname: a}\nnetwork: {address: 192.0.2.7/24}\nuserdata: |\n  #cloud-config\n  packages: [a, b]\n  growpart: {mode: auto}\n")
	}
}
