// Package vmfile reads the file format in which a VM's data is written: YAML, or JSON as a part of it, with the
// keys metadata, network, userdata and vendordata. Drivers of all kinds that deliver documents use it.
//
// Plain scalars mean what they mean to cloud-init, whose YAML is PyYAML's 1.1: yes is true and 0644 is 420. Where
// only text makes sense (a hostname, an instance-id, a tag, an address) it is the text as written.
package vmfile

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"vmw-cloudinit-metadata/internal/nearest"
	"vmw-cloudinit-metadata/internal/yaml11"
	"vmw-cloudinit-metadata/metadata"
)

// MaxSize is the largest file that is read, in bytes. User-data of clouds is at most 64 KiB, and some megabytes
// where scripts carry archives; the worst that can be written takes two hundred times its size to parse.
const MaxSize = 4 << 20

// Parse returns the data in a file. name stands for the file in positions ("web1.yaml:12:5"). The error joins a
// *metadata.DataError for each problem (the first twenty), and shows nothing of the content but keys. The instance keeps
// nothing of data, which may be used again.
func Parse(name string, data []byte) (*metadata.Instance, error) {
	if len(data) > MaxSize {
		return nil, &metadata.DataError{Origin: name, Problem: fmt.Sprintf("is larger than %d MiB", MaxSize>>20)}
	}
	root, err := yaml11.Parse(data)
	if err != nil {
		problem, ok := errors.AsType[*yaml11.Error](err)
		if !ok {
			return nil, &metadata.DataError{Origin: name, Problem: "is not YAML"}
		}
		return nil, dataError(name, problem)
	}
	p := parser{data: data, origin: &origin{name: name}}
	p.values = yaml11.Decoder{JSON: true, Literal: isText, Visit: p.origin.add}
	inst := p.file(root)
	if problems := p.values.Problems(); len(problems) > 0 {
		joined := make([]error, 0, len(problems))
		for _, problem := range problems {
			joined = append(joined, dataError(name, problem))
		}
		return nil, errors.Join(joined...)
	}
	p.origin.places = slices.Clone(p.origin.places) // as long as it is; it is kept
	return inst, nil
}

func dataError(name string, e *yaml11.Error) *metadata.DataError {
	return &metadata.DataError{Origin: position(name, e.Line, e.Column), Path: e.Path, Problem: e.Problem}
}

// topLevel are the keys of a file.
var topLevel = []string{"metadata", "network", "userdata", "vendordata"}

// metadataKeys are the keys of metadata that mean something to us or to cloud-init's NoCloud; all others pass
// through.
var metadataKeys = []string{"ami-id", "availability-zone", "hostname", "instance-id", "local-hostname", "public-keys", "region", "tags"}

type parser struct {
	data   []byte
	values yaml11.Decoder
	origin *origin
}

func (p *parser) file(root *yaml.Node) *metadata.Instance {
	if root == nil || root.Kind == yaml.ScalarNode && root.Value == "" {
		if root == nil {
			root = &yaml.Node{}
		}
		p.values.Report(root, "", "is empty: {} is the file of a VM that gets nothing but defaults")
		return nil
	}
	p.origin.add("", root.Line, root.Column)
	inst := &metadata.Instance{Origin: p.origin}
	for _, e := range p.values.Entries("", root) {
		p.origin.add(e.Key, e.KeyNode.Line, e.KeyNode.Column)
		switch e.Key {
		case "metadata":
			inst.MetaData = p.metadata(e.Value)
		case "network":
			inst.Network = p.mapping(e)
		case "userdata":
			inst.UserData = p.document(e)
		case "vendordata":
			inst.VendorData = p.document(e)
		default:
			p.values.Report(e.KeyNode, e.Key, "is not a key of this format%s", nearest.Hint(e.Key, topLevel))
		}
	}
	return inst
}

// mapping returns an entry's mapping; nil if there is nothing.
func (p *parser) mapping(e yaml11.Entry) map[string]any {
	value := p.values.Decode(e.Key, e.Value)
	mapping, ok := value.(map[string]any)
	if value != nil && !ok {
		p.values.Report(e.Value, e.Key, "must be a mapping: keys with their values")
	}
	return mapping
}

