package nocloud

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"vmw-cloudinit-metadata/internal/nearest"
)

// The words that cloud-init knows for the type of an item of a version 1 network-config, and for that of a subnet.
var (
	itemTypes   = []string{"physical", "bond", "bridge", "vlan", "infiniband", "loopback", "nameserver", "route"}
	subnetTypes = []string{"dhcp", "dhcp4", "dhcp6", "static", "static6", "manual",
		"ipv6_dhcpv6-stateful", "ipv6_dhcpv6-stateless", "ipv6_slaac"}
)

// requiredKeys are those without which cloud-init passes over an item of that type.
var requiredKeys = map[string][]string{
	"bond": {"bond_interfaces", "params"}, "bridge": {"bridge_interfaces"}, "vlan": {"vlan_link", "vlan_id"}, "nameserver": {"address"}, "route": {"destination"},
}

// deviceKeys are the keys of a version 2 network-config. Those that hold mappings of devices come first.
var deviceKeys = []string{"ethernets", "bonds", "bridges", "vlans", "wifis", "tunnels", "vrfs", "dummy-devices", "modems",
	"virtual-ethernets", "nm-devices", "openvswitch", "renderer", "version"}

// deviceMaps is how many of deviceKeys hold mappings of devices that we look into.
const deviceMaps = 8

// checkNetworkConfig checks what cloud-init would take without a word, and leave the VM without a network for.
// What it knows nothing of passes: cloud-init's own schema is the judge of the rest.
func checkNetworkConfig(found *findings, path string, network map[string]any) {
	version, ok := integer(network["version"])
	switch {
	case ok && version == 1:
		checkVersion1(found, path, network)
	case ok && version == 2:
		checkVersion2(found, path, network)
	default:
		found.add(path+".version", "must be 1 or 2")
	}
}

func checkVersion1(found *findings, path string, network map[string]any) {
	for _, key := range slices.Sorted(maps.Keys(network)) {
		if key != "version" && key != "config" {
			found.add(path+"."+key, "is not a key of a network-config of version 1: known are version, config")
		}
	}
	path += ".config"
	if network["config"] == "disabled" {
		return
	}
	items, ok := network["config"].([]any)
	if !ok {
		found.add(path, "must be a list of interfaces, or the word disabled")
		return
	}
	names := map[string]bool{}
	var interfaces []node // that name servers are for
	for i, element := range items {
		path := path + "." + strconv.Itoa(i)
		values, ok := element.(map[string]any)
		if !ok {
			found.add(path, "must be a mapping: keys with their values")
			continue
		}
		it := node{found: found, path: path, values: values}
		kind := it.word("type", itemTypes)
		it.needs(kind, requiredKeys[kind]...)
		it.mappings("params")
		it.lists("bond_interfaces", "bridge_interfaces")
		switch kind {
		case "":
		case "route":
			it.destination("destination")
		case "nameserver":
			it.servers("address")
			interfaces = append(interfaces, it)
		default:
			it.link("mac_address", names)
			it.version1Subnets(kind == "loopback")
		}
	}
	for _, it := range interfaces {
		if name, ok := it.values["interface"].(string); ok && !names[name] {
			it.add("interface", "is none of the interfaces here")
		}
	}
}

// needs reports the keys without a value. kind is the word for what lacks them.
func (n node) needs(kind string, keys ...string) {
	for _, key := range keys {
		if n.values[key] == nil {
			n.add(key, "is missing, and a %s is nothing without it", kind)
		}
	}
}

// mappings reports values that are no mappings, at which cloud-init fails.
func (n node) mappings(keys ...string) {
	for _, key := range keys {
		if _, ok := n.values[key].(map[string]any); !ok && n.values[key] != nil {
			n.add(key, "must be a mapping: keys with their values")
		}
	}
}

// lists reports values that are no lists, which cloud-init takes apart letter by letter.
func (n node) lists(keys ...string) {
	for _, key := range keys {
		if _, ok := n.values[key].([]any); !ok && n.values[key] != nil {
			n.add(key, "must be a list")
		}
	}
}

// oneText reports what is more than one text where the flat form may have several. What is no text is reported elsewhere.
func (n node) oneText(key string) {
	_, isList := n.values[key].([]any)
	if text, _ := n.values[key].(string); isList || strings.ContainsAny(text, " ,\t\n") {
		n.add(key, "must be one text, without blanks or commas: each address has a subnet of its own")
	}
}

// destination checks where a route leads to, if that is text.
func (n node) destination(key string) {
	text, ok := n.values[key].(string)
	if !ok {
		return
	}
	host, length, hasLength := strings.Cut(text, "/")
	addr, err := netip.ParseAddr(host)
	if err == nil && hasLength {
		if mask, maskErr := netip.ParseAddr(length); maskErr == nil {
			_, ok = parseNetmask(mask)
			ok = ok && mask.Is4() == addr.Is4()
		} else {
			_, err = netip.ParsePrefix(text)
		}
	}
	if err != nil || !ok {
		n.add(key, "is no network, such as 192.0.2.0/24")
	}
}

