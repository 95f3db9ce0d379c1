package file

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"vmw-cloudinit-metadata/metadata"
)

// maxFileName is the longest name of a file, in bytes, on the file systems of Linux.
const maxFileName = 255

// reserved is the base name of a file that belongs to no single VM.
const reserved = "defaults"

// extensions of the files, the one that wins first.
func extensions() [2]string { return [2]string{".yaml", ".yml"} }

// defaultsNames returns the names of the file that belongs to all VMs, the one that wins first.
func defaultsNames() []string {
	var names []string
	for _, extension := range extensions() {
		names = append(names, reserved+extension)
	}
	return names
}

// fileNames returns the names of the files that may be vm's, the one that wins first.
func fileNames(vm metadata.VM) []string {
	bases := baseNames(vm)
	names := make([]string, 0, 2*len(bases))
	for _, base := range bases {
		for _, extension := range extensions() {
			if name := base + extension; len(name) <= maxFileName {
				names = append(names, name)
			}
		}
	}
	return names
}

func baseNames(vm metadata.VM) []string {
	bases := make([]string, 0, 6)
	if id, ok := metadata.ParseUUID(vm.UUID); ok {
		bases = append(bases, id, strings.ToUpper(id))
	}
	// Hosts may send a name as it is or as the API has it, and a file can be named in either way.
	escaped := escapeName(vm.Name)
	for _, base := range []string{vm.Name, unescapeName(vm.Name), escaped, upperEscapes(escaped)} {
		if isBaseName(base) && !slices.Contains(bases, base) {
			bases = append(bases, base)
		}
	}
	return bases
}

// isBaseName is for names that may be looked for in the directory. A UUID is not among them: the file of that name is
// the file of the VM with that UUID, and of no VM that someone gave it for a name.
func isBaseName(base string) bool {
	if base == "" || base[0] == '.' || strings.EqualFold(base, reserved) || !utf8.ValidString(base) {
		return false
	}
	if strings.ContainsFunc(base, func(r rune) bool { return r == '/' || unicode.IsControl(r) }) {
		return false
	}
	_, isUUID := metadata.ParseUUID(base)
	return !isUUID
}

// escapeName is what the vSphere API makes of a VM's name.
func escapeName(name string) string {
	if !strings.ContainsAny(name, "%/\\") {
		return name
	}
	return strings.NewReplacer("%", "%25", "/", "%2f", `\`, "%5c").Replace(name)
}

// upperEscapes is the other spelling of an escaped name.
func upperEscapes(escaped string) string {
	if !strings.Contains(escaped, "%") {
		return escaped
	}
	return strings.NewReplacer("%2f", "%2F", "%5c", "%5C").Replace(escaped)
}

func unescapeName(name string) string {
	if !strings.Contains(name, "%") {
		return name
	}
	return strings.NewReplacer("%25", "%", "%2f", "/", "%2F", "/", "%5c", `\`, "%5C", `\`).Replace(name)
}

// identity returns what a file's name tells about its VM; false if no VM would get it.
func identity(name string) (metadata.VM, bool) {
	base, found := cutExtension(name)
	if !found {
		return metadata.VM{}, false
	}
	id, isUUID := metadata.ParseUUID(base)
	switch {
	case isUUID && (base == id || base == strings.ToUpper(id)):
		return metadata.VM{UUID: id}, true
	case !isUUID && isBaseName(base):
		return metadata.VM{Name: base}, true
	}
	return metadata.VM{}, false
}

func cutExtension(name string) (base string, found bool) {
	for _, extension := range extensions() {
		if base, found = strings.CutSuffix(name, extension); found {
			return base, true
		}
	}
	return name, false
}
