package nocloud_test

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"testing"

	"vmw-cloudinit-metadata/internal/yaml11/yaml11test"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/metadata/layer"
	"vmw-cloudinit-metadata/nocloud"
	"vmw-cloudinit-metadata/vmfile"
)

// render renders the network given as the inner lines of a file.
func render(t testing.TB, network string, nics ...nocloud.NIC) (string, error) {
	t.Helper()
	inst := parse(t, "f", "network:\n  "+strings.ReplaceAll(strings.TrimSpace(network), "\n", "\n  ")+"\n")
	docs, err := nocloud.Render(metadata.VM{Name: "vm", UUID: testUUID}, inst, nocloud.Options{NICs: nics})
	if err != nil {
		return "", err
	}
	return string(docs.NetworkConfig), nil
}

func TestFlatNetwork(t *testing.T) {
	for _, tc := range []struct{ name, network, want string }{
		{"prefix", "address: 192.168.1.1/24", "name: eth0\n  subnets:\n  - type: static\n    address: 192.168.1.1/24\n"},
		{"netmask as a prefix", "address: 192.168.1.1\nnetmask: 24", "name: eth0\n  subnets:\n  - type: static\n    address: 192.168.1.1/24\n"},
		{"all keys", "address: 10.0.0.2/8\nname: ens192\nmac-address: 00-50-56-AB-CD-EF\nmtu: 9000\ngateway: 10.0.0.1\nsearch: [a.example, b.example]\nnameservers: 10.0.0.3, 10.0.0.4",
			"name: ens192\n  mac_address: 00:50:56:ab:cd:ef\n  mtu: 9000\n  subnets:\n  - type: static\n    address: 10.0.0.2/8\n    gateway: 10.0.0.1\n    dns_search:\n    - a.example\n    - b.example\n    dns_nameservers:\n    - 10.0.0.3\n    - 10.0.0.4\n"},
		{"MAC address of digits", "address: 10.0.0.2/8\nmac-address: 12:34:56:12:34:56", "name: eth0\n  mac_address: \"12:34:56:12:34:56\"\n  subnets:\n  - type: static\n    address: 10.0.0.2/8\n"},
		{"older spelling", "dhcp: yes\nmac_address: 00:50:56:ab:cd:ef", "name: eth0\n  mac_address: 00:50:56:ab:cd:ef\n  subnets:\n  - type: dhcp4\n"},
		{"DHCP", "dhcp: true", "name: eth0\n  subnets:\n  - type: dhcp4\n"},
		{"DHCP for both", "dhcp: true\ndhcp6: true\nsearch: [example.com]", "name: eth0\n  subnets:\n  - type: dhcp4\n    dns_search:\n    - example.com\n  - type: dhcp6\n"},
		{"IPv6", "address: 2001:db8::2/64\ngateway: fe80::1\nnameservers: 2001:db8::53", "name: eth0\n  subnets:\n  - type: static6\n    address: 2001:db8::2/64\n    gateway: fe80::1\n    dns_nameservers:\n    - 2001:db8::53\n"},
		{"IPv6 with a netmask", "address: 2001:db8::2\nnetmask: 'ffff:ffff:ffff:ffff::'", "name: eth0\n  subnets:\n  - type: static6\n    address: 2001:db8::2/64\n"},
		{"both", "address: [192.0.2.2/24, '2001:db8::2/64']\ngateway: [192.0.2.1, '2001:db8::1']\nsearch: example.com",
			"name: eth0\n  subnets:\n  - type: static\n    address: 192.0.2.2/24\n    gateway: 192.0.2.1\n    dns_search:\n    - example.com\n  - type: static6\n    address: 2001:db8::2/64\n    gateway: 2001:db8::1\n"},
		{"static beside DHCP of the other kind", "dhcp: true\naddress: 2001:db8::2/64", "name: eth0\n  subnets:\n  - type: dhcp4\n  - type: static6\n    address: 2001:db8::2/64\n"},
		{"subnet of two", "address: 192.0.2.0/31\ngateway: 192.0.2.1", "name: eth0\n  subnets:\n  - type: static\n    address: 192.0.2.0/31\n    gateway: 192.0.2.1\n"},
		{"subnet of one", "address: 192.0.2.7/32\ngateway: 198.51.100.1", "name: eth0\n  subnets:\n  - type: static\n    address: 192.0.2.7/32\n    gateway: 198.51.100.1\n    routes:\n    - destination: 198.51.100.1/32\n      gateway: 0.0.0.0\n"},
		{"subnet of one beside that of the gateway", "address: 192.0.2.7/32, 198.51.100.2/24\ngateway: 198.51.100.1", "name: eth0\n  subnets:\n  - type: static\n    address: 192.0.2.7/32\n  - type: static\n    address: 198.51.100.2/24\n    gateway: 198.51.100.1\n"},
		{"IPv6 subnet of one with a link-local gateway", "address: '2001:db8::7/128'\ngateway: 'fe80::1'", "name: eth0\n  subnets:\n  - type: static6\n    address: 2001:db8::7/128\n    gateway: fe80::1\n"},
		{"second gateway's subnet", "address: [192.0.2.2/24, 198.51.100.2/24]\ngateway: 198.51.100.1", "name: eth0\n  subnets:\n  - type: static\n    address: 192.0.2.2/24\n  - type: static\n    address: 198.51.100.2/24\n    gateway: 198.51.100.1\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := render(t, tc.network)
			if want := "version: 1\nconfig:\n- type: physical\n  " + tc.want; err != nil || got != want {
				t.Errorf("got (%v)\n%s\nwant\n%s", err, got, want)
			}
		})
	}
}

// Of some values, the renderers of cloud-init understand one word only.
func TestPortableParameters(t *testing.T) {
	const (
		version1 = "version: 1\nconfig: [{type: physical, name: a}, {type: bond, name: b, bond_interfaces: [a], params: {%s}}]"
		version2 = "version: 2\nethernets: {a: }\nbonds: {b: {interfaces: [a], parameters: {%s}}}"
	)
	for _, tc := range []struct{ form, params, want string }{
		{version1, "bond-mode: 4", `bond-mode: 802.3ad`},
		{version1, "bond_mode: '1', bond-lacp-rate: 1", "bond-lacp-rate: fast\n    bond_mode: active-backup"},
		{version1, "bond-mode: balance-tlb, bond-miimon: 100", "bond-miimon: 100\n    bond-mode: balance-tlb"},
		{version2, "mode: 0, lacp-rate: 0", "lacp-rate: slow\n      mode: balance-rr"},
		{version2, "mode: active-backup, primary: a, arp-ip-targets: [192.0.2.1]", "mode: active-backup\n      primary: a"},
	} {
		got, err := render(t, fmt.Sprintf(tc.form, tc.params))
		if err != nil || !strings.Contains(got, tc.want) {
			t.Errorf("%s: got (%v)\n%s\nwant in it\n%s", tc.params, err, got, tc.want)
		}
	}
}

