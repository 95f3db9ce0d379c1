package nocloud

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"vmw-cloudinit-metadata/internal/nearest"
)

// maxVLAN is the greatest number of a VLAN (IEEE 802.1Q).
const maxVLAN = 4094

// bondModes are the kernel's, in the order of their numbers.
var bondModes = []string{"balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"}

// truthValue returns what a value means where it is to be true or false: also one of YAML's words as a text, or 0 or 1.
func truthValue(value any) (is, ok bool) {
	if is, ok = value.(bool); ok {
		return is, true
	}
	switch strings.ToLower(maskText(value)) {
	case "true", "on", "yes", "y", "1":
		return true, true
	case "false", "off", "no", "n", "0":
		return false, true
	}
	return false, false
}

// truths reports values that are neither true nor false to netplan, which takes them as texts, but not as numbers.
func (n node) truths(keys ...string) {
	for _, key := range keys {
		value := n.values[key]
		_, isNumber := integer(value)
		text, _ := value.(string)
		if _, ok := truthValue(value); value != nil && (!ok || isNumber || text == "0" || text == "1") {
			n.add(key, "must be true or false")
		}
	}
}

// bridgeVersion1 checks what is particular to a bridge in version 1: cloud-init takes ports' values apart for netplan.
func (n node) bridgeVersion1() {
	values, _ := n.values["params"].(map[string]any)
	params := node{found: n.found, path: n.path + ".params", values: values}
	params.stp("bridge_stp")
	params.lists("bridge_pathcost", "bridge_portprio")
	for _, key := range []string{"bridge_pathcost", "bridge_portprio"} {
		list, _ := values[key].([]any)
		for i, item := range list {
			text, _ := item.(string)
			if words := strings.Fields(text); len(words) != 2 || !isNumber(words[1]) {
				n.found.add(params.path+"."+key+"."+strconv.Itoa(i), "must be text: the name of an interface and a number")
			}
		}
	}
}

// bridgeVersion2 is bridgeVersion1 for version 2.
func (n node) bridgeVersion2() {
	values, _ := n.values["parameters"].(map[string]any)
	parameters := node{found: n.found, path: n.path + ".parameters", values: values}
	parameters.stp("stp")
	parameters.mappings("path-cost", "port-priority")
}

// listParameters are those of a bond or a bridge that may have more than one value.
var listParameters = []string{"arp-ip-target", "arp-ip-targets", "pathcost", "portprio", "waitport", "path-cost", "port-priority", "ports", "hw"}

// switchModes are modes of a bond of Open vSwitch.
var switchModes = []string{"balance-slb", "balance-tcp"}

// params checks the parameters of a bond or a bridge, in either version: that they have one value each, and words that netplan knows.
// names are those of all interfaces.
func (n node) params(names map[string]bool) {
	for _, at := range []string{"params", "parameters"} {
		values, _ := n.values[at].(map[string]any)
		params := node{found: n.found, path: n.path + "." + at, values: values}
		for _, key := range slices.Sorted(maps.Keys(values)) {
			name := strings.TrimPrefix(strings.TrimPrefix(strings.ReplaceAll(key, "_", "-"), "bond-"), "bridge-")
			word, _ := portableParameter(key, values[key]).(string)
			switch values[key].(type) {
			case []any, map[string]any:
				if !slices.Contains(listParameters, name) {
					params.add(key, "must be one value")
					continue
				}
			}
			switch {
			case values[key] == nil:
			case name == "mode" && !slices.Contains(bondModes, word) && !slices.Contains(switchModes, word):
				params.add(key, "is no mode of a bond%s", nearest.Hint(word, bondModes))
			case name == "lacp-rate" && word != "slow" && word != "fast":
				params.add(key, "must be slow or fast")
			case name == "primary":
				params.refersTo(key, names)
			}
		}
	}
}

// stp checks whether a bridge is to look for loops.
func (n node) stp(key string) {
	if _, ok := truthValue(n.values[key]); !ok && n.values[key] != nil {
		n.add(key, "must be true or false")
	}
}

func isNumber(text string) bool {
	_, err := strconv.ParseUint(text, 10, 32)
	return err == nil
}

// portableParameters returns the parameters of a bond or a bridge in the words that all have for them.
func portableParameters(values map[string]any) map[string]any {
	values = maps.Clone(values)
	for key, value := range values {
		values[key] = portableParameter(key, value)
	}
	return values
}

func portableParameter(key string, value any) any {
	key = strings.ReplaceAll(key, "_", "-")
	number, err := strconv.Atoi(maskText(value))
	switch key {
	case "stp", "bridge-stp":
		if is, ok := truthValue(value); ok {
			return is
		}
	case "mode", "bond-mode":
		if err == nil && number >= 0 && number < len(bondModes) {
			return bondModes[number]
		}
	case "lacp-rate", "bond-lacp-rate":
		if rates := []string{"slow", "fast"}; err == nil && number >= 0 && number < len(rates) {
			return rates[number]
		}
	}
	return value
}
