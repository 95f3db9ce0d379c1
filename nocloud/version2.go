package nocloud

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"vmw-cloudinit-metadata/internal/nearest"
)

// deviceKeys are the keys of a version 2 network-config. Those that hold mappings of devices come first.
var deviceKeys = []string{"ethernets", "bonds", "bridges", "vlans", "wifis", "tunnels", "vrfs", "dummy-devices", "modems",
	"virtual-ethernets", "nm-devices", "openvswitch", "renderer", "version"}

// deviceMaps is how many of deviceKeys hold mappings of devices that we look into.
const deviceMaps = 8

func checkVersion2(found *findings, path string, network map[string]any) {
	names := map[string]bool{}
	var references []node // by which devices may be named
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
		devices, ok := network[key].(map[string]any)
		if at >= deviceMaps {
			for name := range devices {
				names[name] = true
			}
			continue
		}
		if !ok && network[key] != nil {
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
			if network["renderer"] != networkManager && values["renderer"] != networkManager {
				device.sameOverrides()
			}
			switch key {
			case "bridges":
				device.bridgeVersion2()
			case "vlans":
				device.needs("VLAN", "id", "link")
				device.number("id", maxVLAN)
			}
			if key == "bonds" || key == "bridges" || key == "vlans" {
				device.without("match", "set-name", "wakeonlan")
			}
			references = append(references, device)
		}
	}
	if network["openvswitch"] != nil { // has more of them
		return
	}
	members := map[string]string{}
	for _, device := range references {
		if strings.HasPrefix(device.path, path+".bonds.") || strings.HasPrefix(device.path, path+".bridges.") {
			device.params(names)
		}
		if strings.HasPrefix(device.path, path+".vlans.") {
			device.refersTo("link", names)
		}
		device.consistsOf("interfaces", names, members)
	}
}

// device checks one device of version 2.
func (n node) device() {
	n.misspelt(keysOfDevice)
	n.mac("macaddress")
	n.truth("dhcp4")
	n.truth("dhcp6")
	n.truths("optional", "critical", "wakeonlan", "accept-ra", "ipv6-privacy", "ignore-carrier", "emit-lldp")
	n.mappings("match", "nameservers", "dhcp4-overrides", "dhcp6-overrides", "parameters")
	n.lists("interfaces")
	for _, key := range []string{"dhcp4-overrides", "dhcp6-overrides"} {
		values, _ := n.values[key].(map[string]any)
		overrides := node{found: n.found, path: n.path + "." + key, values: values}
		overrides.misspelt(overrideKeys)
		overrides.truths("use-dns", "use-hostname", "use-mtu", "use-ntp", "use-routes", "send-hostname")
		overrides.number("route-metric", math.MaxUint32)
	}
	match, hasMatch := n.values["match"].(map[string]any)
	if hasMatch {
		match := node{found: n.found, path: n.path + ".match", values: match}
		match.misspelt(matchKeys)
		match.mac("macaddress")
	}
	if value := n.values["set-name"]; value != nil {
		if name, ok := value.(string); !ok || !isInterfaceName(name) {
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
		nameservers := node{found: n.found, path: n.path + ".nameservers", values: servers}
		nameservers.misspelt(serverKeys)
		nameservers.servers("addresses")
		nameservers.texts("search")
	}
	n.each("routes", func(route node) {
		route.misspelt(version2RouteKeys)
		route.route(routeWords{to: []string{"to"}, via: "via"})
		route.truths("on-link")
		if route.values["to"] == "default" && route.values["via"] == nil {
			route.add("via", "is missing: a default route needs it, or has 0.0.0.0/0 or ::/0 in place of default")
		}
	})
}

// networkManager is the word for a renderer of netplan's that is not networkd.
const networkManager = "NetworkManager"

// sameOverrides reports what is different for the two kinds of DHCP, of which networkd has one value: netplan gives up the whole
// network.
func (n node) sameOverrides() {
	if n.values["dhcp4"] != true || n.values["dhcp6"] != true {
		return
	}
	v4, _ := n.values["dhcp4-overrides"].(map[string]any)
	v6, _ := n.values["dhcp6-overrides"].(map[string]any)
	for _, key := range overrideKeys {
		if overrideValue(key, v4[key]) == overrideValue(key, v6[key]) {
			continue
		}
		path := "dhcp4-overrides." + key
		if v4[key] == nil {
			path = "dhcp6-overrides." + key
		}
		n.add(path, "has to be the same for dhcp4 and dhcp6 if both are true: networkd has one value")
	}
}

// overrideValue returns a value as a text that is the same for all its spellings.
func overrideValue(key string, value any) string {
	is, ok := truthValue(value)
	switch {
	case key == "hostname" || key == "route-metric":
		return maskText(value)
	case value == nil && key != "use-domains":
		return "true"
	case ok:
		return strconv.FormatBool(is)
	}
	return maskText(value)
}

// without reports keys that only a card can have.
func (n node) without(keys ...string) {
	for _, key := range keys {
		if n.values[key] != nil {
			n.add(key, "is a key of ethernets alone")
		}
	}
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