// Where there is no netplan, cloud-init looks for what a bond is made of by the name of its key.
func TestNamesOfCards(t *testing.T) {
	const cards = "version: 2\nethernets:\n  a: {match: {macaddress: '00:50:56:00:00:01'}, set-name: lan0}\n  b: {match: {macaddress: '00:50:56:00:00:02'}, set-name: %s}\n"
	for _, tc := range []struct{ second, rest, want string }{
		{"lan1", "bonds: {c: {interfaces: [a, b], parameters: {primary: a}}}", "bonds:\n  c:\n    interfaces:\n    - lan0\n    - lan1\n    parameters:\n      primary: lan0\nethernets:\n  lan0:\n"},
		{"lan1", "bridges: {c: {interfaces: [a, b], parameters: {path-cost: {a: 5}}}}", "interfaces:\n    - lan0\n    - lan1\n    parameters:\n      path-cost:\n        lan0: 5\n"},
		{"lan1", "vlans: {c: {id: 7, link: b}}", "ethernets:\n  a:\n    match:\n      macaddress: \"00:50:56:00:00:01\"\n    set-name: lan0\n  lan1:\n"},
		{"lan0", "vlans: {c: {id: 7, link: b}}", "ethernets:\n  a:\n    match:\n      macaddress: \"00:50:56:00:00:01\"\n    set-name: lan0\n  lan0:\n"},
		{"a", "vlans: {c: {id: 7, link: b}}", "link: b\n"},
		{"lan1", "", "ethernets:\n  a:\n"},
	} {
		got, err := render(t, fmt.Sprintf(cards, tc.second)+tc.rest)
		if err != nil || !strings.Contains(got, tc.want) {
			t.Errorf("%s: got (%v)\n%s\nwant in it\n%s", tc.rest, err, got, tc.want)
		}
	}
}

func TestInfiniBandAddresses(t *testing.T) {
	const given, want = "A0-00-02-20-FE-80-00-00-00-00-00-00-00-02-C9-03-00-00-00-01", "a0:00:02:20:fe:80:00:00:00:00:00:00:00:02:c9:03:00:00:00:01"
	for _, network := range []string{
		"version: 1\nconfig: [{type: infiniband, name: ib0, mac_address: %s, subnets: [{type: dhcp}]}]",
		"version: 2\nethernets: {ib0: {match: {macaddress: %s}, set-name: ib0, dhcp4: true}}",
	} {
		if got, err := render(t, fmt.Sprintf(network, given)); err != nil || !strings.Contains(got, want) {
			t.Errorf("got (%v)\n%s\nwant %s in it", err, got, want)
		}
	}
}

func TestMACAddressOfTheGuest(t *testing.T) {
	nics := []nocloud.NIC{{"lo", "00:00:00:00:00:00"}, {"bad", "x"}, {"ens192", "00:50:56:00:00:01"}, {"ens224", "00:50:56:00:00:02"}}
	for _, tc := range []struct{ name, network, want string }{
		{"first", "dhcp: true", "00:50:56:00:00:01"},
		{"by name", "dhcp: true\nname: ens224", "00:50:56:00:00:02"},
		{"to be renamed", "dhcp: true\nname: wan", "00:50:56:00:00:01"},
		{"given", "dhcp: true\nmac-address: 00:50:56:00:00:09", "00:50:56:00:00:09"},
	} {
		got, err := render(t, tc.network, nics...)
		if err != nil || !strings.Contains(got, "\n  mac_address: \""+tc.want+"\"\n") {
			t.Errorf("%s: got (%v)\n%s\nwant the MAC address %s", tc.name, err, got, tc.want)
		}
	}
}