// metadata returns the mapping with cloud-init's keys in their usual spelling.
func (p *parser) metadata(n *yaml.Node) map[string]any {
	if isNull(n) {
		return nil
	}
	entries := p.values.Entries("metadata", n)
	values := make(map[string]any, len(entries))
	for _, e := range entries {
		path := "metadata." + e.Key
		key := p.spelling(e)
		if _, twice := values[key]; twice {
			p.values.Report(e.KeyNode, path, "is there twice, as %s too: remove one", key)
			continue
		}
		p.origin.add("metadata."+key, e.KeyNode.Line, e.KeyNode.Column)
		value := p.values.Decode("metadata."+key, e.Value)
		if key == "public-keys" {
			value = keyLines(value)
		}
		if value != nil || !slices.Contains(metadataKeys, key) {
			values[key] = value
		}
	}
	return values
}

// spelling returns a metadata key as cloud-init has it. What looks like a slip of the pen is reported, unless the
// key is in quotes.
func (p *parser) spelling(e yaml11.Entry) string {
	if slices.Contains(metadataKeys, e.Key) {
		return e.Key
	}
	meant, distance := nearest.Word(e.Key, metadataKeys)
	if strings.ReplaceAll(e.Key, "_", "-") == meant {
		return meant
	}
	quoted := e.KeyNode.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0
	if meant != "" && distance <= 1 && !quoted {
		p.values.Report(e.KeyNode, "metadata."+e.Key, "did you mean %s? If not, put the key in quotes", meant)
	}
	return e.Key
}

// keyLines makes a list of public keys in one text, one a line.
func keyLines(value any) any {
	text, ok := value.(string)
	if !ok {
		return value
	}
	keys := []any{}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			keys = append(keys, line)
		}
	}
	return keys
}

// document returns user-data or vendor-data.
func (p *parser) document(e yaml11.Entry) []byte {
	content := yaml11.Decoder{KeepOrder: true, Literal: func(path string) bool { return path == e.Key }, Visit: p.origin.add}
	value := content.Decode(e.Key, e.Value)
	for _, problem := range content.Problems() {
		p.values.Add(problem)
	}
	switch v := value.(type) {
	case string:
		p.block(e.Key, e.Value)
		return trimBlankLines(v)
	case []byte:
		return v
	case yaml11.Map:
		doc, err := yaml11.Append([]byte("#cloud-config\n"), v)
		if err != nil {
			p.values.Report(e.Value, e.Key, "%s", err)
		}
		return doc
	case []any:
		p.values.Report(e.Value, e.Key, "must be text, a mapping (which becomes #cloud-config) or !!binary, not a list")
	}
	return nil
}

// block notes where the lines of a text stand in the file, if it is written line by line (after a |).
func (p *parser) block(path string, n *yaml.Node) {
	if n.Kind != yaml.ScalarNode || n.Style&yaml.LiteralStyle == 0 {
		return
	}
	source := p.data
	for range n.Line { // to the line behind the |
		source = source[bytes.IndexByte(source, '\n')+1:]
	}
	line := 0
	for text := range strings.Lines(n.Value) {
		line++
		if strings.TrimSpace(text) != "" {
			indent := leadingBlanks(source) - leadingBlanks([]byte(text))
			p.origin.blocks = append(p.origin.blocks, place{path: path, line: int32(n.Line + line), column: int32(indent)})
			return
		}
		source = source[bytes.IndexByte(source, '\n')+1:]
	}
}

func leadingBlanks(text []byte) int { return len(text) - len(bytes.TrimLeft(text, " ")) }

// trimBlankLines takes the blank lines from both ends of a text. The last line keeps its end. Nil if nothing is
// left.
func trimBlankLines(text string) []byte {
	for {
		line, rest, more := strings.Cut(text, "\n")
		if strings.TrimSpace(line) != "" {
			break
		}
		if !more {
			return nil
		}
		text = rest
	}
	body := strings.TrimRight(text, " \t\r\n")
	if end := strings.IndexByte(text[len(body):], '\n'); end >= 0 {
		text = text[:len(body)+end+1]
	}
	return []byte(text)
}

func isNull(n *yaml.Node) bool {
	if n.Kind != yaml.ScalarNode || n.Style != 0 {
		return false
	}
	value, _ := yaml11.Resolve(n.Value)
	return value == nil
}

// isText is for the values that are text however they look: what cloud-init takes as text under metadata, and
// MAC addresses, of which YAML 1.1 makes numbers of base 60.
func isText(path string) bool {
	area, rest, _ := strings.Cut(path, ".")
	key, below, _ := strings.Cut(rest, ".")
	switch area {
	case "metadata":
		return slices.Contains(metadataKeys, key)
	case "network":
		switch rest[strings.LastIndexByte(rest, '.')+1:] {
		case "mac-address", "mac_address", "macaddress":
			return true
		}
		switch key {
		case "address", "netmask", "gateway", "name":
			return below == ""
		case "search", "nameservers":
			return true
		}
	}
	return false
}
