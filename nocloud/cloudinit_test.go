package nocloud_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"vmw-cloudinit-metadata/internal/testenv"
)

// TestCloudInitTakesPrefixes has the real cloud-init make files for networkd of what we pass on.
func TestCloudInitTakesPrefixes(t *testing.T) {
	const interfaces = "version: 1\nconfig: [{type: %s, name: %s, subnets: [{%s}]}]"
	cases := []struct{ kind, name, subnet, want string }{
		{"physical", "eth0", "type: static, address: 192.0.2.6, prefix: 20", "192.0.2.6/20"},
		{"physical", "eth0", "type: static, address: 192.0.2.6, prefix: '20'", "192.0.2.6/20"},
		{"physical", "eth0", "type: static, address: 192.0.2.6/20, prefix: 20", "192.0.2.6/20"},
		{"physical", "eth0", "type: static, address: 192.0.2.6, prefix: 20, netmask: 255.255.240.0", "192.0.2.6/20"},
		{"physical", "eth0", "type: static, address: 192.0.2.6/20, prefix: 20, netmask: 20", "192.0.2.6/20"},
		{"physical", "eth0", "type: static6, address: '2001:db8::4', prefix: 56", "2001:db8::4/56"},
		{"physical", "eth0", "type: static, address: '2001:db8::4', prefix: 56", "2001:db8::4/56"},
		{"loopback", "lo", "type: static, address: 127.0.0.2/8", "127.0.0.2/8"},
		{"loopback", "lo", "type: static, address: 127.0.0.2, prefix: 8", "127.0.0.2/8"},
		{"loopback", "lo", "type: static6, address: '::1/128'", "::1/128"},
		{"loopback", "lo", "type: static, address: 192.0.2.6/32", "192.0.2.6/32"},
	}
	var configs []string
	var want [][]string
	for _, c := range cases {
		config, err := render(t, fmt.Sprintf(interfaces, c.kind, c.name, c.subnet))
		if err != nil {
			t.Errorf("%s: %v", c.subnet, err)
			continue
		}
		configs, want = append(configs, config), append(want, []string{c.want})
	}
	for _, suite := range []string{"bookworm", "trixie"} {
		for i, got := range readNetworks(t, suite, configs) {
			if got.Problem != "" || !slices.Equal(got.Networkd.Addresses, want[i]) {
				t.Errorf("%s: %s\ngives %+v, want %v", suite, configs[i], got, want[i])
			}
		}
	}
}

// A gateway out of a subnet of one address has a route of its own: of the two releases, the older says nothing of it to netplan and
// networkd, which then set no default route.
func TestCloudInitReachesGateways(t *testing.T) {
	const interfaces = "version: 1\nconfig: [{type: physical, name: eth0, subnets: [{%s}]}]"
	cases := []struct {
		network string
		routes  []string
	}{
		{"address: 192.0.2.7\nnetmask: 255.255.255.255\ngateway: 198.51.100.1", []string{"198.51.100.1/32"}},
		{"address: [192.0.2.7/32, '2001:db8::7/128']\ngateway: [198.51.100.1, '2001:db8:1::1']", []string{"198.51.100.1/32", "2001:db8:1::1/128"}},
		{fmt.Sprintf(interfaces, "type: static, address: 192.0.2.7/32, gateway: 198.51.100.1, routes: [{destination: 10.0.0.0/8, gateway: 198.51.100.1}]"), []string{"10.0.0.0/8", "198.51.100.1/32"}},
		{fmt.Sprintf(interfaces, "type: static, address: 192.0.2.7, netmask: 32, gateway: 198.51.100.1"), []string{"198.51.100.1/32"}},
		{fmt.Sprintf(interfaces, "type: static6, address: '2001:db8::7', prefix: 128, gateway: '2001:db8:1::1'"), []string{"2001:db8:1::1/128"}},
		{fmt.Sprintf(interfaces, "type: static, address: 192.0.2.7/32, gateway: 198.51.100.1, routes: [{network: 198.51.100.0/24, gateway: 0.0.0.0}]"), []string{"198.51.100.0/24"}},
		{fmt.Sprintf(interfaces, "type: static, address: 192.0.2.7/24, gateway: 192.0.2.1"), nil},
		{"version: 2\nethernets: {eth0: {addresses: [192.0.2.7/32, '2001:db8::7/128'], gateway4: 198.51.100.1, gateway6: '2001:db8:1::1'}}", []string{"198.51.100.1/32", "2001:db8:1::1/128"}},
		{"version: 2\nethernets: {eth0: {addresses: [192.0.2.7/32, 198.51.100.2/24, '2001:db8::7/128'], gateway4: 198.51.100.1, gateway6: 'fe80::1'}}", nil},
		{"version: 2\nethernets: {eth0: {addresses: [192.0.2.7/32], gateway4: 198.51.100.1, routes: [{to: 198.51.100.0/24, via: 0.0.0.0}]}}", []string{"198.51.100.0/24"}},
	}
	configs := make([]string, len(cases))
	for i, c := range cases {
		var err error
		if configs[i], err = render(t, c.network); err != nil {
			t.Fatalf("%s: %v", c.network, err)
		}
	}
	for _, suite := range []string{"bookworm", "trixie"} {
		for i, got := range readNetworks(t, suite, configs) {
			for by, is := range map[string]rendered{"networkd": got.Networkd, "netplan": got.Netplan} {
				routes := slices.DeleteFunc(is.Routes, func(to string) bool { return to == "default" })
				if slices.Sort(routes); got.Problem != "" || !slices.Equal(routes, cases[i].routes) {
					t.Errorf("%s: %s: %s%s has the routes %q, want %q", suite, configs[i], got.Problem, by, routes, cases[i].routes)
				}
			}
		}
	}
}