func TestNetworkProblems(t *testing.T) {
	for _, tc := range []struct{ name, network, want string }{
		{"misspelt key", "addrss: 10.0.0.1/8", "f:2:3: network.addrss: is not a key of network: did you mean address?\nf:1:1: network: needs an address, or dhcp: true"},
		{"unknown key", "dhcp: true\nfoo: 1", "f:3:3: network.foo: is not a key of network: known are address, netmask, gateway, search, nameservers, name, mac-address, mtu, dhcp, dhcp6"},
		{"version forgotten", "ethernets: {}\ndhcp: true", "f:2:3: network.ethernets: belongs to a whole network-config, which needs its version: 1 or 2 beside it"},
		{"version forgotten in a wrapper", "network:\n  renderer: networkd\n  vlans: {}", "f:3:5: network.network.renderer: belongs to a whole network-config, which needs its version: 1 or 2 beside it\nf:4:5: network.network.vlans: belongs to a whole network-config, which needs its version: 1 or 2 beside it"},
		{"nothing", "name: eth0", "f:1:1: network: needs an address, or dhcp: true"},
		{"no netmask", "address: 10.0.0.1", "f:2:3: network.address: needs a netmask beside it, or a prefix, as in 10.0.0.1/24"},
		{"no address in it", "address: web1", "f:2:3: network.address: is not an IP address, such as 192.0.2.1 or 2001:db8::1"},
		{"leading zeros", "address: 010.0.0.1/8", "f:2:3: network.address: is not an IP address, such as 192.0.2.1 or 2001:db8::1"},
		{"empty address", "address: ''", "f:2:3: network.address: is empty: give it a value, or leave the key out"},
		{"netmask twice", "address: 10.0.0.1/8\nnetmask: 255.0.0.0", "f:2:3: network.address: has its /prefix: remove the netmask"},
		{"netmask with holes", "address: 10.0.0.1\nnetmask: 255.0.255.0", "f:3:3: network.netmask: 255.0.255.0 is not a netmask: its ones must come first, then its zeros"},
		{"netmask with a hole in a byte", "address: 10.0.0.1\nnetmask: 255.255.255.5", "f:3:3: network.netmask: 255.255.255.5 is not a netmask: its ones must come first, then its zeros"},
		{"netmask of nothing", "address: 10.0.0.1\nnetmask: 0.0.0.0", "f:3:3: network.netmask: 0.0.0.0 is not a netmask: its ones must come first, then its zeros"},
		{"netmask of another kind", "address: 10.0.0.1\nnetmask: 'ffff::'", "f:3:3: network.netmask: is not a netmask for 10.0.0.1, such as 255.255.255.0 for IPv4 or 64 for IPv6"},
		{"prefix too long", "address: 10.0.0.1/33", "f:2:3: network.address: the length of a prefix is a number from 1 to 32 here"},
		{"multicast", "address: 224.0.0.1/24", "f:2:3: network.address: 224.0.0.1 is a multicast address"},
		{"IPv6 multicast", "address: ff02::1/64", "f:2:3: network.address: ff02::1 is a multicast address"},
		{"unspecified", "address: 0.0.0.0/24", "f:2:3: network.address: 0.0.0.0 is no host's address"},
		{"loopback", "address: 127.0.0.1/8", "f:2:3: network.address: 127.0.0.1 is a loopback address"},
		{"broadcast", "address: 255.255.255.255/24", "f:2:3: network.address: 255.255.255.255 is the broadcast address"},
		{"broadcast of the subnet", "address: 10.1.2.127/25", "f:2:3: network.address: 10.1.2.127 is the broadcast address of 10.1.2.0/25: the VM can't have it"},
		{"network", "address: 10.1.2.128/25", "f:2:3: network.address: 10.1.2.128 is the address of the network 10.1.2.128/25 itself: the VM can't have it"},
		{"IPv6 network", "address: '2001:db8::/64'", "f:2:3: network.address: 2001:db8:: is the address of all routers of 2001:db8::/64: the VM can't have it"},
		{"mapped", "address: '::ffff:10.0.0.1/120'", "f:2:3: network.address: ::ffff:10.0.0.1 is an IPv4 address in IPv6 form: write 10.0.0.1"},
		{"zone", "address: 'fe80::1%eth0/64'", "f:2:3: network.address: must not have a zone (%)"},
		{"gateway elsewhere", "address: 192.168.1.1/24\ngateway: 192.168.2.254", "f:3:3: network.gateway: 192.168.2.254 is not in the VM's subnet 192.168.1.0/24"},
		{"gateway is the VM", "address: 192.168.1.1/24\ngateway: 192.168.1.1", "f:3:3: network.gateway: 192.168.1.1 is the VM's own address"},
		{"gateway is the broadcast address", "address: 192.168.1.1/24\ngateway: 192.168.1.255", "f:3:3: network.gateway: 192.168.1.255 is the broadcast address of 192.168.1.0/24: no router can have it"},
		{"gateway of another kind", "address: 192.168.1.1/24\ngateway: 2001:db8::1", "f:3:3: network.gateway: 2001:db8::1 needs an address of its kind (IPv4 or IPv6)"},
		{"gateway with a prefix", "address: 192.168.1.1/24\ngateway: 192.168.1.254/24", "f:3:3: network.gateway: must be an address without a /prefix"},
		{"gateway beside DHCP", "dhcp: true\ngateway: 10.0.0.1", "f:3:3: network.gateway: needs an address beside it: with DHCP the gateway comes from there"},
		{"two gateways", "address: 10.0.0.2/8\ngateway: [10.0.0.1, 10.0.0.3]", "f:3:23: network.gateway.1: is the second gateway of its kind: there can be one for IPv4 and one for IPv6"},
		{"address beside DHCP", "dhcp: true\naddress: 10.0.0.2/8", "f:3:3: network.address: can't be there beside DHCP: choose one of them"},
		{"DHCP as text", "dhcp: 'yes'", "f:2:3: network.dhcp: must be true or false\nf:1:1: network: needs an address, or dhcp: true"},
		{"name server", "dhcp: true\nnameservers: [8.8.8.8, dns.example]", "f:3:26: network.nameservers.1: is not an IP address, such as 192.0.2.1 or 2001:db8::1"},
		{"search domain", "dhcp: true\nsearch: a..b", "f:3:3: network.search: is not the name of a domain"},
		{"list of lists", "dhcp: true\nsearch: [[a]]", "f:3:12: network.search.0: must be text, and not empty"},
		{"mtu", "dhcp: true\nmtu: 15", "f:3:3: network.mtu: must be a number from 68 to 65535"},
		{"mtu as text", "dhcp: true\nmtu: '1500'", "f:3:3: network.mtu: must be a number from 68 to 65535"},
		{"mtu for IPv6", "address: '2001:db8::1/64'\nmtu: 1200", "f:3:3: network.mtu: must be at least 1280 with an IPv6 address"},
		{"MAC address of a group", "dhcp: true\nmac-address: '01:00:5e:00:00:01'", "f:3:3: network.mac-address: is not a MAC address of a network card, such as 00:50:56:01:02:03"},
		{"MAC address too long", "dhcp: true\nmac-address: 00:50:56:00:00:00:00:01", "f:3:3: network.mac-address: is not a MAC address of a network card, such as 00:50:56:01:02:03"},
		{"interface name", "dhcp: true\nname: ../../etc", "f:3:3: network.name: is not a name for a network interface: up to 15 characters, without blanks, /, : and %"},

		{"version", "version: 3", "f:2:3: network.version: must be 1 or 2"},
		{"version 1 without config", "version: 1", "f:1:1: network.config: must be a list of interfaces, or the word disabled"},
		{"version 1 type", "version: 1\nconfig:\n- type: fysical\n  name: eth0", "f:4:5: network.config.0.type: is none that cloud-init knows: did you mean physical?"},
		{"version 1 called 2", "version: 2\nconfig:\n- type: physical\n  name: eth0", "f:3:3: network.config: is a list of version 1, of which version 2 takes nothing: write version: 1"},
		{"version 1 without name", "version: 1\nconfig:\n- type: physical", "f:4:5: network.config.0.name: is missing: the name of the network interface, such as eth0"},
		{"version 1 without type", "version: 1\nconfig:\n- name: eth0", "f:4:5: network.config.0.type: is missing: one of physical, bond, bridge, vlan, infiniband, loopback, nameserver, route"},
		{"version 1 name twice", "version: 1\nconfig:\n- {type: physical, name: a}\n- {type: bridge, name: a, bridge_interfaces: []}", "f:5:20: network.config.1.name: is there twice: another interface has it"},
		{"version 1 MAC address", "version: 1\nconfig:\n- {type: physical, name: a, mac_address: 1}", "f:4:31: network.config.0.mac_address: is not a MAC address of a network card, such as 00:50:56:01:02:03"},
		{"version 1 subnet", "version: 1\nconfig:\n- type: physical\n  name: a\n  subnets:\n  - type: static\n    address: 10.0.0.1/24\n    gateway: 10.0.1.1", "f:9:7: network.config.0.subnets.0.gateway: 10.0.1.1 is not in the VM's subnet 10.0.0.0/24"},
		{"version 1 netmask of another length", "version: 1\nconfig:\n- type: physical\n  name: a\n  subnets:\n  - type: static\n    address: 10.0.0.1/24\n    netmask: 255.255.0.0", "f:8:7: network.config.0.subnets.0.address: has its /prefix: remove the netmask"},
		{"version 1 netmask too long", "version: 1\nconfig:\n- type: physical\n  name: a\n  subnets:\n  - type: static\n    address: 10.0.0.1\n    netmask: 33", "f:8:7: network.config.0.subnets.0.address: the length of a prefix is a number from 1 to 32 here"},
		{"version 1 prefix that is none", "version: 1\nconfig:\n- type: physical\n  name: a\n  subnets:\n  - type: static\n    address: 10.0.0.1\n    prefix: /24", "f:9:7: network.config.0.subnets.0.prefix: must be a number: the length of the address's prefix\nf:8:7: network.config.0.subnets.0.address: needs a netmask beside it, or a prefix, as in 10.0.0.1/24"},
		{"version 1 prefix of another length than the address's", "version: 1\nconfig:\n- type: physical\n  name: a\n  subnets:\n  - type: static\n    address: 10.0.0.1/24\n    prefix: 16", "f:9:7: network.config.0.subnets.0.prefix: is not that of the address: leave one of them out"},
		{"version 1 prefix of another length than the netmask's", "version: 1\nconfig:\n- type: physical\n  name: a\n  subnets:\n  - type: static\n    address: 10.0.0.1\n    prefix: 16\n    netmask: 255.255.255.0", "f:9:7: network.config.0.subnets.0.prefix: is not that of the netmask: leave one of them out"},
		{"version 1 prefix too long", "version: 1\nconfig:\n- type: physical\n  name: a\n  subnets:\n  - type: static\n    address: 10.0.0.1\n    prefix: 33", "f:8:7: network.config.0.subnets.0.address: the length of a prefix is a number from 1 to 32 here"},
		{"version 1 gateway by prefix", "version: 1\nconfig:\n- type: physical\n  name: a\n  subnets:\n  - type: static\n    address: 10.0.0.1\n    prefix: 24\n    gateway: 10.0.1.1", "f:10:7: network.config.0.subnets.0.gateway: 10.0.1.1 is not in the VM's subnet 10.0.0.0/24"},
		{"version 1 loopback address elsewhere", "version: 1\nconfig:\n- type: physical\n  name: lo1\n  subnets:\n  - type: static\n    address: 127.0.0.1/8", "f:8:7: network.config.0.subnets.0.address: 127.0.0.1 is a loopback address"},
		{"version 1 loopback subnet elsewhere", "version: 1\nconfig:\n- type: physical\n  name: lo1\n  subnets:\n  - type: loopback", "f:7:7: network.config.0.subnets.0.type: is none that cloud-init knows: known are dhcp, dhcp4, dhcp6, static, static6, manual, ipv6_dhcpv6-stateful, ipv6_dhcpv6-stateless, ipv6_slaac"},
		{"version 2 loopback address elsewhere", "version: 2\nethernets: {eth0: {addresses: [127.0.0.1/8]}}", "f:3:34: network.ethernets.eth0.addresses.0: 127.0.0.1 is a loopback address"},
		{"version 1 without address", "version: 1\nconfig:\n- type: physical\n  name: a\n  subnets:\n  - type: static", "f:7:7: network.config.0.subnets.0.address: is missing: a static subnet needs one"},
		{"version 1 name server", "version: 1\nconfig:\n- type: nameserver\n  address: [a]", "f:5:15: network.config.0.address.0: is not an IP address, such as 192.0.2.1 or 2001:db8::1"},
		{"version 2 key", "version: 2\nethernet: {}", "f:3:3: network.ethernet: is not a key of a network-config of version 2: did you mean ethernets?"},
		{"version 2 devices", "version: 2\nethernets: [eth0]", "f:3:3: network.ethernets: must be a mapping of devices"},
		{"version 2 address", "version: 2\nethernets: {eth0: {addresses: [10.0.0.1]}}", "f:3:34: network.ethernets.eth0.addresses.0: needs the length of its prefix, as in 10.0.0.1/24"},
		{"version 2 gateway", "version: 2\nethernets: {eth0: {addresses: [10.0.0.2/24], gateway4: 10.0.1.1}}", "f:3:48: network.ethernets.eth0.gateway4: 10.0.1.1 is not in the VM's subnet 10.0.0.0/24"},
		{"version 2 dhcp", "version: 2\nethernets: {eth0: {dhcp4: 'true'}}", "f:3:22: network.ethernets.eth0.dhcp4: must be true or false"},
		{"version 2 set-name", "version: 2\nethernets: {a: {set-name: eth0}}", "f:3:19: network.ethernets.a.set-name: needs a match beside it"},
		{"version 2 match", "version: 2\nethernets: {a: {match: {macaddress: 1:2}}}", "f:3:27: network.ethernets.a.match.macaddress: is not a MAC address of a network card, such as 00:50:56:01:02:03"},
		{"version 2 route", "version: 2\nethernets: {a: {routes: [{to: default, via: gw}]}}", "f:3:42: network.ethernets.a.routes.0.via: is not an IP address, such as 192.0.2.1 or 2001:db8::1"},
		{"version 1 bond", "version: 1\nconfig:\n- {type: bond, name: a, bond_interfaces: []}", "f:4:5: network.config.0.params: is missing, and a bond is nothing without it"},
		{"version 1 VLAN", "version: 1\nconfig:\n- {type: vlan, name: a, vlan_link: a}", "f:4:5: network.config.0.vlan_id: is missing, and a vlan is nothing without it"},
		{"version 1 name server of nobody", "version: 1\nconfig:\n- {type: physical, name: a}\n- {type: nameserver, address: 192.0.2.53, interface: b}", "f:5:45: network.config.1.interface: is none of the interfaces here: known are a"},
		{"version 1 references", "version: 1\nconfig:\n- {type: physical, name: eth0}\n- {type: bond, name: b, bond_interfaces: [eth0, eth9], params: {}}\n- {type: bridge, name: r, bridge_interfaces: [eth0, 5]}\n- {type: vlan, name: v, vlan_link: eht0, vlan_id: 7}",
			"f:6:55: network.config.2.bridge_interfaces.1: must be text: the name of an interface"},
		{"version 1 route", "version: 1\nconfig:\n- {type: route, network: 192.0.2.0/24, gateway: 192.0.2.1}", "f:4:5: network.config.0.destination: is missing, and a route is nothing without it"},
		{"version 1 route of a subnet", "version: 1\nconfig:\n- {type: physical, name: a, subnets: [{type: dhcp, routes: [{gateway: 192.0.2.1}]}]}",
			"f:4:63: network.config.0.subnets.0.routes.0.destination: is missing, and a route is nothing without it"},
		{"version 1 default route", "version: 1\nconfig:\n- {type: physical, name: a, subnets: [{type: dhcp, routes: [{destination: default, gateway: 192.0.2.1}]}]}",
			"f:4:64: network.config.0.subnets.0.routes.0.destination: is no network, such as 192.0.2.0/24"},
		{"version 1 addresses", "version: 1\nconfig:\n- {type: physical, name: a, subnets: [{type: static, address: [192.0.2.5/24]}]}",
			"f:4:56: network.config.0.subnets.0.address: must be one text, without blanks or commas: each address has a subnet of its own"},
		{"version 1 addresses in one text", "version: 1\nconfig:\n- {type: physical, name: a, subnets: [{type: static, address: '192.0.2.5/24, 192.0.2.6/24'}]}",
			"f:4:56: network.config.0.subnets.0.address: must be one text, without blanks or commas: each address has a subnet of its own"},
		{"version 1 gateways", "version: 1\nconfig:\n- {type: physical, name: a, subnets: [{type: static, address: 192.0.2.5/24, gateway: [192.0.2.1]}]}",
			"f:4:79: network.config.0.subnets.0.gateway: must be one text, without blanks or commas: each address has a subnet of its own"},
		{"version 1 bond's interfaces", "version: 1\nconfig:\n- {type: bond, name: a, bond_interfaces: b, params: [c]}",
			"f:4:47: network.config.0.params: must be a mapping: keys with their values\nf:4:27: network.config.0.bond_interfaces: must be a list"},
		{"version 2 forms", "version: 2\nbonds: {a: {match: x, nameservers: [192.0.2.53], dhcp4-overrides: true, interfaces: b}}",
			"f:3:15: network.bonds.a.match: must be a mapping: keys with their values\nf:3:25: network.bonds.a.nameservers: must be a mapping: keys with their values\n" +
				"f:3:52: network.bonds.a.dhcp4-overrides: must be a mapping: keys with their values\nf:3:75: network.bonds.a.interfaces: must be a list"},
		{"version 2 VLAN", "version: 2\nvlans: {a: {link: a}}", "f:3:11: network.vlans.a.id: is missing, and a VLAN is nothing without it"},
		{"version 2 route to nowhere", "version: 2\nethernets: {a: {routes: [{via: 192.0.2.1}]}}", "f:3:28: network.ethernets.a.routes.0.to: is missing, and a route is nothing without it"},
		{"version 2 route's prefix", "version: 2\nethernets: {a: {routes: [{to: 192.0.2.0/33, via: 192.0.2.1}]}}", "f:3:29: network.ethernets.a.routes.0.to: is no network, such as 192.0.2.0/24"},
		{"version 1 routes of wrong kinds", "version: 1\nconfig:\n- type: physical\n  name: a\n  subnets:\n  - type: dhcp\n    routes:\n    - {destination: 10.0.0.0/8}\n    - {destination: 10, gateway: gw}\n    - {destination: 10.0.0.0, netmask: 255.0.255.0, gateway: 1}\n    - {network: '2001:db8::', prefix: 129, gateway: 192.0.2.1, metric: high}\n- {type: route, destination: 10.0.0.0/8, gateway: 192.0.2.1, metric: -1}",
			"f:9:9: network.config.0.subnets.0.routes.0.gateway: is missing, and a route is nothing without it\n" +
				"f:10:10: network.config.0.subnets.0.routes.1.destination: is no network, such as 192.0.2.0/24\n" +
				"f:10:27: network.config.0.subnets.0.routes.1.gateway: is not an IP address, such as 192.0.2.1 or 2001:db8::1\n" +
				"f:11:33: network.config.0.subnets.0.routes.2.netmask: is no length of a prefix: a number from 0 to 32\n" +
				"f:11:55: network.config.0.subnets.0.routes.2.gateway: is not an IP address, such as 192.0.2.1 or 2001:db8::1\n" +
				"f:12:33: network.config.0.subnets.0.routes.3.prefix: is no length of a prefix: a number from 0 to 128\n" +
				"f:12:66: network.config.0.subnets.0.routes.3.metric: must be a number from 0 to 4294967295\n" +
				"f:13:64: network.config.1.metric: must be a number from 0 to 4294967295"},
		{"version 2 routes of wrong kinds", "version: 2\nethernets: {a: {routes: [{to: 10, via: 1}, {to: 10.0.0.0/8, via: '2001:db8::1', metric: 1.5}]}}",
			"f:3:29: network.ethernets.a.routes.0.to: is no network, such as 192.0.2.0/24\n" +
				"f:3:37: network.ethernets.a.routes.0.via: is not an IP address, such as 192.0.2.1 or 2001:db8::1\n" +
				"f:3:83: network.ethernets.a.routes.1.metric: must be a number from 0 to 4294967295"},
		{"version 1 values of wrong kinds", "version: 1\nconfig:\n- {type: physical, name: a}\n- type: bridge\n  name: b\n  bridge_interfaces: [a]\n  params: {bridge_stp: maybe, bridge_pathcost: {a: 50}, bridge_portprio: [a, a 5]}\n- {type: vlan, name: v, vlan_link: a, vlan_id: 4095}",
			"f:8:14: network.config.1.params.bridge_stp: must be true or false\n" +
				"f:9:41: network.config.2.vlan_id: must be a number from 0 to 4094"},
		{"version 2 values of wrong kinds", "version: 2\nethernets:\n  a:\n    optional: maybe\n    accept-ra: 1\n    dhcp4-overrides: {use-dns: 2, route-metric: high}\n    routes: [{to: 10.0.0.0/8, via: 192.0.2.1, on-link: x}]\nbridges: {b: {interfaces: [a], parameters: {stp: 2, path-cost: 5}}}\nvlans: {v: {link: a, id: x}}",
			"f:9:47: network.bridges.b.parameters.stp: must be true or false\n" +
				"f:9:55: network.bridges.b.parameters.path-cost: must be a mapping: keys with their values\n" +
				"f:7:37: network.ethernets.a.dhcp4-overrides.route-metric: must be a number from 0 to 4294967295\n" +
				"f:10:24: network.vlans.v.id: must be a number from 0 to 4094"},
		{"version 1 misspelt keys", "version: 1\nconfig:\n- {type: physical, name: a, mac-address: '00:50:56:00:00:01', subnets: [{type: static, address: 192.0.2.5/24, gatway: 192.0.2.1, dns-search: a.example, routes: [{destination: 10.0.0.0/8, gateway: 192.0.2.1, metrik: 5}]}]}",
			"f:4:31: network.config.0.mac-address: is not a key here: did you mean mac_address?\n" +
				"f:4:132: network.config.0.subnets.0.dns-search: is not a key here: did you mean dns_search?\n" +
				"f:4:113: network.config.0.subnets.0.gatway: is not a key here: did you mean gateway?\n" +
				"f:4:210: network.config.0.subnets.0.routes.0.metrik: is not a key here: did you mean metric?"},
		{"version 2 misspelt keys", "version: 2\nethernets: {a: {adresses: [192.0.2.5/24], match: {mac_address: x}, nameservers: {address: [192.0.2.53]}, dhcp4-overrides: {use_dns: no}, routes: [{to: default, vai: 192.0.2.1}]}}",
			"f:3:19: network.ethernets.a.adresses: is not a key here: did you mean addresses?\n" +
				"f:3:126: network.ethernets.a.dhcp4-overrides.use_dns: is not a key here: did you mean use-dns?\n" +
				"f:3:53: network.ethernets.a.match.mac_address: is not a key here: did you mean macaddress?\n" +
				"f:3:84: network.ethernets.a.nameservers.address: is not a key here: did you mean addresses?\n" +
				"f:3:163: network.ethernets.a.routes.0.vai: is not a key here: did you mean via?\n" +
				"f:3:149: network.ethernets.a.routes.0.via: is missing: a default route needs it, or has 0.0.0.0/0 or ::/0 in place of default"},
		{"version 1 search domains", "version: 1\nconfig:\n- {type: physical, name: a, subnets: [{type: dhcp, dns_search: true}]}\n- {type: nameserver, address: 192.0.2.53, search: [5]}",
			"f:4:54: network.config.0.subnets.0.dns_search: must be text or a list of texts\nf:5:54: network.config.1.search.0: must be text, and not empty"},
		{"version 2 search domains and names", "version: 2\nethernets: {a: {match: {name: x}, set-name: [b], nameservers: {search: {a: b}}}}\nvlans: {v: {id: 5, link: a, wakeonlan: true}}",
			"f:3:37: network.ethernets.a.set-name: is not a name for a network interface: up to 15 characters, without blanks, /, : and %\n" +
				"f:3:66: network.ethernets.a.nameservers.search: must be text or a list of texts"},
		{"version 2 default route without a router", "version: 2\nethernets: {a: {routes: [{to: default}]}}",
			"f:3:28: network.ethernets.a.routes.0.via: is missing: a default route needs it, or has 0.0.0.0/0 or ::/0 in place of default"},
		{"version 1 parameters", "version: 1\nconfig:\n- type: physical\n  name: a\n  subnets: [{type: dhcp, mtu: [5], control: 5}]\n- type: bond\n  name: b\n  bond_interfaces: [a]\n  params: {bond-mode: 802.1ad, bond_miimon: [100], bond-lacp-rate: 5, bond-primary: none}",
			"f:6:28: network.config.0.subnets.0.mtu: must be a number from 0 to 65535\n" +
				"f:10:54: network.config.1.params.bond-lacp-rate: must be slow or fast\n" +
				"f:10:14: network.config.1.params.bond-mode: is no mode of a bond: did you mean 802.3ad?"},
		{"version 2 parameters", "version: 2\nethernets: {a: }\nbonds: {b: {interfaces: [a], parameters: {mode: 7, primary: c}}}\nbridges: {r: {interfaces: [b], parameters: {priority: [5]}}}",
			"f:4:45: network.bonds.b.parameters.mode: is no mode of a bond: known are balance-rr, active-backup, balance-xor, broadcast, 802.3ad, balance-tlb, balance-alb"},
		{"version 2 name server", "version: 2\nethernets: {a: {nameservers: {addresses: [224.0.0.1]}}}", "f:3:45: network.ethernets.a.nameservers.addresses.0: 224.0.0.1 is a multicast address"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := render(t, tc.network)
			if err == nil {
				t.Fatalf("rendered as\n%s", got)
			}
			if err.Error() != tc.want {
				t.Errorf("\ngot  %s\nwant %s", err, tc.want)
			}
		})
	}
}

