package yaml11

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

const (
	// maxValues bounds what aliases can blow a document up to. A network-config with a hundred interfaces has
	// some two thousand values.
	maxValues = 100_000
	// maxText bounds, in bytes, the text of all values together once aliases are followed.
	maxText = 16 << 20
	// maxProblems is how many findings are worth a person's reading at once.
	maxProblems = 20
)

// Map is a mapping in the order of its source.
type Map []Pair

// Pair is one entry of a Map.
type Pair struct {
	Key   string
	Value any
}

// Decoder turns nodes into values: nil, bool, int64, uint64, float64, string, []byte (!!binary), []any, and
// map[string]any or Map. Keys are strings, as written: a key that PyYAML would take for a number is text here.
// Aliases and merge keys (<<) are followed. The zero value is ready for one document; its limits hold for all calls
// together.
type Decoder struct {
	// KeepOrder makes it return Map for mappings.
	KeepOrder bool
	// JSON makes it refuse what JSON can't hold: !!binary, infinities and NaN.
	JSON bool
	// Literal, if not nil, says whether the plain scalar at path is text as it is written ("0123", "no") and no
	// number or truth value. A null stays one.
	Literal func(path string) bool
	// Visit, if not nil, is called with the place of each entry's key and of each list's item, parents first.
	Visit func(path string, line, column int)

	// Lenient makes it take what PyYAML takes and is hardly meant: of equal keys the last, !!binary with signs that are not
	// base64, integers of any size (as float64) and longer keys. Of the first two it tells in Warnings.
	Lenient bool
	// Date, if not nil, returns the value of a plain scalar that PyYAML takes for a date or a time.
	Date func(path, text string) any

	problems []*Error
	warnings []*Error
	values   int
	text     int
	full     bool
	open     []*yaml.Node
}

// Problems returns what was wrong with the nodes so far, in their order; a long list is cut.
func (d *Decoder) Problems() []*Error { return d.problems }

// Warnings returns what was taken because of Lenient; a long list is cut.
func (d *Decoder) Warnings() []*Error { return d.warnings }

// lenient says whether what is wrong at the node is taken all the same: then it is a warning, else a problem.
func (d *Decoder) lenient(n *yaml.Node, path, format string, args ...any) bool {
	e := &Error{Line: n.Line, Column: n.Column, Path: path, Problem: fmt.Sprintf(format, args...)}
	switch {
	case !d.Lenient:
		d.Add(e)
	case len(d.warnings) < maxProblems:
		d.warnings = append(d.warnings, e)
	}
	return d.Lenient
}

// former says where the first of two equal keys is. A lenient decoder's document is most often a part of a file, whose lines
// count from elsewhere.
func (d *Decoder) former(first, second int) string {
	switch above := second - first; {
	case !d.Lenient:
		return fmt.Sprintf("on line %d", first)
	case above == 0:
		return "in the same line"
	case above == 1:
		return "in the line above"
	default:
		return fmt.Sprintf("%d lines above", above)
	}
}

// Report adds a problem at the node that was at path.
func (d *Decoder) Report(n *yaml.Node, path, format string, args ...any) {
	d.Add(&Error{Line: n.Line, Column: n.Column, Path: path, Problem: fmt.Sprintf(format, args...)})
}

// Add adds a problem.
func (d *Decoder) Add(problem *Error) {
	if len(d.problems) < maxProblems {
		d.problems = append(d.problems, problem)
	}
}

// Decode returns the value of the node, which stands at path. Where something is wrong it adds to Problems and
// leaves that value nil.
func (d *Decoder) Decode(path string, n *yaml.Node) any {
	n, ok := d.follow(path, n)
	if !ok || !d.spend(path, n) {
		return nil
	}
	switch n.Kind {
	case yaml.ScalarNode:
		return d.scalar(path, n)
	case yaml.SequenceNode:
		if !d.enter(path, n, "!!seq") {
			return nil
		}
		defer d.leave()
		list := make([]any, 0, len(n.Content))
		for i, item := range n.Content {
			place := join(path, strconv.Itoa(i))
			d.visit(place, item)
			list = append(list, d.Decode(place, item))
		}
		return list
	case yaml.MappingNode:
		entries := d.Entries(path, n)
		values := make(Map, 0, len(entries))
		d.open = append(d.open, n)
		defer d.leave()
		for _, e := range entries {
			place := join(path, e.Key)
			d.visit(place, e.KeyNode)
			values = append(values, Pair{Key: e.Key, Value: d.Decode(place, e.Value)})
		}
		if d.KeepOrder {
			return values
		}
		unordered := make(map[string]any, len(values))
		for _, pair := range values {
			unordered[pair.Key] = pair.Value
		}
		return unordered
	}
	d.Report(n, path, "is not understood here")
	return nil
}

