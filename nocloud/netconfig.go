package nocloud

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"vmw-cloudinit-metadata/internal/nearest"
)

// checkNetworkConfig checks what cloud-init would take without a word, and leave the VM without a network for.
// What it knows nothing of passes: cloud-init's own schema is the judge of the rest.
func checkNetworkConfig(found *findings, path string, network map[string]any) {
	version, ok := integer(network["version"])
	switch {
	case ok && version == 1:
		checkVersion1(found, path, network)
	case ok && version == 2:
		checkVersion2(found, path, network)
	default:
		found.add(path+".version", "must be 1 or 2")
	}
}

// needs reports the keys without a value. kind is the word for what lacks them.
func (n node) needs(kind string, keys ...string) {
	for _, key := range keys {
		if n.values[key] == nil {
			n.add(key, "is missing, and a %s is nothing without it", kind)
		}
	}
}

// mappings reports values that are no mappings, at which cloud-init fails.
func (n node) mappings(keys ...string) {
	for _, key := range keys {
		if _, ok := n.values[key].(map[string]any); !ok && n.values[key] != nil {
			n.add(key, "must be a mapping: keys with their values")
		}
	}
}

// lists reports values that are no lists, which cloud-init takes apart letter by letter.
func (n node) lists(keys ...string) {
	for _, key := range keys {
		if _, ok := n.values[key].([]any); !ok && n.values[key] != nil {
			n.add(key, "must be a list")
		}
	}
}

// node is one mapping of a network-config.
type node struct {
	found  *findings
	path   string
	values map[string]any
}

func (n node) add(key, format string, args ...any) { n.found.add(n.path+"."+key, format, args...) }

// word returns the text at key, which must be one of known.
func (n node) word(key string, known []string) string {
	switch word, ok := n.values[key].(string); {
	case n.values[key] == nil:
		n.add(key, "is missing: one of %s", strings.Join(known, ", "))
	case !ok:
		n.add(key, "must be text: one of %s", strings.Join(known, ", "))
	case !slices.Contains(known, word):
		n.add(key, "is none that cloud-init knows%s", nearest.Hint(word, known))
	default:
		return word
	}
	return ""
}

// refersTo checks the name of an interface.
func (n node) refersTo(key string, names map[string]bool) {
	if value := n.values[key]; value != nil {
		n.reference(n.path+"."+key, value, names)
	}
}

// consistsOf checks the names of the interfaces that a bond or a bridge has. members are those that one has already, and its name.
func (n node) consistsOf(key string, names map[string]bool, members map[string]string) {
	list, _ := n.values[key].([]any)
	for i, item := range list {
		path := n.path + "." + key + "." + strconv.Itoa(i)
		name := n.reference(path, item, names)
		if other := members[name]; other != "" {
			n.found.add(path, "is a part of another already: see %s", other)
		}
		if name != "" {
			members[name] = path
		}
	}
}

// reference returns the name of an interface that there is; "" if there is none. netplan gives up the whole network for one.
func (n node) reference(path string, value any, names map[string]bool) string {
	name, ok := value.(string)
	switch {
	case !ok:
		n.found.add(path, "must be text: the name of an interface")
		return ""
	case !names[name]:
		n.found.add(path, "is none of the interfaces here%s", nearest.Hint(name, slices.Sorted(maps.Keys(names))))
		return ""
	}
	return name
}

func (n node) mac(key string) {
	if value := n.values[key]; value != nil {
		text, _ := value.(string)
		if _, ok := parseLinkAddress(text); !ok {
			n.add(key, "%s", macProblem)
		}
	}
}

func (n node) truth(key string) {
	if _, ok := n.values[key].(bool); !ok && n.values[key] != nil {
		n.add(key, "must be true or false")
	}
}

func (n node) mtu(key string, ipv6 bool) {
	if value := n.values[key]; value != nil {
		if problem := mtuProblem(value, ipv6); problem != "" {
			n.add(key, "%s", problem)
		}
	}
}

// servers checks the addresses of name servers.
func (n node) servers(key string) {
	checkNameservers(n.found, textList(n.found, n.path+"."+key, n.values[key]))
}

// texts reports what is neither a text nor a list of texts.
func (n node) texts(key string) { textList(n.found, n.path+"."+key, n.values[key]) }

// each calls visit for the mappings of a list.
func (n node) each(key string, visit func(node)) {
	list, ok := n.values[key].([]any)
	if !ok && n.values[key] != nil {
		n.add(key, "must be a list")
	}
	for i, element := range list {
		path := n.path + "." + key + "." + strconv.Itoa(i)
		if values, ok := element.(map[string]any); ok {
			visit(node{found: n.found, path: path, values: values})
		} else {
			n.found.add(path, "must be a mapping: keys with their values")
		}
	}
}
