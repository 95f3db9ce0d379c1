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
	"regexp"
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
	return new(Parser).Parse(name, data)
}

// Parser parses one file after the other, never two at once, for those who parse many. Its zero value is ready.
type Parser struct {
	// Keep, if not nil, returns what an instance gets for a user-data or vendor-data: a copy of it, or what is equal to
	// it. The document itself is overwritten after the call.
	Keep func(document []byte) []byte

	scratch []byte  // for texts
	places  []place // of the values
}

// What a Parser keeps for the next file: bytes of a text, and places of values.
const (
	maxScratch = 1 << 20
	maxPlaces  = 1 << 10
)

// Parse is the function of that name.
func (p *Parser) Parse(name string, data []byte) (*metadata.Instance, error) {
	if len(data) > MaxSize {
		return nil, &metadata.DataError{Origin: name, Problem: fmt.Sprintf("is larger than %d MiB", MaxSize>>20)}
	}
	root, texts, err := yaml11.ParseTexts(data)
	if err != nil {
		problem, ok := errors.AsType[*yaml11.Error](err)
		if !ok {
			return nil, &metadata.DataError{Origin: name, Problem: "is not YAML"}
		}
		e := dataError(name, problem)
		if hasBareTemplate(data, problem.Line) {
			e.Problem += ": a text that starts with {{ needs quotes around all of it"
		}
		return nil, e
	}
	f := file{parser: p, data: data, texts: texts, origin: &origin{name: name, places: p.places[:0]}}
	f.values = yaml11.Decoder{JSON: true, Literal: isText, Visit: f.origin.add}
	inst := f.instance(root)
	if p.places = f.origin.places; cap(p.places) > maxPlaces {
		p.places = nil
	}
	if cap(p.scratch) > maxScratch {
		p.scratch = nil
	}
	if problems := f.values.Problems(); len(problems) > 0 {
		joined := make([]error, 0, len(problems))
		for _, problem := range problems {
			joined = append(joined, dataError(name, problem))
		}
		return nil, errors.Join(joined...)
	}
	f.origin.places = slices.Clone(f.origin.places) // for the instance alone, and no longer than it is
	return inst, nil
}

// bareTemplate is a template where a value starts, which is a mapping in a mapping to YAML.
var bareTemplate = regexp.MustCompile(`^[^"'#]*[:-][ \t]+\{\{`)

func hasBareTemplate(data []byte, number int) bool {
	for line := range bytes.Lines(data) {
		if number--; number == 0 {
			return bareTemplate.Match(line)
		}
	}
	return false
}

// keep returns a document as an instance may have it; nil for none.
func (p *Parser) keep(document []byte) []byte {
	if document == nil || p.Keep == nil {
		return bytes.Clone(document)
	}
	return p.Keep(document)
}

func dataError(name string, e *yaml11.Error) *metadata.DataError {
	return &metadata.DataError{Origin: position(name, e.Line, e.Column), Path: e.Path, Problem: e.Problem}
}

// topLevel are the keys of a file.
var topLevel = []string{"metadata", "network", "userdata", "vendordata"}

// file is one that is being parsed.
type file struct {
	parser *Parser
	data   []byte
	texts  map[*yaml.Node]*yaml11.Text // what their nodes don't have
	values yaml11.Decoder
	origin *origin
}

func (f *file) instance(root *yaml.Node) *metadata.Instance {
	if root == nil || root.Kind == yaml.ScalarNode && root.Value == "" {
		if root == nil {
			root = &yaml.Node{}
		}
		f.values.Report(root, "", "is empty: {} is the file of a VM that gets nothing but defaults")
		return nil
	}
	f.origin.add("", root.Line, root.Column)
	inst := &metadata.Instance{Origin: f.origin}
	for _, e := range f.values.Entries("", root) {
		f.origin.add(e.Key, e.KeyNode.Line, e.KeyNode.Column)
		switch e.Key {
		case "metadata":
			inst.MetaData = f.metadata(e.Value)
		case "network":
			inst.Network = f.mapping(e)
		case "userdata":
			inst.UserData = f.parser.keep(f.document(e))
		case "vendordata":
			inst.VendorData = f.parser.keep(f.document(e))
		default:
			f.values.Report(e.KeyNode, e.Key, "is not a key of this format%s", nearest.Hint(e.Key, topLevel))
		}
	}
	return inst
}

// mapping returns an entry's mapping; nil if there is nothing.
func (f *file) mapping(e yaml11.Entry) map[string]any {
	value := f.values.Decode(e.Key, e.Value)
	mapping, ok := value.(map[string]any)
	if value != nil && !ok {
		f.values.Report(e.Value, e.Key, "must be a mapping: keys with their values")
	}
	return mapping
}