// version1Subnets checks an interface's subnets, and its MTU against them.
func (n node) version1Subnets(loopback bool) {
	ipv6, types := false, subnetTypes
	if loopback {
		types = append(slices.Clone(types), "loopback")
	}
	n.each("subnets", func(subnet node) {
		kind := subnet.word("type", types)
		static := kind == "static" || kind == "static6"
		subnet.oneText("address")
		subnet.oneText("gateway")
		if kind == "dhcp6" || strings.HasPrefix(kind, "ipv6") {
			ipv6 = true
		}
		f := flat{found: n.found, path: subnet.path, values: subnet.oneMask(loopback), loopback: loopback}
		addresses := f.addresses()
		if static && subnet.values["address"] == nil {
			subnet.add("address", "is missing: a static subnet needs one")
		}
		if len(addresses) > 0 && addresses[0].prefix.Addr().Is6() {
			ipv6 = true
		}
		if static {
			f.gateways(addresses)
		}
		subnet.servers("dns_nameservers")
		subnet.each("routes", func(route node) {
			route.destination("network")
			route.destination("destination")
			if route.values["network"] == nil {
				route.needs("route", "destination")
			}
		})
	})
	n.mtu("mtu", ipv6)
}

// oneMask returns a subnet's values as the flat form has them: cloud-init takes a netmask that is a number, a prefix in its
// place, and more than one of an address's /prefix, prefix and netmask. It reports a prefix that contradicts the others, of
// which cloud-init would choose one.
func (n node) oneMask(loopback bool) map[string]any {
	mask, length := maskText(n.values["netmask"]), maskText(n.values["prefix"])
	if n.values["prefix"] != nil {
		if _, err := strconv.Atoi(length); err != nil {
			n.add("prefix", "must be a number: the length of the address's prefix")
			length = ""
		}
	}
	if mask == "" && length == "" {
		return n.values
	}
	values := maps.Clone(n.values)
	text, _ := values["address"].(string)
	host, _, _ := strings.Cut(text, "/")
	addr, _ := parseInterfaceAddress(host, loopback)
	own, _ := parsePrefix(text, loopback)
	masked := flat{found: &findings{}}
	byMask, _ := masked.withNetmask(address{}, addr, mask)
	byLength, _ := masked.withNetmask(address{}, addr, length)
	switch valid := byLength.prefix.IsValid(); {
	case valid && own.IsValid() && own != byLength.prefix:
		n.add("prefix", "is not that of the address: leave one of them out")
		length, byLength = "", address{}
	case valid && byMask.prefix.IsValid() && byMask.prefix != byLength.prefix:
		n.add("prefix", "is not that of the netmask: leave one of them out")
	}
	if mask == "" {
		mask, byMask = length, byLength
	}
	values["netmask"] = mask
	if mask == "" || own.IsValid() && own == byMask.prefix {
		delete(values, "netmask")
	}
	return values
}

// maskText returns a number or a text as a text.
func maskText(value any) string {
	if length, ok := integer(value); ok {
		return strconv.FormatInt(length, 10)
	}
	text, _ := value.(string)
	return text
}

func checkVersion2(found *findings, path string, network map[string]any) {
	names := map[string]bool{}
	for _, key := range slices.Sorted(maps.Keys(network)) {
		at := slices.Index(deviceKeys, key)
		if at < 0 {
			if _, list := network[key].([]any); list && key == "config" {
				found.add(path+"."+key, "is a list of version 1, of which version 2 takes nothing: write version: 1")
			} else if meant, _ := nearest.Word(key, deviceKeys); meant != "" {
				found.add(path+"."+key, "is not a key of a network-config of version 2: did you mean %s?", meant)
			}
			continue
		}
		if at >= deviceMaps || network[key] == nil {
			continue
		}
		devices, ok := network[key].(map[string]any)
		if !ok {
			found.add(path+"."+key, "must be a mapping of devices")
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(devices)) {
			path := path + "." + key + "." + name
			values, ok := devices[name].(map[string]any)
			if !ok && devices[name] != nil {
				found.add(path, "must be a mapping: keys with their values")
				continue
			}
			if names[name] {
				found.add(path, "is there twice: a device of another kind has that name")
			}
			names[name] = true
			device := node{found: found, path: path, values: values}
			device.device()
			if key == "vlans" {
				device.needs("VLAN", "id", "link")
			}
		}
	}
}

