package nocloud

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
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
				values[key] = portable(portableItem(v, key, item))
			}
		}
		return values
	}
	return value
}

// portableItem returns an item of a mapping. MAC addresses become the kernel's text, which cloud-init compares them with, lists that
// are written as one text become lists, and a default route is that of its gateway's kind: the word default is netplan's alone.
func portableItem(values map[string]any, key string, item any) any {
	if parameters, ok := item.(map[string]any); ok && (key == "params" || key == "parameters") {
		return portableParameters(parameters)
	}
	text, ok := item.(string)
	if !ok {
		return item
	}
	switch {
	case key == "mac_address" || key == "macaddress":
		if mac, ok := parseLinkAddress(text); ok {
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
// device without a value has no keys, a bond or bridge without interfaces has an empty list of them, and routes are whole.
func complete(kind string, value any) any {
	devices, ok := value.(map[string]any)
	if !ok {
		return value
	}
	devices = maps.Clone(devices)
	for name, device := range devices {
		values, ok := device.(map[string]any)
		if !ok && device != nil {
			continue
		}
		values = maps.Clone(values)
		if values == nil {
			values = map[string]any{}
		}
		if values["interfaces"] == nil && (kind == "bonds" || kind == "bridges") {
			values["interfaces"] = []any{}
		}
		if routes, ok := values["routes"].([]any); ok {
			values["routes"] = completeRoutes(routes)
		}
		devices[name] = values
	}
	return devices
}

// completeRoutes returns routes of version 2 with a router, be it the address that is for none, and destinations with the length of
// their prefix. Without a router, cloud-init fails; without a length, a route of netplan is to one host, but not one of cloud-init.
func completeRoutes(routes []any) []any {
	routes = slices.Clone(routes)
	for i, item := range routes {
		route, _ := item.(map[string]any)
		to, _ := route["to"].(string)
		host, length, hasLength := strings.Cut(to, "/")
		addr, err := netip.ParseAddr(host)
		if err != nil {
			continue
		}
		destination, none := directRoute(addr)
		if mask, err := netip.ParseAddr(length); err == nil {
			bits, _ := parseNetmask(mask)
			destination = netip.PrefixFrom(addr, bits).String()
		} else if hasLength {
			destination = to
		}
		route = maps.Clone(route)
		if route["to"] = destination; route["via"] == nil {
			route["via"] = none
		}
		routes[i] = route
	}
	return routes
}