// What some systems take is passed on. Who checks his data is told of those that don't.
func TestDoubts(t *testing.T) {
	for _, tc := range []struct{ name, network, want string }{
		{"none", "version: 2\nethernets: {a: {addresses: [192.0.2.2/24], optional: true}}\nbridges: {b: {interfaces: [a]}}", ""},
		{"none of what is wrong", "version: 2\nethernets: {a: {optional: 1, mtu: 1}}", ""},
		{"a search domain alone", "dhcp: true\nsearch: a.example",
			"f:3:3: network.search: has no effect with netplan or networkd beside DHCP alone: give it nameservers, or have the DHCP server send the domain"},
		{"references of version 1", "version: 1\nconfig:\n- {type: physical, name: eth0}\n- {type: bond, name: b, bond_interfaces: [eth0, eth9], params: {bond-primary: none}}\n- {type: bridge, name: r, bridge_interfaces: [eth0]}\n- {type: vlan, name: v, vlan_link: eht0, vlan_id: 7}",
			"f:5:51: network.config.1.bond_interfaces.1: is none of the interfaces here, and netplan gives up the whole network for it: did you mean eth0?\n" +
				"f:5:67: network.config.1.params.bond-primary: is none of the interfaces here, and netplan gives up the whole network for it: known are b, eth0, r, v\n" +
				"f:6:49: network.config.2.bridge_interfaces.0: is a part of another already (see network.config.1.bond_interfaces.0), and netplan gives up the whole network for it\n" +
				"f:7:27: network.config.3.vlan_link: is none of the interfaces here, and netplan gives up the whole network for it: did you mean eth0?"},
		{"references of version 2", "version: 2\nethernets: {lan: {match: {macaddress: '00:50:56:00:00:01'}, set-name: eth0}}\nbonds: {b: {interfaces: [lan, lna], parameters: {primary: c}}}\nbridges: {r: {interfaces: [lan]}}\nvlans: {v: {id: 7, link: eth0}}",
			"f:4:52: network.bonds.b.parameters.primary: is none of the interfaces here, and netplan gives up the whole network for it: known are b, lan, r, v\n" +
				"f:4:33: network.bonds.b.interfaces.1: is none of the interfaces here, and netplan gives up the whole network for it: did you mean lan?\n" +
				"f:5:30: network.bridges.r.interfaces.0: is a part of another already (see network.bonds.b.interfaces.0), and netplan gives up the whole network for it\n" +
				"f:6:22: network.vlans.v.link: is none of the interfaces here, and netplan gives up the whole network for it: known are b, lan, r, v"},
		{"keys of cards", "version: 2\nethernets: {a: }\nbonds: {b: {match: {macaddress: '00:50:56:00:00:01'}, set-name: x, interfaces: [a]}}\nvlans: {v: {id: 5, link: a, wakeonlan: true}}",
			"f:4:15: network.bonds.b.match: is a key of ethernets alone to netplan, which gives up the whole network for it\n" +
				"f:4:57: network.bonds.b.set-name: is a key of ethernets alone to netplan, which gives up the whole network for it\n" +
				"f:5:31: network.vlans.v.wakeonlan: is a key of ethernets alone to netplan, which gives up the whole network for it"},
		{"routes", "version: 2\nethernets: {a: {addresses: [192.0.2.2/24], routes: [{to: 10.0.0.0/8, via: '2001:db8::1', on-link: x}]}}",
			"f:3:72: network.ethernets.a.routes.0.via: is IPv4 where the destination is IPv6, or the other way round: netplan gives up the whole network for it\n" +
				"f:3:92: network.ethernets.a.routes.0.on-link: is neither true nor false to netplan, which gives up the whole network for it"},
		{"parameters of version 1", "version: 1\nconfig:\n- {type: physical, name: a, subnets: [{type: dhcp, control: 5}, {type: dhcp, control: manaul}]}\n- type: bridge\n  name: b\n  bridge_interfaces: [a]\n  params: {bridge_pathcost: {a: 50}, bridge_portprio: [a, a 5], bridge_ageing: [5]}",
			"f:4:54: network.config.0.subnets.0.control: is none that cloud-init knows: known are auto, manual, hotplug\n" +
				"f:4:80: network.config.0.subnets.1.control: is none that cloud-init knows: did you mean manual?\n" +
				"f:8:14: network.config.1.params.bridge_pathcost: is no list, and cloud-init fails at it for netplan\n" +
				"f:8:58: network.config.1.params.bridge_portprio.0: is no text with the name of an interface and a number, and cloud-init fails at it for netplan\n" +
				"f:8:67: network.config.1.params.bridge_ageing: is more than one value, and netplan gives up the whole network for it"},
		{"parameters of version 2", "version: 2\nethernets: {a: {optional: maybe, accept-ra: 1, dhcp4-overrides: {use-dns: 2}}}\nbridges: {r: {interfaces: [a], parameters: {priority: [5]}}}",
			"f:3:19: network.ethernets.a.optional: is neither true nor false to netplan, which gives up the whole network for it\n" +
				"f:3:36: network.ethernets.a.accept-ra: is neither true nor false to netplan, which gives up the whole network for it\n" +
				"f:3:68: network.ethernets.a.dhcp4-overrides.use-dns: is neither true nor false to netplan, which gives up the whole network for it\n" +
				"f:4:47: network.bridges.r.parameters.priority: is more than one value, and netplan gives up the whole network for it"},
		{"overrides of two kinds", "version: 2\nethernets: {a: {dhcp4: true, dhcp6: true, dhcp4-overrides: {use-dns: no, use-ntp: yes, route-metric: '5'}, dhcp6-overrides: {use-domains: route, route-metric: 5}}}",
			"f:3:63: network.ethernets.a.dhcp4-overrides.use-dns: is not the same for dhcp4 and dhcp6, of which networkd has one value: netplan gives up the whole network for it\n" +
				"f:3:128: network.ethernets.a.dhcp6-overrides.use-domains: is not the same for dhcp4 and dhcp6, of which networkd has one value: netplan gives up the whole network for it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inst := parse(t, "f", "network:\n  "+strings.ReplaceAll(strings.TrimSpace(tc.network), "\n", "\n  ")+"\n")
			if got := fmt.Sprint(errors.Join(nocloud.Doubts(inst)...)); got != cmp.Or(tc.want, "<nil>") {
				t.Errorf("\ngot  %s\nwant %s", got, tc.want)
			}
			if _, err := nocloud.Render(metadata.VM{Name: "vm"}, inst, nocloud.Options{}); (err != nil) != (tc.name == "none of what is wrong") {
				t.Errorf("rendering ends with %v", err)
			}
		})
	}
}

