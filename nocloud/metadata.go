package nocloud

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"vmw-cloudinit-metadata/internal/yaml11"
	"vmw-cloudinit-metadata/metadata"
)

// maxInstanceID is the longest instance-id, in bytes: cloud-init makes a directory of that name.
const maxInstanceID = 255

// renderMetaData returns the meta-data document: the keys given, and those that cloud-init can't do without.
func renderMetaData(found *findings, vm metadata.VM, given map[string]any) []byte {
	for _, key := range []string{"ami-id", "availability-zone", "region"} {
		text(found, given, key)
	}
	id := text(found, given, "instance-id")
	switch problem := instanceIDProblem(id); {
	case id == "":
		if id = defaultInstanceID(vm); id == "" {
			found.add("metadata", "has no instance-id, and the VM has neither a UUID nor a name to make one of")
		}
	case problem != "":
		found.add("metadata.instance-id", "%s", problem)
	}
	hostname, local := text(found, given, "hostname"), text(found, given, "local-hostname")
	checkHostname(found, "metadata.hostname", hostname)
	checkHostname(found, "metadata.local-hostname", local)
	if hostname == "" {
		if hostname = local; hostname == "" {
			hostname = defaultHostname(vm.Name, id)
		}
	}
	if local == "" {
		local = hostname
	}
	checkPublicKeys(found, given["public-keys"])
	checkTags(found, given["tags"])
	if len(found.errs) > 0 {
		return nil
	}
	pairs := make(yaml11.Map, 0, len(given)+3)
	pairs = append(pairs, yaml11.Pair{Key: "instance-id", Value: id}, yaml11.Pair{Key: "hostname", Value: hostname}, yaml11.Pair{Key: "local-hostname", Value: local})
	for key, value := range given {
		switch {
		case key == "instance-id" || key == "hostname" || key == "local-hostname":
		case value == nil && metadata.IsKey(key):
		default:
			pairs = append(pairs, yaml11.Pair{Key: key, Value: value})
		}
	}
	slices.SortFunc(pairs, func(a, b yaml11.Pair) int { return strings.Compare(a.Key, b.Key) })
	doc, err := yaml11.AppendJSON(make([]byte, 0, usualSize), pairs)
	if err != nil {
		found.add("metadata", "can't be written as JSON: %s", err)
	}
	return doc
}

// text returns the text at key; "" if there is none, or a null.
func text(found *findings, values map[string]any, key string) string {
	switch value := values[key].(type) {
	case nil:
	case string:
		if value == "" {
			found.add("metadata."+key, "is empty: give it a value, or leave the key out")
		}
		return value
	default:
		found.add("metadata."+key, "must be text")
	}
	return ""
}

func checkHostname(found *findings, path, name string) {
	if name != "" && !isHostname(name) {
		found.add(path, "is not a hostname: it takes letters, digits and -, up to %d in a row between dots, "+
			"and neither starts nor ends with - or a dot", maxLabel)
	}
}

// defaultInstanceID is the VC UUID, which stays with the VM for its life, or else its name.
func defaultInstanceID(vm metadata.VM) string {
	if vm.UUID != "" {
		return vm.UUID
	}
	id := strings.Map(func(r rune) rune {
		if r == '/' || r == utf8.RuneError || !unicode.IsPrint(r) {
			return '-'
		}
		return r
	}, vm.Name)
	id = strings.Trim(id, " .")
	for len(id) > maxInstanceID {
		_, size := utf8.DecodeLastRuneInString(id)
		id = id[:len(id)-size]
	}
	return id
}

// instanceIDProblem says why id would be no name of a directory; "" if it would.
func instanceIDProblem(id string) string {
	switch {
	case strings.Contains(id, "/") || id == "." || id == "..":
		return "must not contain a / nor be . or ..: cloud-init makes a directory of that name"
	case strings.ContainsFunc(id, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "contains a control character"
	case len(id) > maxInstanceID:
		return "is longer than 255 bytes: cloud-init makes a directory of that name"
	}
	return ""
}

// checkPublicKeys checks for the three forms that cloud-init takes: a list of keys, one text with a key a line,
// and names with a key or a list of keys each.
func checkPublicKeys(found *findings, value any) {
	const path = "metadata.public-keys"
	switch keys := value.(type) {
	case nil, string:
	case []any:
		checkKeyList(found, path, keys)
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(keys)) {
			switch value := keys[name].(type) {
			case string:
				checkKey(found, path+"."+name, value)
			case []any:
				checkKeyList(found, path+"."+name, value)
			default:
				found.add(path+"."+name, "must be a public key or a list of them")
			}
		}
	default:
		found.add(path, "must be a list of public keys, or names with a key or a list of keys each")
	}
}

func checkKeyList(found *findings, path string, keys []any) {
	for i, key := range keys {
		checkKey(found, path+"."+strconv.Itoa(i), key)
	}
}

func checkKey(found *findings, path string, key any) {
	switch line, isText := key.(string); {
	case !isText:
		found.add(path, "must be text: a public key as it stands in a .pub file")
	case strings.TrimSpace(line) == "":
		found.add(path, "is empty: remove it")
	case strings.ContainsFunc(strings.TrimSpace(line), unicode.IsControl):
		found.add(path, "must be one line: write each key as an item of its own")
	case strings.Contains(line, "PRIVATE KEY"):
		found.add(path, "is a private key: only the public one (.pub) belongs here")
	}
}

func checkTags(found *findings, value any) {
	switch value.(type) {
	case nil, []any, map[string]any:
	default:
		found.add("metadata.tags", "must be a list, or a mapping of names to values")
	}
}
