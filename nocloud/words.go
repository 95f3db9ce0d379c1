package nocloud

import (
	"maps"
	"slices"

	"vmw-cloudinit-metadata/internal/nearest"
)

// maxMisspelt is how many keystrokes off a key is taken for misspelt. What is further off may be a key that we do not know yet.
const maxMisspelt = 2

// The keys of mappings in a network-config of version 1.
var (
	itemKeys = []string{"type", "name", "mac_address", "mtu", "subnets", "params", "bond_interfaces", "bridge_interfaces", "vlan_link", "vlan_id",
		"address", "search", "interface", "destination", "network", "netmask", "prefix", "gateway", "metric", "accept-ra", "wakeonlan", "optional",
		"keep_configuration", "config_id", "match", "id", "driver"}
	subnetKeys = []string{"type", "control", "address", "ip_address", "netmask", "prefix", "broadcast", "gateway", "metric", "mtu", "scope", "pointopoint",
		"dns_nameservers", "dns_search", "routes", "ipv4", "ipv6", "network", "network_id", "link", "id", "services"}
	version1RouteKeys = []string{"type", "id", "destination", "network", "netmask", "prefix", "gateway", "metric", "mtu"}
)

// The keys of mappings in one of version 2, which are netplan's, and two of cloud-init's own for VMware.
var (
	keysOfDevice = []string{"renderer", "match", "set-name", "dhcp4", "dhcp6", "dhcp4-overrides", "dhcp6-overrides", "dhcp4domain", "dhcp6domain",
		"dhcp-identifier", "addresses", "gateway4", "gateway6", "nameservers", "routes", "routing-policy", "macaddress", "mtu", "ipv6-mtu", "optional",
		"optional-addresses", "critical", "ignore-carrier", "accept-ra", "ra-overrides", "link-local", "ipv6-privacy", "ipv6-address-generation",
		"ipv6-address-token", "activation-mode", "neigh-suppress", "wakeonlan", "wakeonwlan", "emit-lldp", "receive-checksum-offload",
		"transmit-checksum-offload", "tcp-segmentation-offload", "tcp6-segmentation-offload", "generic-segmentation-offload",
		"generic-receive-offload", "large-receive-offload", "openvswitch", "networkmanager", "auth", "interfaces", "parameters", "id", "link",
		"virtual-function-count", "embedded-switch-mode", "delay-virtual-functions-rebind", "infiniband-mode", "access-points",
		"regulatory-domain", "mode", "local", "remote", "ttl", "key", "keys", "input-key", "output-key", "mark", "port", "peers", "peer", "table",
		"apn", "auto-config", "device-id", "network-id", "number", "password", "pin", "sim-id", "sim-operator-id", "username", "ageing", "aging",
		"mac-learning", "port-mac-learning", "hairpin", "limit", "type-of-service", "flow-label", "do-not-fragment", "short-circuit",
		"arp-proxy", "notifications", "checksums", "extensions", "port-range"}
	version2RouteKeys = []string{"to", "via", "from", "on-link", "metric", "type", "scope", "table", "mtu", "congestion-window",
		"advertised-receive-window", "advertised-mss"}
	overrideKeys = []string{"use-dns", "use-domains", "use-hostname", "use-mtu", "use-ntp", "use-routes", "send-hostname", "hostname", "route-metric"}
	matchKeys    = []string{"name", "macaddress", "driver", "path", "device_id"}
	serverKeys   = []string{"addresses", "search"}
)

// misspelt reports keys that are nearly one of known. cloud-init passes over such a key, and netplan gives up the whole network.
func (n node) misspelt(known []string) {
	for _, key := range slices.Sorted(maps.Keys(n.values)) {
		if slices.Contains(known, key) {
			continue
		}
		if meant, distance := nearest.Word(key, known); meant != "" && distance <= maxMisspelt {
			n.add(key, "is not a key here: did you mean %s?", meant)
		}
	}
}
