package nocloud

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The words that cloud-init knows for the type of an item of a version 1 network-config, and for that of a subnet.
var (
	itemTypes   = []string{"physical", "bond", "bridge", "vlan", "infiniband", "loopback", "nameserver", "route"}
	subnetTypes = []string{"dhcp", "dhcp4", "dhcp6", "static", "static6", "manual",
		"ipv6_dhcpv6-stateful", "ipv6_dhcpv6-stateless", "ipv6_slaac"}
	subnetControls = []string{"auto", "manual", "hotplug"}
)

// requiredKeys are those without which cloud-init passes over an item of that type, or gives up the whole network.
var requiredKeys = map[string][]string{
	"bond": {"bond_interfaces", "params"}, "bridge": {"bridge_interfaces"}, "vlan": {"vlan_link", "vlan_id"}, "nameserver": {"address"}, "route": {"gateway"},
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
	names, members := map[string]bool{}, map[string]string{}
	var references []node // by which interfaces may be named
	for i, element := range items {
		path := path + "." + strconv.Itoa(i)
		values, ok := element.(map[string]any)
		if !ok {
			found.add(path, "must be a mapping: keys with their values")
			continue
		}
		it := node{found: found, path: path, values: values}
		it.misspelt(itemKeys)
		kind := it.word("type", itemTypes)
		it.needs(kind, requiredKeys[kind]...)
		it.mappings("params")
		it.lists("bond_interfaces", "bridge_interfaces")
		switch kind {
		case "":
		case "route":
			it.route(routeWords{to: []string{"destination"}, via: "gateway"})
		case "nameserver":
			it.servers("address")
			it.texts("search")
		default:
			it.link("mac_address", names)
			it.version1Subnets(kind == "loopback")
		}
		switch kind {
		case "bridge":
			it.bridgeVersion1()
		case "vlan":
			it.number("vlan_id", maxVLAN)
		}
		references = append(references, it)
	}
	for _, it := range references {
		it.refersTo("interface", names)
		it.refersTo("vlan_link", names)
		for _, key := range []string{"bond_interfaces", "bridge_interfaces"} {
			it.consistsOf(key, names, members)
		}
		if kind := it.values["type"]; kind == "bond" || kind == "bridge" {
			it.params(names)
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

// version1Subnets checks an interface's subnets, and its MTU against them.
func (n node) version1Subnets(loopback bool) {
	ipv6, types := false, subnetTypes
	if loopback {
		types = append(slices.Clone(types), "loopback")
	}
	n.each("subnets", func(subnet node) {
		subnet.misspelt(subnetKeys)
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
		subnet.texts("dns_search")
		subnet.number("mtu", maxMTU)
		if value := subnet.values["control"]; value != nil {
			subnet.word("control", subnetControls)
		}
		subnet.each("routes", func(route node) {
			route.misspelt(version1RouteKeys)
			route.needs("route", "gateway")
			route.route(routeWords{to: []string{"destination", "network"}, via: "gateway"})
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