const version2 = `version: 2
ethernets:
  lan:
    match: {macaddress: 12:34:56:12:34:56}
    set-name: eth0
    dhcp4: no
    mtu: 0b10111011100
    addresses: [192.0.2.2/24, "2001:db8::2/64", {192.0.2.3/24: {lifetime: 0, label: "a:b"}}]
    gateway4: 192.0.2.1
    gateway6: fe80::1
    nameservers: {search: [example.com, "yes"], addresses: [192.0.2.53]}
    routes: [{to: 0.0.0.0/0, via: 192.0.2.1, metric: 100}, {to: 10.0.0.0/8, via: 192.0.2.9}]
  lo: {addresses: [127.0.0.1/8, '::1/128', 192.0.2.10/32]}
  any: {match: {name: lo}, addresses: [127.0.0.2/8]}
vlans:
  vlan7: {id: 7, link: any}
`

// A driver in Go writes numbers as Go has them.
func TestNumbersOfADriver(t *testing.T) {
	for _, number := range []func(int) any{
		func(n int) any { return n }, func(n int) any { return int64(n) }, func(n int) any { return uint64(n) }, func(n int) any { return float64(n) },
	} {
		for _, network := range []map[string]any{
			{"version": number(2), "ethernets": map[string]any{"eth0": map[string]any{"dhcp4": true, "mtu": number(1400)}}},
			{"dhcp": true, "mtu": number(1400)},
		} {
			inst := &metadata.Instance{Network: network}
			if _, err := nocloud.Render(metadata.VM{Name: "web1"}, inst, nocloud.Options{}); err != nil {
				t.Errorf("%T: %v", number(2), err)
			}
		}
	}
}