// Entry is one entry of a mapping node.
type Entry struct {
	Key            string
	KeyNode, Value *yaml.Node
}

// Entries returns a mapping's entries in order, the merged ones (<<) first, each key once; it reports what can't
// be a key, and keys that are there twice. Anything but a mapping is reported and gives none.
func (d *Decoder) Entries(path string, n *yaml.Node) []Entry {
	n, ok := d.follow(path, n)
	if !ok {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		d.Report(n, path, "must be a mapping: keys with their values")
		return nil
	}
	if !d.enter(path, n, "!!map") {
		return nil
	}
	defer d.leave()
	var merged []Entry
	own := make([]Entry, 0, len(n.Content)/2)
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		keyNode, value := n.Content[i], n.Content[i+1]
		key, ok := d.key(path, keyNode)
		if !ok {
			continue
		}
		if line, twice := seen[key]; twice {
			if !d.lenient(keyNode, join(path, key), "is there twice, first %s: remove one", d.former(line, keyNode.Line)) {
				continue
			}
			own = slices.DeleteFunc(own, func(e Entry) bool { return e.Key == key })
		}
		seen[key] = keyNode.Line
		if key == "<<" && isPlain(keyNode) {
			merged = d.merge(path, value)
			continue
		}
		own = append(own, Entry{Key: key, KeyNode: keyNode, Value: value})
	}
	if len(merged) == 0 {
		return own
	}
	all := make([]Entry, 0, len(merged)+len(own))
	for _, e := range merged {
		if _, overridden := seen[e.Key]; !overridden {
			all = append(all, e)
		}
	}
	return append(all, own...)
}

// merge returns the entries that << brings in: of a mapping, or of a list of them, where the first wins.
func (d *Decoder) merge(path string, value *yaml.Node) []Entry {
	target, ok := d.follow(path, value)
	if !ok {
		return nil
	}
	sources := []*yaml.Node{target}
	if target.Kind == yaml.SequenceNode {
		sources = target.Content
	}
	var entries []Entry
	seen := map[string]bool{}
	for _, source := range sources {
		if source, ok = d.follow(path, source); !ok {
			continue
		}
		if source.Kind != yaml.MappingNode {
			d.Report(value, join(path, "<<"), "takes a mapping, or a list of mappings")
			continue
		}
		if !d.spend(path, source) {
			break
		}
		for _, e := range d.Entries(path, source) {
			d.values++
			if !seen[e.Key] {
				seen[e.Key] = true
				entries = append(entries, e)
			}
		}
	}
	return entries
}

// key returns a key's text.
func (d *Decoder) key(path string, n *yaml.Node) (string, bool) {
	n, ok := d.follow(path, n)
	switch {
	case !ok:
		return "", false
	case n.Kind != yaml.ScalarNode:
		d.Report(n, path, "a key must be text, not a list or a mapping: a text that starts with { or [ needs quotes around it")
		return "", false
	case n.Style&yaml.TaggedStyle != 0 && n.ShortTag() != "!!str":
		d.Report(n, path, "a key must be text, without a tag")
		return "", false
	case n.Value == "":
		d.Report(n, path, "there is an empty key here")
		return "", false
	case len(n.Value) > maxKey && (!d.Lenient || len(n.Value) > maxKeyPyYAML):
		d.Report(n, path, "has a key of more than %d bytes", maxKey)
		return "", false
	}
	d.text += len(n.Value)
	return n.Value, true
}

// spend counts a value against the limits; false, reported once, if there is no more to spend.
func (d *Decoder) spend(path string, n *yaml.Node) bool {
	if d.values++; d.values <= maxValues && d.text <= maxText {
		return true
	}
	if !d.full {
		d.full = true
		d.Report(n, path, "the document is too big once its aliases are followed: more than %d values or %d MiB of text", maxValues, maxText>>20)
	}
	return false
}

func (d *Decoder) visit(path string, n *yaml.Node) {
	if d.Visit != nil {
		d.Visit(path, n.Line, n.Column)
	}
}

// follow returns what an alias stands for.
func (d *Decoder) follow(path string, n *yaml.Node) (*yaml.Node, bool) {
	for n.Kind == yaml.AliasNode {
		if n.Alias == nil {
			d.Report(n, path, "is an alias of nothing")
			return nil, false
		}
		n = n.Alias
	}
	return n, true
}

