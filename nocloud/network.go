package nocloud

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"vmw-cloudinit-metadata/internal/nearest"
	"vmw-cloudinit-metadata/internal/yaml11"
)

// defaultInterface is the name of the flat form's interface: the kernel's own for the first card.
const defaultInterface = "eth0"

// flatKeys are the keys of the flat form.
var flatKeys = []string{"address", "netmask", "gateway", "search", "nameservers", "name", "mac-address", "mtu", "dhcp", "dhcp6"}

// renderNetwork returns the network-config document; nil if there is none.
func renderNetwork(found *findings, network map[string]any, nics []NIC) []byte {
	if network == nil {
		return nil
	}
	path := "network"
	if inner, ok := network["network"].(map[string]any); ok && len(network) == 1 { // as netplan has it, and cloud-init takes it
		network, path = inner, "network.network"
	}
	var config yaml11.Map
	if _, ok := network["version"]; ok {
		checkNetworkConfig(found, path, network)
		version, _ := integer(network["version"])
		if version == 2 && len(found.errs) == 0 {
			network = byName(network)
		}
		config = yaml11.Map{{Key: "version", Value: network["version"]}}
		if version == 2 && network["ethernets"] == nil { // which cloud-init looks into, for networkd
			config = append(config, yaml11.Pair{Key: "ethernets", Value: yaml11.Map{}})
		}
		for _, key := range slices.Sorted(maps.Keys(network)) {
			if key != "version" && network[key] != nil {
				config = append(config, yaml11.Pair{Key: key, Value: portable(complete(key, network[key]))})
			}
		}
	} else {
		config = flatNetwork(found, path, network, nics)
	}
	if len(found.errs) > 0 {
		return nil
	}
	doc, err := yaml11.Append(make([]byte, 0, usualSize), config)
	if err != nil {
		found.add(path, "can't be written as YAML: %s", err)
	}
	return doc
}

// flatNetwork makes a network-config from the flat form of one interface: of version 1, but where that has no word for it that
// reaches the VM.
func flatNetwork(found *findings, path string, network map[string]any, nics []NIC) yaml11.Map {
	f, versionless := flat{found: found, path: path, values: network}, false
	for _, key := range unknownKeys(network) {
		if key == "config" || slices.Contains(deviceKeys, key) {
			found.add(path+"."+key, "belongs to a whole network-config, which needs its version: 1 or 2 beside it")
			versionless = true
			continue
		}
		found.add(path+"."+key, "is not a key of network%s", nearest.Hint(key, flatKeys))
	}
	if versionless {
		return nil
	}
	if network["address"] == nil && network["search"] != nil && network["nameservers"] == nil {
		f.found.doubt(path+".search", "has no effect with netplan or networkd beside DHCP alone: give it nameservers, or have the DHCP server send the domain")
	}
	name := f.text("name")
	if name != "" && !isInterfaceName(name) {
		f.add("name", "%s", nameProblem)
	}
	mac := f.mac(name, nics)
	subnets := f.subnets()
	name = orDefault(name, defaultInterface)
	physical := yaml11.Map{{Key: "type", Value: "physical"}, {Key: "name", Value: name}}
	if mac != "" {
		physical = append(physical, yaml11.Pair{Key: "mac_address", Value: mac})
	}
	if mtu := network["mtu"]; mtu != nil {
		if problem := mtuProblem(mtu, f.ipv6); problem != "" {
			f.add("mtu", "%s", problem)
		}
		number, _ := integer(mtu)
		physical = append(physical, yaml11.Pair{Key: "mtu", Value: number})
	}
	if !f.static && len(f.servers) > 0 {
		return f.dhcpWithServers(name, mac)
	}
	physical = append(physical, yaml11.Pair{Key: "subnets", Value: subnets})
	return yaml11.Map{{Key: "version", Value: 1}, {Key: "config", Value: []any{physical}}}
}