// metadata returns the mapping with cloud-init's keys in their usual spelling.
func (f *file) metadata(n *yaml.Node) map[string]any {
	if isNull(n) {
		return nil
	}
	entries := f.values.Entries("metadata", n)
	values := make(map[string]any, len(entries))
	for _, e := range entries {
		key := f.spelling(e)
		if _, twice := values[key]; twice {
			f.values.Report(e.KeyNode, "metadata."+e.Key, "is there twice, as %s too: remove one", key)
			continue
		}
		path := "metadata." + key
		f.origin.add(path, e.KeyNode.Line, e.KeyNode.Column)
		value := f.values.Decode(path, e.Value)
		if key == "public-keys" {
			value = keyLines(value)
		}
		if value != nil || !metadata.IsKey(key) {
			values[key] = value
		}
	}
	return values
}

// spelling returns a metadata key as cloud-init has it. What looks like a slip of the pen is reported, unless the
// key is in quotes.
func (f *file) spelling(e yaml11.Entry) string {
	if metadata.IsKey(e.Key) {
		return e.Key
	}
	meant, distance := nearest.Word(e.Key, metadata.Keys())
	if strings.ReplaceAll(e.Key, "_", "-") == meant {
		return meant
	}
	quoted := e.KeyNode.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0
	if meant != "" && distance <= 1 && !quoted {
		f.values.Report(e.KeyNode, "metadata."+e.Key, "did you mean %s? If not, put the key in quotes", meant)
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

// document returns user-data or vendor-data, until the next one.
func (f *file) document(e yaml11.Entry) []byte {
	if text := f.texts[e.Value]; text != nil {
		f.parser.scratch = text.Append(f.parser.scratch[:0])
		f.block(e.Key, e.Value, f.parser.scratch)
		return trimBlankLines(f.parser.scratch)
	}
	content := yaml11.Decoder{KeepOrder: true, Literal: func(path string) bool { return path == e.Key }, Visit: f.origin.add}
	value := content.Decode(e.Key, e.Value)
	for _, problem := range content.Problems() {
		f.values.Add(problem)
	}
	switch v := value.(type) {
	case string:
		text := []byte(v)
		f.block(e.Key, e.Value, text)
		return trimBlankLines(text)
	case []byte:
		return v
	case yaml11.Map:
		doc, err := yaml11.AppendCloudConfig(nil, v)
		if err != nil {
			f.values.Report(e.Value, e.Key, "%s", err)
		}
		return doc
	case []any:
		f.values.Report(e.Value, e.Key, "must be text, a mapping (which becomes #cloud-config) or !!binary, not a list")
	}
	return nil
}

// block notes where the lines of a text stand in the file, if it is written line by line (after a |).
func (f *file) block(path string, n *yaml.Node, text []byte) {
	if n.Kind != yaml.ScalarNode || n.Style&yaml.LiteralStyle == 0 {
		return
	}
	source, header := f.data, n.Line
	for range header - 1 {
		source = source[bytes.IndexByte(source, '\n')+1:]
	}
	for named := n.Anchor != "" || n.Style&yaml.TaggedStyle != 0; ; header++ { // an anchor or a tag may stand in a line above the |
		line, rest, more := bytes.Cut(source, []byte("\n"))
		if source = rest; !named || !more || bytes.ContainsRune(line, '|') {
			break
		}
	}
	number := 0
	for line := range bytes.Lines(text) {
		number++
		if len(bytes.TrimSpace(line)) > 0 {
			indent := leadingBlanks(source) - leadingBlanks(line)
			f.origin.blocks = append(f.origin.blocks, place{path: path, line: int32(header + number), column: int32(indent)})
			return
		}
		source = source[bytes.IndexByte(source, '\n')+1:]
	}
}

func leadingBlanks(text []byte) int { return len(text) - len(bytes.TrimLeft(text, " ")) }

// trimBlankLines takes the blank lines from both ends of a text. The last line keeps its end. Nil if nothing is
// left.
func trimBlankLines(text []byte) []byte {
	for {
		line, rest, more := bytes.Cut(text, []byte("\n"))
		if len(bytes.TrimSpace(line)) > 0 {
			break
		}
		if !more {
			return nil
		}
		text = rest
	}
	body := bytes.TrimRight(text, " \t\r\n")
	if end := bytes.IndexByte(text[len(body):], '\n'); end >= 0 {
		return text[:len(body)+end+1]
	}
	return text
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
		return metadata.IsKey(key)
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