// enter refuses a collection inside of itself, one too deep, and a tag that is not its kind's.
func (d *Decoder) enter(path string, n *yaml.Node, tag string) bool {
	if n.Style&yaml.TaggedStyle != 0 && n.ShortTag() != tag {
		d.Report(n, path, "has a tag that is not understood: only plain lists and mappings are")
		return false
	}
	if len(d.open) >= maxDepth {
		d.Report(n, path, "is nested more than %d levels deep", maxDepth)
		return false
	}
	for _, parent := range d.open {
		if parent == n {
			d.Report(n, path, "contains itself, by an alias")
			return false
		}
	}
	d.open = append(d.open, n)
	return true
}

func (d *Decoder) leave() { d.open = d.open[:len(d.open)-1] }

func (d *Decoder) scalar(path string, n *yaml.Node) any {
	d.text += len(n.Value)
	var value any
	var err error
	tagged := n.Style&yaml.TaggedStyle != 0
	switch tag := n.ShortTag(); {
	case tagged && tag == "!!binary":
		return d.binary(path, n)
	case tagged && tag == "!!str" || !tagged && !isPlain(n):
		return n.Value
	case tagged && tag != "!!null" && tag != "!!bool" && tag != "!!int" && tag != "!!float" && tag != "!!timestamp":
		d.Report(n, path, "has a tag that is not understood: put the value in quotes if the ! is part of it")
		return nil
	default:
		var isText bool
		if value, isText, err = resolve(n.Value); !tagged && (isText || (value != nil || err != nil) && d.Literal != nil && d.Literal(path)) {
			if isText && d.Date != nil && isDate(n.Value) {
				return d.Date(path, n.Value)
			}
			return n.Value
		}
		if isText {
			value = n.Value
		}
		if errors.Is(err, errTooBig) && d.Lenient && !tagged {
			value, err = math.MaxUint64*2.0, nil
		}
		if err == nil && tagged {
			value, err = convert(tag, value)
		}
	}
	if err != nil {
		d.Report(n, path, "%s", err)
		return nil
	}
	if f, ok := value.(float64); ok && d.JSON && (math.IsInf(f, 0) || math.IsNaN(f)) {
		d.Report(n, path, "is not a finite number: put it in quotes if it is text")
		return nil
	}
	return value
}

// isDate is for what PyYAML makes a date or a time of (http://yaml.org/type/timestamp.html), if there is one.
func isDate(text string) bool {
	return isTimestamp(text) && regexp.MustCompile(`^[0-9]{4}-(?:[0-9]{2}-[0-9]{2}|[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)`+
		`[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?)$`).MatchString(text)
}

// convert gives a resolved value the type that an explicit tag asks for.
func convert(tag string, value any) (any, error) {
	ok := false
	switch v := value.(type) {
	case nil:
		ok = tag == "!!null"
	case bool:
		ok = tag == "!!bool"
	case int64:
		if ok = tag == "!!int" || tag == "!!float"; tag == "!!float" {
			value = float64(v)
		}
	case uint64:
		if ok = tag == "!!int" || tag == "!!float"; tag == "!!float" {
			value = float64(v)
		}
	case float64:
		ok = tag == "!!float"
	case string:
		ok = tag == "!!timestamp"
	}
	if !ok {
		return nil, fmt.Errorf("is not what its tag says")
	}
	return value, nil
}

func (d *Decoder) binary(path string, n *yaml.Node) any {
	if d.JSON {
		d.Report(n, path, "is !!binary, which fits only userdata and vendordata: write text")
		return nil
	}
	compact := strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\r\n", r) {
			return -1
		}
		return r
	}, n.Value)
	value, err := base64.StdEncoding.DecodeString(compact)
	if err == nil {
		return value
	}
	if value, ok := looseBase64(compact); ok && d.lenient(n, path, notBase64) {
		return value
	} else if !ok {
		d.Report(n, path, notBase64)
	}
	return nil
}

const notBase64 = "is !!binary, and no valid base64"

// looseBase64 decodes as Python does, which passes over what is none of base64's signs, and wants enough padding.
func looseBase64(text string) ([]byte, bool) {
	signs := strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf && (isAlphanumeric(byte(r)) || r == '+' || r == '/') {
			return r
		}
		return -1
	}, text)
	if missing := -len(signs) & 3; missing == 3 || strings.Count(text, "=") < missing {
		return nil, false
	}
	value, err := base64.RawStdEncoding.DecodeString(signs)
	return value, err == nil
}

func isAlphanumeric(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// isPlain is for scalars without quotes, and not in block form either.
func isPlain(n *yaml.Node) bool {
	const other = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
	return n.Style&other == 0
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