// dhcpWithServers returns a network-config of version 2: of version 1, cloud-init passes no name servers to netplan and networkd
// for an interface that has nothing but DHCP.
func (f *flat) dhcpWithServers(name, mac string) yaml11.Map {
	device := yaml11.Map{}
	if mac != "" {
		device = yaml11.Map{{Key: "match", Value: yaml11.Map{{Key: "macaddress", Value: mac}}}, {Key: "set-name", Value: name}}
	}
	if mtu, ok := integer(f.values["mtu"]); ok {
		device = append(device, yaml11.Pair{Key: "mtu", Value: mtu})
	}
	for _, kind := range []struct{ flat, version2 string }{{"dhcp", "dhcp4"}, {"dhcp6", "dhcp6"}} {
		if f.values[kind.flat] == true {
			device = append(device, yaml11.Pair{Key: kind.version2, Value: true})
		}
	}
	servers := yaml11.Map{{Key: "addresses", Value: f.servers}}
	if len(f.search) > 0 {
		servers = append(servers, yaml11.Pair{Key: "search", Value: f.search})
	}
	device = append(device, yaml11.Pair{Key: "nameservers", Value: servers})
	return yaml11.Map{{Key: "version", Value: 2}, {Key: "ethernets", Value: yaml11.Map{{Key: name, Value: device}}}}
}

// unknownKeys returns those that are none of the flat form's, in order.
func unknownKeys(network map[string]any) []string {
	var unknown []string
	for key := range network {
		if !slices.Contains(flatKeys, key) && key != "mac_address" {
			unknown = append(unknown, key)
		}
	}
	slices.Sort(unknown)
	return unknown
}

// flat reads the flat form.
type flat struct {
	found  *findings
	path   string
	values map[string]any
	// loopback is for the interface of that kind.
	loopback bool
	// ipv6 is set by subnets: there is an IPv6 address, or will be.
	ipv6 bool
	// static is set by subnets: there is an address.
	static bool
	// search and servers are set by subnets.
	search, servers []string
}

func (f *flat) add(key, format string, args ...any) { f.found.add(f.path+"."+key, format, args...) }

// text returns the text at key; "" if there is none.
func (f *flat) text(key string) string {
	switch value := f.values[key].(type) {
	case nil:
	case string:
		if value == "" {
			f.add(key, "is empty: give it a value, or leave the key out")
		}
		return value
	default:
		f.add(key, "must be text")
	}
	return ""
}

// elsewhere says where the first of keys that is there has its value, if that is another file than path's: a layer over the one may
// mean to go without what the other has.
func (f *flat) elsewhere(path string, keys ...string) string {
	for _, key := range keys {
		if f.values[key] == nil || f.found.origin == nil {
			continue
		}
		here, there := f.found.origin.Locate(path), f.found.origin.Locate(f.path+"."+key)
		if there != "" && fileOf(here) != fileOf(there) {
			return fmt.Sprintf(" (%s is at %s; a key without a value, in a layer over its own, takes it back)", key, there)
		}
		return ""
	}
	return ""
}

// fileOf returns a place without its line and column.
func fileOf(place string) string {
	for range 2 {
		place = place[:max(0, strings.LastIndexByte(place, ':'))]
	}
	return place
}

// item is one text of a list, and where it stands.
type item struct {
	path, text string
}

// list returns the texts at key: items of a list, or of one text, separated by blanks or commas.
func (f *flat) list(key string) []item {
	return textList(f.found, f.path+"."+key, f.values[key])
}

func textList(found *findings, path string, value any) []item {
	var items []item
	switch v := value.(type) {
	case nil:
	case string:
		for _, text := range splitList(v) {
			items = append(items, item{path, text})
		}
	case []any:
		items = make([]item, 0, len(v))
		for i, element := range v {
			if text, ok := element.(string); ok && text != "" {
				items = append(items, item{path + "." + strconv.Itoa(i), text})
			} else {
				found.add(path+"."+strconv.Itoa(i), "must be text, and not empty")
			}
		}
	default:
		found.add(path, "must be text or a list of texts")
	}
	return items
}

// splitList returns the texts in one text, separated by blanks or commas.
func splitList(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' || r == '\n' })
}

// truth returns the truth value at key.
func (f *flat) truth(key string) bool {
	value, ok := f.values[key].(bool)
	if !ok && f.values[key] != nil {
		f.add(key, "must be true or false")
	}
	return value
}