func TestWholeNetworkConfigPasses(t *testing.T) {
	const version1 = `version: 1
config:
- type: physical
  name: eth0
  mac_address: "00:50:56:00:00:01"
  mtu: 1500
  subnets:
  - {type: static, address: 192.0.2.2, netmask: 255.255.255.0, gateway: 192.0.2.1, dns_nameservers: [192.0.2.53], routes: [{network: 10.0.0.0, netmask: 255.0.0.0, gateway: 192.0.2.9}]}
  - {type: static6, address: '2001:db8::2/64'}
  - {type: static, address: 192.0.2.3, netmask: 24, gateway: 192.0.2.1}
  - {type: static, address: 192.0.2.4/24, netmask: 255.255.255.0}
  - {type: static, address: 192.0.2.5/24, netmask: '24'}
  - {type: static, address: '2001:db8::3/64', netmask: 'ffff:ffff:ffff:ffff::'}
  - {type: static, address: 192.0.2.6, prefix: 24, gateway: 192.0.2.1}
  - {type: static, address: 192.0.2.7, prefix: '24'}
  - {type: static, address: 192.0.2.8/24, prefix: 24}
  - {type: static, address: 192.0.2.9, prefix: 24, netmask: 255.255.255.0}
  - {type: static6, address: '2001:db8::4', prefix: 64, gateway: '2001:db8::1'}
- {type: loopback, name: lo, subnets: [{type: loopback}, {type: static, address: 127.0.0.1, prefix: 8}, {type: static, address: 127.0.0.1/8}, {type: static6, address: '::1/128'}, {type: static, address: 192.0.2.1/32}]}
- {type: bond, name: bond0, bond_interfaces: [eth0], params: {bond-mode: "802.3ad"}, subnets: [{type: ipv6_slaac}]}
- {type: nameserver, address: [192.0.2.53], search: [example.com]}
- {type: route, destination: 10.1.0.0/16, gateway: 192.0.2.8}
`
	var written, given [][]byte
	for _, network := range []string{version1, version2, "version: 1\nconfig: disabled\n",
		"version: 2\nrenderer: NetworkManager\nethernets: {a: {dhcp4: true, dhcp6: true, dhcp4-overrides: {use-dns: false}}}\n", "version: 2\nethernets: {}\nfuture-devices: {a: 1}\n", "network:\n  " + strings.ReplaceAll(strings.TrimSpace(version2), "\n", "\n  ")} {
		got, err := render(t, network)
		if err != nil {
			t.Errorf("%s\n%v", network, err)
			continue
		}
		if !strings.HasPrefix(got, "version: ") {
			t.Errorf("does not start with its version:\n%s", got)
		}
		bare := network
		if inner, wrapped := strings.CutPrefix(network, "network:\n  "); wrapped {
			bare = strings.ReplaceAll(inner, "\n  ", "\n")
		}
		written = append(written, []byte(got))
		given = append(given, []byte(strings.Replace(bare, "{macaddress: 12:34:56:12:34:56}", "{macaddress: '12:34:56:12:34:56'}", 1))) // text in any case
	}
	want := yaml11test.Load(t, given)
	for i, got := range yaml11test.Load(t, written) {
		if got != want[i] {
			t.Errorf("PyYAML reads\n%s\nas %s\nand as it was given as %s", written[i], got, want[i])
		}
	}
}