// device checks one device of version 2.
func (n node) device() {
	n.mac("macaddress")
	n.truth("dhcp4")
	n.truth("dhcp6")
	n.mappings("match", "nameservers", "dhcp4-overrides", "dhcp6-overrides", "parameters")
	n.lists("interfaces")
	match, hasMatch := n.values["match"].(map[string]any)
	if hasMatch {
		node{found: n.found, path: n.path + ".match", values: match}.mac("macaddress")
	}
	if name, ok := n.values["set-name"].(string); ok {
		if !isInterfaceName(name) {
			n.add("set-name", "%s", nameProblem)
		}
		if !hasMatch {
			n.add("set-name", "needs a match beside it")
		}
	}
	addresses, ipv6 := n.version2Addresses(strings.HasSuffix(n.path, ".lo") || match["name"] == "lo")
	n.mtu("mtu", ipv6 || n.values["dhcp6"] == true)
	n.version2Gateway("gateway4", true, addresses)
	n.version2Gateway("gateway6", false, addresses)
	if servers, ok := n.values["nameservers"].(map[string]any); ok {
		node{found: n.found, path: n.path + ".nameservers", values: servers}.servers("addresses")
	}
	n.each("routes", func(route node) {
		route.needs("route", "to")
		if route.values["to"] != "default" {
			route.destination("to")
		}
		if via, ok := route.values["via"].(string); ok {
			if _, problem := parseHost(via); problem != "" {
				route.add("via", "%s", problem)
			}
		}
	})
}

// version2Addresses returns the addresses that are right, and whether one of them is IPv6.
func (n node) version2Addresses(loopback bool) (addresses []address, ipv6 bool) {
	list, ok := n.values["addresses"].([]any)
	if !ok && n.values["addresses"] != nil {
		n.add("addresses", "must be a list of addresses with their /prefix")
	}
	for i, element := range list {
		path := n.path + ".addresses." + strconv.Itoa(i)
		if withOptions, ok := element.(map[string]any); ok && len(withOptions) == 1 { // netplan: the address, with its options
			for text := range withOptions {
				element = text
			}
		}
		text, ok := element.(string)
		if !ok {
			n.found.add(path, "must be text: an address with its /prefix")
			continue
		}
		prefix, problem := parsePrefix(text, loopback)
		if problem != "" {
			n.found.add(path, "%s", problem)
			continue
		}
		ipv6 = ipv6 || prefix.Addr().Is6()
		addresses = append(addresses, address{path: path, prefix: prefix, text: text})
	}
	return addresses, ipv6
}

// version2Gateway checks gateway4 or gateway6. Beside DHCP of its kind it may be in a subnet that we don't know.
func (n node) version2Gateway(key string, is4 bool, addresses []address) {
	value, there := n.values[key]
	if !there || value == nil {
		return
	}
	text, _ := value.(string)
	gateway, problem := parseHost(text)
	switch {
	case problem == "" && gateway.Is4() != is4:
		problem = gateway.String() + " is not an address of its kind"
	case problem == "" && (is4 && n.values["dhcp4"] != true || !is4 && n.values["dhcp6"] != true):
		_, problem = reach(addresses, gateway)
	}
	if problem != "" {
		n.add(key, "%s", problem)
	}
}

// node is one mapping of a network-config.
type node struct {
	found  *findings
	path   string
	values map[string]any
}

func (n node) add(key, format string, args ...any) { n.found.add(n.path+"."+key, format, args...) }

// word returns the text at key, which must be one of known.
func (n node) word(key string, known []string) string {
	switch word, ok := n.values[key].(string); {
	case n.values[key] == nil:
		n.add(key, "is missing: one of %s", strings.Join(known, ", "))
	case !ok:
		n.add(key, "must be text: one of %s", strings.Join(known, ", "))
	case !slices.Contains(known, word):
		n.add(key, "is none that cloud-init knows%s", nearest.Hint(word, known))
	default:
		return word
	}
	return ""
}

// link checks an interface's name, which no other may have, and its MAC address.
func (n node) link(macKey string, names map[string]bool) {
	name, ok := n.values["name"].(string)
	switch {
	case n.values["name"] == nil:
		n.add("name", "is missing: the name of the network interface, such as eth0")
	case !ok || !isInterfaceName(name):
		n.add("name", "%s", nameProblem)
	case names[name]:
		n.add("name", "is there twice: another interface has it")
	}
	names[name] = true
	n.mac(macKey)
}

func (n node) mac(key string) {
	if value := n.values[key]; value != nil {
		text, _ := value.(string)
		if _, ok := parseMAC(text); !ok {
			n.add(key, "%s", macProblem)
		}
	}
}

func (n node) truth(key string) {
	if _, ok := n.values[key].(bool); !ok && n.values[key] != nil {
		n.add(key, "must be true or false")
	}
}

func (n node) mtu(key string, ipv6 bool) {
	if value := n.values[key]; value != nil {
		if problem := mtuProblem(value, ipv6); problem != "" {
			n.add(key, "%s", problem)
		}
	}
}

// servers checks the addresses of name servers.
func (n node) servers(key string) {
	checkNameservers(n.found, textList(n.found, n.path+"."+key, n.values[key]))
}

// each calls visit for the mappings of a list.
func (n node) each(key string, visit func(node)) {
	list, ok := n.values[key].([]any)
	if !ok && n.values[key] != nil {
		n.add(key, "must be a list")
	}
	for i, element := range list {
		path := n.path + "." + key + "." + strconv.Itoa(i)
		if values, ok := element.(map[string]any); ok {
			visit(node{found: n.found, path: path, values: values})
		} else {
			n.found.add(path, "must be a mapping: keys with their values")
		}
	}
}
