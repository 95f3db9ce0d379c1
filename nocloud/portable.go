package nocloud

import "maps"

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
		for key, item := range v {
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