// mac returns the MAC address that is given, else that of the guest's card of that name, else of its first.
func (f *flat) mac(name string, nics []NIC) string {
	for _, key := range []string{"mac-address", "mac_address"} {
		if text := f.text(key); text != "" {
			mac, ok := parseMAC(text)
			if !ok {
				f.add(key, "%s", macProblem)
			}
			return mac
		}
	}
	first := ""
	for _, nic := range nics {
		mac, ok := parseMAC(nic.MAC)
		switch {
		case !ok:
		case nic.Name == name:
			return mac
		case first == "":
			first = mac
		}
	}
	return first
}

// subnets returns the subnets of the interface: one for each address, and for DHCP.
func (f *flat) subnets() []any {
	dhcp4, dhcp6 := f.truth("dhcp"), f.truth("dhcp6")
	addresses := f.addresses()
	gateways := f.gateways(addresses)
	var subnets []any
	if dhcp4 {
		subnets = append(subnets, yaml11.Map{{Key: "type", Value: "dhcp4"}})
	}
	if dhcp6 {
		subnets = append(subnets, yaml11.Map{{Key: "type", Value: "dhcp6"}})
	}
	f.ipv6 = dhcp6
	for i, a := range addresses {
		kind, dhcp, key := "static", dhcp4, "dhcp"
		if a.prefix.Addr().Is6() {
			kind, dhcp, key, f.ipv6 = "static6", dhcp6, "dhcp6", true
		}
		subnet := yaml11.Map{{Key: "type", Value: kind}, {Key: "address", Value: a.text}}
		if a.netmask != "" {
			subnet = append(subnet, yaml11.Pair{Key: "netmask", Value: a.netmask})
		}
		for _, gateway := range gateways {
			if gateway.through == i {
				subnet = append(subnet, yaml11.Pair{Key: "gateway", Value: gateway.text})
				if needsRoute(a.prefix, gateway.addr) {
					destination, via := directRoute(gateway.addr)
					subnet = append(subnet, yaml11.Pair{Key: "routes", Value: []any{yaml11.Map{{Key: "destination", Value: destination}, {Key: "gateway", Value: via}}}})
				}
			}
		}
		if dhcp {
			f.found.add(a.path, "can't be there beside DHCP: choose one of them%s", f.elsewhere(a.path, key))
		}
		subnets = append(subnets, subnet)
	}
	if len(subnets) == 0 {
		if f.values["address"] == nil {
			f.found.add(f.path, "needs an address, or dhcp: true")
		}
		return nil
	}
	first := 0
	if f.static = len(addresses) > 0; f.static { // netplan and networkd are not told those of a subnet with DHCP
		first = len(subnets) - len(addresses)
	}
	subnets[first] = f.withDNS(subnets[first].(yaml11.Map))
	return subnets
}

// address is one address of the interface, and how it is written.
type address struct {
	path          string
	prefix        netip.Prefix
	text, netmask string
}

// addresses returns the addresses that are right.
func (f *flat) addresses() []address {
	before := len(f.found.errs)
	items := f.list("address")
	if f.values["address"] != nil && len(items) == 0 && len(f.found.errs) == before {
		f.add("address", "is empty: give it a value, or leave the key out")
	}
	mask := f.text("netmask")
	if mask != "" && len(items) != 1 {
		f.add("netmask", "goes with one address: write the others as 192.0.2.1/24")
		return nil
	}
	var addresses []address
	for _, it := range items {
		a := address{path: it.path, text: it.text}
		var problem string
		switch slash := strings.Contains(it.text, "/"); {
		case slash && mask != "":
			problem = "has its /prefix: remove the netmask" + f.elsewhere(it.path, "netmask")
		case slash:
			a.prefix, problem = parsePrefix(it.text, f.loopback)
		default:
			var addr netip.Addr
			if addr, problem = parseInterfaceAddress(it.text, f.loopback); problem == "" {
				a, problem = f.withNetmask(a, addr, mask)
			}
		}
		if problem != "" {
			f.found.add(it.path, "%s", problem)
			continue
		}
		if a.prefix.IsValid() {
			addresses = append(addresses, a)
		}
	}
	return addresses
}