// What contradicts another layer is told with that one's place.
func TestContradictingLayers(t *testing.T) {
	const back = "; a key without a value, in a layer over its own, takes it back)"
	for _, c := range []struct{ site, vm, want, mended string }{
		{"{dhcp: true}", "{address: 10.0.0.2/8}", "vm:1:11: network.address: can't be there beside DHCP: choose one of them (dhcp is at site:1:11" + back, "dhcp: "},
		{"{dhcp: true}", "{address: 10.0.0.2/8}", "(dhcp is at site:1:11", "dhcp: false"},
		{"{dhcp6: true}", "{address: ['2001:db8::2/64']}", "(dhcp6 is at site:1:11" + back, "dhcp6: "},
		{"{netmask: 24}", "{address: 10.0.0.2/8}", "vm:1:11: network.address: has its /prefix: remove the netmask (netmask is at site:1:11" + back, "netmask: "},
		{"{gateway: 10.0.0.1}", "{dhcp: true}", "site:1:11: network.gateway: needs an address beside it: with DHCP the gateway comes from there (dhcp is at vm:1:11" + back, "gateway: "},
		{"{mtu: 1500}", "{gateway: 10.0.0.1, dhcp: true}", "comes from there", "gateway: "},
	} {
		merged := func(more string) (*metadata.Instance, error) {
			var layers []*metadata.Instance
			for _, file := range []struct{ name, text string }{{"site", c.site}, {"vm", c.vm}, {"over", "{" + more + "}"}} {
				instance, err := vmfile.Parse(file.name, []byte("network: "+file.text))
				if err != nil {
					t.Fatal(err)
				}
				layers = append(layers, instance)
			}
			return layer.Merge(layers...)
		}
		instance, err := merged("")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := nocloud.Render(metadata.VM{Name: "a"}, instance, nocloud.Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s under %s: got %v, want %s", c.site, c.vm, err, c.want)
		} else if strings.Contains(c.want, "(") != strings.Contains(err.Error(), "(") {
			t.Errorf("%s under %s: got %v, which names a place in the same file", c.site, c.vm, err)
		}
		if instance, err = merged(c.mended); err != nil {
			t.Fatal(err)
		}
		if _, err := nocloud.Render(metadata.VM{Name: "a"}, instance, nocloud.Options{}); err != nil {
			t.Errorf("%s under %s, with %s: %v", c.site, c.vm, c.mended, err)
		}
	}
}