// network is what cloud-init makes of a network-config.
type network struct {
	Networkd, Netplan rendered
	Problem           string
}

type rendered struct{ Addresses, DNS, Routes []string }

// readNetworks has the real cloud-init read network-configs.
func readNetworks(t *testing.T, suite string, configs []string) []network {
	t.Helper()
	input, err := json.Marshal(configs)
	if err != nil {
		t.Fatal(err)
	}
	root := testenv.CloudInit(t, suite)
	python := testenv.Python(t, "yaml", "jinja2", "configobj", "requests", "jsonpatch", "netifaces")
	cmd := exec.CommandContext(t.Context(), python, filepath.Join("testdata", "network.py"), filepath.Join(root, "usr", "lib", "python3", "dist-packages"))
	cmd.Stdin = bytes.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var got []network
	if err != nil || json.Unmarshal(out, &got) != nil || len(got) != len(configs) {
		t.Fatalf("%s: %v\n%s\n%s", suite, err, out, stderr.Bytes())
	}
	return got
}

// cloud-init gives up the whole network if a card has not the very text of a MAC address that the kernel has for it.
func TestCloudInitFindsCards(t *testing.T) {
	const (
		version1 = "version: 1\nconfig: [{type: physical, name: eth0, mac_address: '%s', subnets: [{type: dhcp4}]}]"
		version2 = "version: 2\nethernets: {eth0: {match: {macaddress: '%s'}, set-name: eth0, dhcp4: true}}"
	)
	var configs []string
	for _, form := range []string{version1, version2} {
		for _, mac := range []string{"00:50:56:ab:cd:ef", "00:50:56:AB:CD:EF", "00-50-56-AB-CD-EF", "0050.56ab.cdef"} {
			config, err := render(t, fmt.Sprintf(form, mac))
			if err != nil {
				t.Errorf("%s: %v", mac, err)
			}
			configs = append(configs, config)
		}
	}
	for _, suite := range []string{"bookworm", "trixie"} {
		for i, got := range readNetworks(t, suite, configs) {
			if got.Problem != "" {
				t.Errorf("%s: %s\n%s", suite, configs[i], got.Problem)
			}
		}
	}
}

