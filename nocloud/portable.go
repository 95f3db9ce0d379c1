package nocloud

import (
	"maps"
	"net/netip"
	"slices"
)

// portable returns a copy of a value of a network-config that is right, with the same meaning in a form that cloud-init takes on
// every system. Where it does not understand a value, it gives up the whole network.
func portable(value any) any {
	switch v := value.(type) {
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = portable(item)
		}
		return list
	case map[string]any:
		values := make(map[string]any, len(v))
		for key, item := range withDirectRoutes(v) {
			if item != nil { // cloud-init looks into a null, and so does netplan
				values[key] = portable(portableText(v, key, item))
			}
		}
		return values
	}
	return value
}

// portableText returns an item of a mapping. MAC addresses become the kernel's text, which cloud-init compares them with, lists that
// are written as one text become lists, and a default route is that of its gateway's kind: the word default is netplan's alone.
func portableText(values map[string]any, key string, item any) any {
	text, ok := item.(string)
	if !ok {
		return item
	}
	switch {
	case key == "mac_address" || key == "macaddress":
		if mac, ok := parseMAC(text); ok {
			return mac
		}
	case key == "dns_nameservers" || key == "dns_search" || key == "search" || key == "addresses" || key == "address" && values["type"] == "nameserver":
		list := []any{}
		for _, word := range splitList(text) {
			list = append(list, word)
		}
		return list
	case key == "to" && text == "default":
		via, _ := values["via"].(string)
		switch gateway, problem := parseHost(via); {
		case problem != "":
		case gateway.Is4():
			return "0.0.0.0/0"
		default:
			return "::/0"
		}
	}
	return item
}

// withDirectRoutes returns a subnet of version 1 or a device of version 2 with a route to each of its gateways that is out of a subnet
// of one address. Without it, cloud-init of 2022 and netplan leave the VM without a default route.
func withDirectRoutes(values map[string]any) map[string]any {
	var addresses []address
	destination, via := "destination", "gateway"
	if list, ok := values["addresses"].([]any); ok {
		destination, via = "to", "via"
		addresses, _ = node{found: &findings{}, values: map[string]any{"addresses": list}}.version2Addresses(true)
	} else if kind := values["type"]; kind == "static" || kind == "static6" {
		subnet := node{found: &findings{}, values: values}
		addresses = (&flat{found: subnet.found, values: subnet.oneMask(true), loopback: true}).addresses()
	}
	if len(addresses) == 0 {
		return values
	}
	for _, key := range []string{"gateway", "gateway4", "gateway6"} {
		text, _ := values[key].(string)
		gateway, problem := parseHost(text)
		if problem != "" {
			continue
		}
		through, problem := reach(addresses, gateway)
		routes, _ := values["routes"].([]any)
		if problem != "" || !needsRoute(addresses[through].prefix, gateway) || leadsTo(routes, gateway) {
			continue
		}
		to, by := directRoute(gateway)
		values = maps.Clone(values)
		values["routes"] = append(slices.Clone(routes), map[string]any{destination: to, via: by})
	}
	return values
}

// leadsTo says whether one of the routes, that is not the default route, leads to gateway.
func leadsTo(routes []any, gateway netip.Addr) bool {
	return slices.ContainsFunc(routes, func(item any) bool {
		route, _ := item.(map[string]any)
		for _, key := range []string{"to", "destination", "network"} {
			text, _ := route[key].(string)
			if prefix, err := netip.ParsePrefix(text); err == nil && prefix.Bits() > 0 && prefix.Contains(gateway) {
				return true
			}
		}
		return false
	})
}

// complete returns mappings of devices of version 2 with what cloud-init needs where it does not leave the whole to netplan: a
// device without a value has no keys, and a bond or bridge without interfaces has an empty list of them.
func complete(kind string, value any) any {
	devices, ok := value.(map[string]any)
	if !ok {
		return value
	}
	devices = maps.Clone(devices)
	for name, device := range devices {
		if device == nil {
			device = map[string]any{}
		}
		if values, ok := device.(map[string]any); ok && values["interfaces"] == nil && (kind == "bonds" || kind == "bridges") {
			values = maps.Clone(values)
			values["interfaces"] = []any{}
			device = values
		}
		devices[name] = device
	}
	return devices
}
