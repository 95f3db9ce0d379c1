package check

import (
	"fmt"
	"strconv"
	"strings"
)

// effects warns of what cloud-init takes in a network, and yet does not pass on, or has to guess at.
func (v *vm) effects() {
	network, path := v.instance.Network, "network"
	if inner, ok := network["network"].(map[string]any); ok {
		network, path = inner, "network.network"
	}
	switch network["version"] {
	case nil:
		if network["address"] == nil && network["search"] != nil && network["nameservers"] == nil {
			v.warnNetwork(path+".search", "has no effect with netplan or networkd beside DHCP alone: give it nameservers, or have the DHCP server send the domain")
		}
	case 1, int64(1):
		v.effectsVersionOne(path+".config", network["config"])
	case 2, int64(2):
		v.effectsVersionTwo(path, network)
	}
}

// effectsVersionTwo warns of what cloud-init leaves to netplan in the kinds of devices that it knows itself.
func (v *vm) effectsVersionTwo(path string, network map[string]any) {
	for _, kind := range []string{"ethernets", "bonds", "bridges", "vlans"} {
		devices, _ := network[kind].(map[string]any)
		for name, element := range devices {
			device, _ := element.(map[string]any)
			place := path + "." + kind + "." + name
			match, _ := device["match"].(map[string]any)
			if len(match) > 0 && match["macaddress"] == nil && match["name"] != name {
				v.warnNetwork(place+".match", "has no macaddress, and only netplan finds a card by anything else: where there is no netplan, that needs to be named "+name)
			}
			addresses, _ := device["addresses"].([]any)
			for i, address := range addresses {
				if _, hasOptions := address.(map[string]any); hasOptions {
					v.warnNetwork(place+".addresses."+strconv.Itoa(i), "has options, which only netplan knows: where there is no netplan, cloud-init fails")
				}
			}
		}
	}
}

func (v *vm) warnNetwork(path, message string) { v.at(Warning, RuleNetworkConfig, path, message) }

func (v *vm) effectsVersionOne(path string, config any) {
	items, _ := config.([]any)
	hasAddress := false
	var servers []string // paths of items with name servers for all interfaces
	for i, element := range items {
		item, _ := element.(map[string]any)
		place := path + "." + strconv.Itoa(i)
		switch item["type"] {
		case "route":
			v.warnNetwork(place, "has no effect with netplan: make it one of the routes of a subnet")
			v.guess(place, item)
		case "nameserver":
			if item["interface"] == nil {
				servers = append(servers, place)
			}
		}
		params, _ := item["params"].(map[string]any)
		for _, key := range []string{"bond-arp-ip-target", "bond_arp_ip_target"} {
			if params[key] != nil {
				v.warnNetwork(place+".params."+key, "makes netplan give up the whole network, for cloud-init calls it by another name there: version 2 has arp-ip-targets for netplan")
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
				v.guess(place+".routes."+strconv.Itoa(k), route)
			}
			if subnet["address"] != nil {
				continue
			}
			for _, key := range []string{"routes", "dns_nameservers", "dns_search"} {
				if subnet[key] != nil {
					v.warnNetwork(place+"."+key, "has no effect with netplan in a subnet without an address: version 2 has a place for it")
				}
			}
		}
	}
	if !hasAddress {
		for _, place := range servers {
			v.warnNetwork(place, "has no effect with netplan where no subnet has an address: version 2 has a place for it")
		}
	}
}

// guess warns of a route of version 1 for which cloud-init guesses the length of the prefix.
func (v *vm) guess(path string, route map[string]any) {
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
	v.warnNetwork(path+"."+key, fmt.Sprintf("has no length of a prefix, and cloud-init takes /%d, which is no single host: write it, or /%d", length, host))
}
