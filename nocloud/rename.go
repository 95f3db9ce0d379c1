package nocloud

import (
	"maps"
	"slices"
)

// linkedKinds are the kinds of devices that name others, as far as cloud-init knows them itself.
var linkedKinds = []string{"bonds", "bridges", "vlans"}

// byName returns a network-config of version 2 in which a card that others are made of goes by the name that it is given: netplan
// knows it by its key, but the rest of cloud-init looks for an interface of the key's name.
func byName(network map[string]any) map[string]any {
	cards, _ := network["ethernets"].(map[string]any)
	renamed := map[string]string{}
	for key, value := range cards {
		card, _ := value.(map[string]any)
		if name, _ := card["set-name"].(string); name != "" && name != key && isReferredTo(network, key) {
			renamed[key] = name
		}
	}
	if len(renamed) == 0 || network["openvswitch"] != nil {
		return network
	}
	network = maps.Clone(network)
	taken := map[string]bool{}
	for _, kind := range deviceKeys {
		devices, _ := network[kind].(map[string]any)
		for key := range devices {
			name := newName(renamed, key)
			if taken[name] {
				return network
			}
			taken[name] = true
		}
	}
	for _, kind := range deviceKeys {
		devices, ok := network[kind].(map[string]any)
		if !ok {
			continue
		}
		again := make(map[string]any, len(devices))
		for key, value := range devices {
			if values, ok := value.(map[string]any); ok {
				value = renamedIn(values, renamed)
			}
			again[newName(renamed, key)] = value
		}
		network[kind] = again
	}
	return network
}

// isReferredTo says whether a bond, a bridge or a VLAN is made of a device.
func isReferredTo(network map[string]any, key string) bool {
	for _, kind := range linkedKinds {
		devices, _ := network[kind].(map[string]any)
		for _, value := range devices {
			device, _ := value.(map[string]any)
			interfaces, _ := device["interfaces"].([]any)
			if device["link"] == key || slices.Contains(interfaces, any(key)) {
				return true
			}
		}
	}
	return false
}

// renamedIn returns a device with the new names in place of those that it refers to.
func renamedIn(device map[string]any, renamed map[string]string) map[string]any {
	device = maps.Clone(device)
	if link, ok := device["link"].(string); ok {
		device["link"] = newName(renamed, link)
	}
	if interfaces, ok := device["interfaces"].([]any); ok {
		again := slices.Clone(interfaces)
		for i, item := range again {
			if key, ok := item.(string); ok {
				again[i] = newName(renamed, key)
			}
		}
		device["interfaces"] = again
	}
	if parameters, ok := device["parameters"].(map[string]any); ok {
		parameters = maps.Clone(parameters)
		if primary, ok := parameters["primary"].(string); ok {
			parameters["primary"] = newName(renamed, primary)
		}
		for _, key := range []string{"path-cost", "port-priority"} {
			if ports, ok := parameters[key].(map[string]any); ok {
				again := make(map[string]any, len(ports))
				for port, value := range ports {
					again[newName(renamed, port)] = value
				}
				parameters[key] = again
			}
		}
		device["parameters"] = parameters
	}
	return device
}

func newName(renamed map[string]string, key string) string {
	if name, ok := renamed[key]; ok {
		return name
	}
	return key
}