// withNetmask completes an address that has no prefix of its own. What is wrong with the netmask it reports there.
func (f *flat) withNetmask(a address, addr netip.Addr, mask string) (address, string) {
	if mask == "" {
		return a, "needs a netmask beside it, or a prefix, as in " + exampleWithPrefix(addr)
	}
	if _, err := strconv.Atoi(mask); err == nil { // the length of a prefix
		prefix, problem := withPrefix(addr, mask)
		a.prefix, a.text = prefix, prefix.String()
		return a, problem
	}
	maskAddr, err := netip.ParseAddr(mask)
	if err != nil || maskAddr.Is4() != addr.Is4() {
		f.add("netmask", "is not a netmask for %s, such as 255.255.255.0 for IPv4 or 64 for IPv6", addr)
		return a, ""
	}
	length, ok := parseNetmask(maskAddr)
	if !ok || length == 0 {
		f.add("netmask", "%s is not a netmask: its ones must come first, then its zeros", maskAddr)
		return a, ""
	}
	prefix, problem := withPrefix(addr, strconv.Itoa(length))
	if a.prefix, a.netmask = prefix, mask; addr.Is6() {
		a.text, a.netmask = prefix.String(), ""
	}
	return a, problem
}

// gateway is a router, and the index of the address that reaches it.
type gateway struct {
	text    string
	addr    netip.Addr
	through int
}

// gateways returns the gateways that are right: at most one of IPv4 and one of IPv6.
func (f *flat) gateways(addresses []address) []gateway {
	var gateways []gateway
	seen := map[bool]bool{}
	for _, it := range f.list("gateway") {
		addr, problem := parseHost(it.text)
		switch {
		case problem != "":
		case seen[addr.Is4()]:
			problem = "is the second gateway of its kind: there can be one for IPv4 and one for IPv6"
		case f.values["address"] == nil:
			problem = "needs an address beside it: with DHCP the gateway comes from there" + f.elsewhere(it.path, "dhcp", "dhcp6")
		case len(addresses) > 0: // else the address is wrong, and reported
			var through int
			if through, problem = reach(addresses, addr); problem == "" {
				gateways = append(gateways, gateway{text: it.text, addr: addr, through: through})
			}
		}
		seen[addr.Is4()] = seen[addr.Is4()] || addr.IsValid()
		if problem != "" {
			f.found.add(it.path, "%s", problem)
		}
	}
	return gateways
}

// reach returns the index of the first address from which the gateway can be reached, or says why there is none. One that needs a
// route for it comes last.
func reach(addresses []address, gateway netip.Addr) (through int, problem string) {
	outside := -1
	for i, a := range addresses {
		if a.prefix.Addr().Is4() != gateway.Is4() {
			continue
		}
		why := gatewayProblem(a.prefix, gateway)
		switch {
		case why != "":
			problem = why
		case !needsRoute(a.prefix, gateway):
			return i, ""
		case outside < 0:
			outside = i
		}
	}
	if outside >= 0 {
		return outside, ""
	}
	if problem == "" {
		problem = fmt.Sprintf("%s needs an address of its kind (IPv4 or IPv6)", gateway)
	}
	return 0, problem
}

// withDNS adds name servers and search domains to a subnet.
func (f *flat) withDNS(subnet yaml11.Map) yaml11.Map {
	f.search, f.servers = checkSearch(f.found, f.list("search")), checkNameservers(f.found, f.list("nameservers"))
	if len(f.search) > 0 {
		subnet = append(subnet, yaml11.Pair{Key: "dns_search", Value: f.search})
	}
	if len(f.servers) > 0 {
		subnet = append(subnet, yaml11.Pair{Key: "dns_nameservers", Value: f.servers})
	}
	return subnet
}

func checkSearch(found *findings, items []item) []string {
	domains := make([]string, 0, len(items))
	for _, it := range items {
		if !isDomain(it.text) {
			found.add(it.path, "is not the name of a domain")
		}
		domains = append(domains, it.text)
	}
	return domains
}

func checkNameservers(found *findings, items []item) []string {
	servers := make([]string, 0, len(items))
	for _, it := range items {
		if _, problem := parseHost(it.text); problem != "" {
			found.add(it.path, "%s", problem)
		}
		servers = append(servers, it.text)
	}
	return servers
}

func orDefault(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}
