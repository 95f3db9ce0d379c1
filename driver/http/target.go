package http

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"

	"vmw-cloudinit-metadata/internal/options"
	"vmw-cloudinit-metadata/metadata"
)

// target is a URL with places for a VM's identity.
type target struct {
	pieces []string // text and field, in turn
}

// maxName bounds what of a VM's name goes into a URL, in bytes. vSphere's names have at most 80 characters.
const maxName = 1024

// fields are the names that may stand in a URL.
func fields(vm metadata.VM) map[string]string {
	return map[string]string{"UUID": vm.UUID, "Name": vm.Name, "BIOSUUID": vm.BIOSUUID, "LocationUUID": vm.LocationUUID}
}

// parseTarget reads a URL template, the value of the option key.
func parseTarget(key, text string) (*target, error) {
	bad := func(format string, args ...any) error {
		return &options.Error{Key: key, Problem: fmt.Sprintf(format, args...)}
	}
	known := fields(metadata.VM{})
	t := &target{}
	rest := text
	for _, place := range regexp.MustCompile(`\{\{\s*\.(\w+)\s*\}\}`).FindAllStringSubmatchIndex(text, -1) {
		field := text[place[2]:place[3]]
		if _, ok := known[field]; !ok {
			return nil, bad("there is no {{.%s}}: known are {{.UUID}}, {{.Name}}, {{.BIOSUUID}} and {{.LocationUUID}}", field)
		}
		start := len(text) - len(rest)
		t.pieces = append(t.pieces, text[start:place[0]], field)
		rest = text[place[1]:]
	}
	t.pieces = append(t.pieces, rest)
	if strings.ContainsAny(strings.Join(t.pieces, ""), "{}") {
		return nil, bad("braces stand only around a field, as in {{.UUID}}")
	}
	one, err := url.Parse(t.fill(func(string) string { return "a" }))
	if err != nil {
		return nil, bad("is not a URL")
	}
	other, err := url.Parse(t.fill(func(string) string { return "b" }))
	switch {
	case err != nil || one.Scheme != "http" && one.Scheme != "https" || one.Host == "":
		return nil, bad("must be an http:// or https:// URL with a host")
	case one.Scheme != other.Scheme || one.Host != other.Host || one.User != nil:
		return nil, bad("only path and query may have a field, and there is no user in it: who may choose the VM's name must not choose the server")
	case one.Fragment != "":
		return nil, bad("has a fragment (#), which no server sees")
	}
	return t, nil
}

func (t *target) isFolder() bool {
	parsed, err := url.Parse(t.fill(func(string) string { return "a" }))
	return err == nil && strings.HasSuffix(parsed.Path, "/") && parsed.RawQuery == ""
}

func (t *target) fill(value func(field string) string) string {
	var b strings.Builder
	for i, piece := range t.pieces {
		if i%2 == 1 {
			piece = value(piece)
		}
		b.WriteString(piece)
	}
	return b.String()
}

// expand returns the URL for a VM: ErrNotFound if the VM lacks what the URL needs, or has a name that would lead to
// another place.
func (t *target) expand(vm metadata.VM) (*url.URL, error) {
	values := fields(vm)
	for i, piece := range t.pieces {
		if i%2 == 0 {
			continue
		}
		switch value := values[piece]; {
		case value == "":
			return nil, fmt.Errorf("the URL needs the VM's %s, which is not known: %w", piece, metadata.ErrNotFound)
		case !utf8.ValidString(value) || len(value) > maxName || strings.ContainsFunc(value, isControl):
			return nil, fmt.Errorf("the VM's %s can't stand in a URL: %w", piece, metadata.ErrNotFound)
		case piece != "Name":
			if uuid, ok := metadata.ParseUUID(value); !ok || uuid != value {
				return nil, fmt.Errorf("the VM's %s is none: %w", piece, metadata.ErrNotFound)
			}
		default:
			if _, is := metadata.ParseUUID(value); is {
				return nil, fmt.Errorf("the VM's name looks like a UUID, and could be another VM's: %w", metadata.ErrNotFound)
			}
		}
	}
	expanded, err := url.Parse(t.fill(func(field string) string { return escape(values[field]) }))
	if err != nil {
		return nil, fmt.Errorf("the VM's identity can't stand in a URL: %w", metadata.ErrNotFound)
	}
	for segment := range strings.FieldsFuncSeq(expanded.Path, func(r rune) bool { return r == '/' || r == '\\' }) {
		if segment == "." || segment == ".." { // servers and proxies go by these even where they are escaped
			return nil, fmt.Errorf("the VM's name leads to another path: %w", metadata.ErrNotFound)
		}
	}
	return expanded, nil
}

func isControl(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }

// escape leaves only what RFC 3986, 2.3 calls unreserved.
func escape(text string) string {
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