// Some ways to write a network-config make cloud-init give it up, or make netplan, and some do only where there is no netplan.
func TestCloudInitTakesNetworkConfigs(t *testing.T) {
	cases := []struct {
		name, config   string
		addresses, dns []string
		route          string
	}{
		{"DHCP with name servers", "dhcp: true\nmtu: 1400\nmac-address: 00:50:56:ab:cd:ef\nnameservers: [192.0.2.53, '2001:db8::53']\nsearch: a.example", nil, []string{"192.0.2.53", "2001:db8::53", "a.example"}, ""},
		{"DHCP of both kinds with name servers", "dhcp: true\ndhcp6: true\nnameservers: 192.0.2.53", nil, []string{"192.0.2.53"}, ""},
		{"DHCP beside an address, with name servers", "dhcp: true\naddress: 2001:db8::2/64\nnameservers: 192.0.2.53\nsearch: a.example", []string{"2001:db8::2/64"}, []string{"192.0.2.53", "a.example"}, ""},
		{"a default route", "version: 2\nethernets: {eth0: {addresses: [192.0.2.5/24], routes: [{to: default, via: 192.0.2.1}]}}", []string{"192.0.2.5/24"}, nil, "0.0.0.0/0"},
		{"a default route of IPv6", "version: 2\nethernets: {eth0: {addresses: ['2001:db8::5/64'], routes: [{to: default, via: 'fe80::1'}]}}", []string{"2001:db8::5/64"}, nil, "::/0"},
		{"a route without a router", "version: 2\nethernets: {eth0: {addresses: [192.0.2.5/24], routes: [{to: 10.0.0.0/8}]}}", []string{"192.0.2.5/24"}, nil, "10.0.0.0/8"},
		{"a route without a length", "version: 2\nethernets: {eth0: {addresses: [192.0.2.5/24], routes: [{to: 10.1.2.3, via: 192.0.2.1}]}}", []string{"192.0.2.5/24"}, nil, "10.1.2.3/32"},
		{"a route with a netmask", "version: 2\nethernets: {eth0: {addresses: [192.0.2.5/24], routes: [{to: 10.0.0.0/255.0.0.0, via: 192.0.2.1}]}}", []string{"192.0.2.5/24"}, nil, "10.0.0.0/8"},
		{"a route of version 1 with a metric as text",
			"version: 1\nconfig: [{type: physical, name: eth0, subnets: [{type: static, address: 192.0.2.5/24, routes: [{destination: 10.0.0.0, netmask: 8, gateway: 192.0.2.1, metric: '100'}]}]}]",
			[]string{"192.0.2.5/24"}, nil, "10.0.0.0/8"},
		{"a bridge's parameters", "version: 1\nconfig: [{type: physical, name: eth0, subnets: [{type: static, address: 192.0.2.5/24}]}, {type: bridge, name: br0, bridge_interfaces: [eth0], params: {bridge_stp: 'no', bridge_pathcost: [eth0 50]}}]", []string{"192.0.2.5/24"}, nil, ""},
		{"a bridge's parameters in version 2", "version: 2\nethernets: {eth0: {addresses: [192.0.2.5/24]}}\nbridges: {br0: {interfaces: [eth0], parameters: {stp: 'no', path-cost: {eth0: 50}}}}", []string{"192.0.2.5/24"}, nil, ""},
		{"a device without keys", "version: 2\nbonds:\nethernets: {eth0: {addresses: [192.0.2.5/24]}, eth1: }", []string{"192.0.2.5/24"}, nil, ""},
		{"a bridge without interfaces", "version: 2\nbridges: {br0: {dhcp4: true}}\nethernets: {eth0: {addresses: [192.0.2.5/24]}}", []string{"192.0.2.5/24"}, nil, ""},
		{"a bridge of a card with a name", "version: 2\nethernets: {lan: {match: {macaddress: '00:50:56:ab:cd:ef'}, set-name: eth0, addresses: [192.0.2.5/24]}}\nbridges: {br0: {interfaces: [lan]}}", []string{"192.0.2.5/24"}, nil, ""},
		{"no cards", "version: 2\nbridges: {br0: {interfaces: []}}", nil, nil, ""},
		{"cards without a value", "version: 2\nethernets:\nbridges: {br0: {interfaces: []}}", nil, nil, ""},
		{"keys without values", "version: 2\nethernets: {eth0: {addresses: [192.0.2.5/24], routes: , match: , mtu: , nameservers: , dhcp4-overrides: , dhcp4: }}", []string{"192.0.2.5/24"}, nil, ""},
		{"keys without values in version 1",
			"version: 1\nconfig: [{type: physical, name: eth0, mac_address: '00:50:56:ab:cd:ef', params: , subnets: [{type: static, address: 192.0.2.5/24, gateway: , routes: }]}]",
			[]string{"192.0.2.5/24"}, nil, ""},
		{"name servers in one text",
			"version: 1\nconfig: [{type: physical, name: eth0, subnets: [{type: static, address: 192.0.2.5/24, dns_nameservers: '192.0.2.53, 192.0.2.54', dns_search: 'a.example, b.example'}]}]",
			[]string{"192.0.2.5/24"}, []string{"192.0.2.53", "192.0.2.54", "a.example", "b.example"}, ""},
		{"name servers in one text of an item",
			"version: 1\nconfig: [{type: physical, name: eth0, subnets: [{type: static, address: 192.0.2.5/24}]}, {type: nameserver, address: 192.0.2.53 192.0.2.54, search: a.example b.example}]",
			[]string{"192.0.2.5/24"}, []string{"192.0.2.53", "192.0.2.54", "a.example", "b.example"}, ""},
		{"name servers in one text in version 2", "version: 2\nethernets: {eth0: {addresses: [192.0.2.5/24], nameservers: {addresses: '192.0.2.53, 192.0.2.54', search: a.example}}}",
			[]string{"192.0.2.5/24"}, []string{"192.0.2.53", "192.0.2.54", "a.example"}, ""},
	}
	var configs []string
	for _, c := range cases {
		config, err := render(t, c.config)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		configs = append(configs, config)
	}
	for _, suite := range []string{"bookworm", "trixie"} {
		for i, got := range readNetworks(t, suite, configs) {
			c := cases[i]
			if got.Problem != "" {
				t.Errorf("%s: %s: %s", suite, c.name, got.Problem)
				continue
			}
			for by, is := range map[string]rendered{"networkd": got.Networkd, "netplan": got.Netplan} {
				if !slices.Equal(is.Addresses, c.addresses) || !slices.Equal(is.DNS, c.dns) || c.route != "" && !slices.Equal(is.Routes, []string{c.route}) && (suite != "bookworm" || c.route != "::/0") { // which bookworm's takes for ::/64
					t.Errorf("%s: %s: %s has %+v, want %v %v %v", suite, c.name, by, is, c.addresses, c.dns, c.route)
				}
			}
		}
	}
}
