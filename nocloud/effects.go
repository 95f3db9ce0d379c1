package nocloud

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// effectsVersion2 doubts what cloud-init leaves to netplan in the kinds of devices that it knows itself.
func effectsVersion2(found *findings, path string, network map[string]any) {
	for _, kind := range []string{"ethernets", "bonds", "bridges", "vlans"} {
		devices, _ := network[kind].(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(devices)) {
			device, _ := devices[name].(map[string]any)
			place := path + "." + kind + "." + name
			match, _ := device["match"].(map[string]any)
			if len(match) > 0 && match["macaddress"] == nil && match["name"] != name {
				found.doubt(place+".match", "has no macaddress, and only netplan finds a card by anything else: where there is no netplan, that needs to be named %s", name)
			}
			addresses, _ := device["addresses"].([]any)
			for i, address := range addresses {
				if _, hasOptions := address.(map[string]any); hasOptions {
					found.doubt(place+".addresses."+strconv.Itoa(i), "has options, which only netplan knows: where there is no netplan, cloud-init fails")
				}
			}
		}
	}
}

// effectsVersion1 doubts what cloud-init takes, and yet does not pass on, or has to guess at.
func effectsVersion1(found *findings, path string, network map[string]any) {
	path += ".config"
	items, _ := network["config"].([]any)
	hasAddress := false
	var servers []string // paths of items with name servers for all interfaces
	for i, element := range items {
		item, _ := element.(map[string]any)
		place := path + "." + strconv.Itoa(i)
		switch item["type"] {
		case "route":
			found.doubt(place, "has no effect with netplan: make it one of the routes of a subnet")
			guessed(found, place, item)
		case "nameserver":
			if item["interface"] == nil {
				servers = append(servers, place)
			}
		}
		params, _ := item["params"].(map[string]any)
		for _, key := range []string{"bond-arp-ip-target", "bond_arp_ip_target"} {
			if params[key] != nil {
				found.doubt(place+".params."+key, "makes netplan give up the whole network, for cloud-init calls it by another name there: version 2 has arp-ip-targets for netplan")
			}
		}
		subnets, _ := item["subnets"].([]any)
		for j, element := range subnets {
			subnet, _ := element.(map[string]any)
			place := fmt.Sprintf("%s.subnets.%d", place, j)
			hasAddress = hasAddress || subnet["address"] != nil
			routes, _ := subnet["routes"].([]any)
			for k, element := range routes {
				route, _ := element.(map[string]any)
				guessed(found, place+".routes."+strconv.Itoa(k), route)
			}
			if subnet["address"] != nil {
				continue
			}
			for _, key := range []string{"routes", "dns_nameservers", "dns_search"} {
				if subnet[key] != nil {
					found.doubt(place+"."+key, "has no effect with netplan in a subnet without an address: version 2 has a place for it")
				}
			}
		}
	}
	if !hasAddress {
		for _, place := range servers {
			found.doubt(place, "has no effect with netplan where no subnet has an address: version 2 has a place for it")
		}
	}
}

// guessed doubts a route of version 1 for which cloud-init guesses the length of the prefix.
func guessed(found *findings, path string, route map[string]any) {
	key := "destination"
	if route[key] == nil {
		key = "network"
	}
	text, _ := route[key].(string)
	if text == "" || strings.Contains(text, "/") || route["netmask"] != nil || route["prefix"] != nil {
		return
	}
	length, host := 24, 32
	if strings.Contains(text, ":") {
		length, host = 64, 128
	}
	found.doubt(path+"."+key, "has no length of a prefix, and cloud-init takes /%d, which is no single host: write it, or /%d", length, host)
}
