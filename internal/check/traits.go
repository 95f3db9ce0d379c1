package check

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// The kinds of what VMs should not share.
const (
	kindInstanceID = "instance-id"
	kindHostname   = "hostname"
	kindAddress    = "address"
	kindMAC        = "MAC address"
)

// collect notes what the VM should have alone.
func (v *vm) collect() {
	v.traits = map[trait]owner{}
	v.own(kindInstanceID, "metadata.instance-id", v.instance.MetaData["instance-id"])
	for _, key := range []string{"hostname", "local-hostname"} {
		v.own(kindHostname, "metadata."+key, v.instance.MetaData[key])
	}
	network, path := v.instance.Network, "network"
	if inner, ok := network["network"].(map[string]any); ok {
		network, path = inner, "network.network"
	}
	switch network["version"] {
	case nil:
		v.flatAddresses(path+".address", network["address"])
		v.own(kindMAC, path+".mac-address", network["mac-address"])
		v.own(kindMAC, path+".mac_address", network["mac_address"])
	case 1, int64(1):
		v.versionOne(path+".config", network["config"])
	case 2, int64(2):
		v.versionTwo(path, network)
	}
}

// flatAddresses takes the addresses of the flat form: a list, or one text, separated by blanks or commas.
func (v *vm) flatAddresses(path string, value any) {
	switch addresses := value.(type) {
	case string:
		for _, address := range strings.FieldsFunc(addresses, func(r rune) bool { return strings.ContainsRune(", \t\n", r) }) {
			v.own(kindAddress, path, address)
		}
	case []any:
		for i, address := range addresses {
			v.own(kindAddress, path+"."+strconv.Itoa(i), address)
		}
	}
}

func (v *vm) versionOne(path string, config any) {
	devices, _ := config.([]any)
	for i, item := range devices {
		device, _ := item.(map[string]any)
		place := path + "." + strconv.Itoa(i)
		v.own(kindMAC, place+".mac_address", device["mac_address"])
		subnets, _ := device["subnets"].([]any)
		if device["type"] == "loopback" { // several VMs have a service's address there
			continue
		}
		for j, item := range subnets {
			subnet, _ := item.(map[string]any)
			v.own(kindAddress, fmt.Sprintf("%s.subnets.%d.address", place, j), subnet["address"])
		}
	}
}

func (v *vm) versionTwo(path string, network map[string]any) {
	for _, class := range []string{"ethernets", "bonds", "bridges", "vlans", "wifis", "tunnels", "dummy-devices"} {
		devices, _ := network[class].(map[string]any)
		for name, item := range devices {
			device, _ := item.(map[string]any)
			place := path + "." + class + "." + name
			match, _ := device["match"].(map[string]any)
			v.own(kindMAC, place+".match.macaddress", match["macaddress"])
			addresses, _ := device["addresses"].([]any)
			if name == "lo" || match["name"] == "lo" { // several VMs have a service's address there
				continue
			}
			for i, address := range addresses {
				if options, ok := address.(map[string]any); ok { // {192.0.2.1/24: {label: …}}
					for text := range options {
						address = text
					}
				}
				v.own(kindAddress, fmt.Sprintf("%s.addresses.%d", place, i), address)
			}
		}
	}
}

// own notes a value, in the one spelling that all its spellings have in common.
func (v *vm) own(kind, path string, value any) {
	text, ok := value.(string)
	if !ok || text == "" {
		return
	}
	switch kind {
	case kindAddress:
		plain, _, _ := strings.Cut(text, "/")
		address, err := netip.ParseAddr(plain)
		if err != nil || address.IsLoopback() || address.IsLinkLocalUnicast() {
			return
		}
		text = address.Unmap().String()
	case kindMAC:
		mac, err := net.ParseMAC(text)
		if err != nil {
			return
		}
		text = mac.String()
	case kindHostname:
		text = strings.ToLower(text)
	}
	t := trait{kind, text}
	if _, twice := v.traits[t]; !twice {
		v.traits[t] = owner{v.key, v.locate(path), path}
	}
}
