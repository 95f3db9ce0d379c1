// Package template fills in values that a VM's identity gives: {{ .VM.Name }}, {{ .VM.UUID }}, {{ .VM.BIOSUUID }} and
// {{ .VM.LocationUUID }}, in the text values of metadata and network, and in user-data and vendor-data.
//
// The language is text/template's, without loops and without templates inside of templates. Beside the functions and, or,
// not, eq, ne, lt, le, gt, ge, len, index, slice, print and printf there are lower, upper, replace (OLD NEW TEXT), trimPrefix
// and trimSuffix (WHAT TEXT), default (INSTEAD TEXT) and json, which puts text into double quotes as JSON and YAML have them.
//
// A value is filled in after the file was parsed, so that a VM's name can't add keys to metadata or network, nor to user-data
// that was written as a mapping; the templates of that may stand in its keys too. In user-data that was written as text, it is
// text in a text: use json for what is not known to be harmless there. User-data that is a template already, for cloud-init's
// jinja, is left alone, and so is what is compressed.
package template

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"
	"unicode/utf8"

	"vmw-cloudinit-metadata/internal/nearest"
	"vmw-cloudinit-metadata/internal/yaml11"
	"vmw-cloudinit-metadata/metadata"
)

// maxOutput bounds, in bytes, what the templates of metadata may write together; so with network, user-data and vendor-data.
const maxOutput = 4 << 20

// maxProblems is how many findings are worth a person's reading at once.
const maxProblems = 20

// jinja is how cloud-init knows its own templates, in capitals too, and behind blanks.
const jinja = "## template: jinja"

// gzip is how compressed user-data starts. Some of its bytes are a {{ by chance.
const gzip = "\x1f\x8b"

// Expand returns the instance with its templates filled in for vm; the given one stays as it is. Its error joins a
// *metadata.DataError for each template that is wrong (the first twenty). An instance without templates is returned itself.
func Expand(vm metadata.VM, instance *metadata.Instance) (*metadata.Instance, error) {
	e := expansion{vm: vm, origin: instance.Origin}
	expanded := *instance
	expanded.MetaData = e.mapping("metadata", instance.MetaData)
	expanded.Network = e.mapping("network", instance.Network)
	expanded.UserData = e.document("userdata", instance.UserData)
	expanded.VendorData = e.document("vendordata", instance.VendorData)
	switch {
	case len(e.problems) > 0:
		return nil, errors.Join(e.problems...)
	case !e.changed:
		return instance, nil
	}
	if lines, ok := instance.Origin.(metadata.LineOrigin); ok && len(e.moved) > 0 {
		expanded.Origin = origin{lines, e.moved}
	}
	return &expanded, nil
}

// origin is a source's, but for the lines that templates moved.
type origin struct {
	metadata.LineOrigin
	moved []string
}

// LocateLine implements metadata.LineOrigin.
func (o origin) LocateLine(path string, line, column int) string {
	if slices.Contains(o.moved, path) {
		return ""
	}
	return o.LineOrigin.LocateLine(path, line, column)
}

type expansion struct {
	vm       metadata.VM
	origin   metadata.Origin
	room     int // how many bytes may still be written
	changed  bool
	moved    []string // sections whose lines are other than their source's
	problems []error
}

func (e *expansion) mapping(path string, values map[string]any) map[string]any {
	e.room = maxOutput
	filled, _ := e.value(path, values).(map[string]any)
	return filled
}

// value returns a copy of value with its texts filled in.
func (e *expansion) value(path string, value any) any {
	switch v := value.(type) {
	case string:
		return e.scalar(path, v)
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = e.value(path+"."+strconv.Itoa(i), item)
		}
		return list
	case map[string]any:
		if v == nil {
			return nil
		}
		mapping := make(map[string]any, len(v))
		for key, item := range v {
			mapping[key] = e.value(path+"."+key, item)
		}
		return mapping
	case yaml11.Map:
		return e.ordered(path, v)
	}
	return value
}

// scalar is text for what is to be YAML or JSON.
func (e *expansion) scalar(path, text string) string {
	filled := e.text(path, text)
	if filled != text && !utf8.ValidString(filled) {
		e.report(path, &templateError{problem: "gives text that is not UTF-8"})
	}
	return filled
}

// ordered fills in the keys of a mapping too.
func (e *expansion) ordered(path string, m yaml11.Map) yaml11.Map {
	filled := make(yaml11.Map, 0, len(m))
	seen := make(map[string]bool, len(m))
	for _, pair := range m {
		place := path + "." + pair.Key
		key := e.scalar(place, pair.Key)
		switch {
		case key == "":
			e.report(place, &templateError{problem: "gives an empty key"})
		case seen[key]:
			e.report(place, &templateError{problem: "gives a key that is there twice"})
		}
		seen[key] = true
		filled = append(filled, yaml11.Pair{Key: key, Value: e.value(place, pair.Value)})
	}
	return filled
}

func (e *expansion) document(path string, data []byte) []byte {
	if !bytes.Contains(data, []byte("{{")) || isJinja(data) || bytes.HasPrefix(data, []byte(gzip)) {
		return data
	}
	e.room = maxOutput
	if mapping, ok := readMapping(data); ok {
		return e.cloudConfig(path, data, mapping)
	}
	filled := []byte(e.text(path, string(data)))
	if bytes.Count(filled, []byte("\n")) != bytes.Count(data, []byte("\n")) {
		e.moved = append(e.moved, path)
	}
	return filled
}

func isJinja(data []byte) bool {
	data = bytes.TrimLeft(data, " \t\r\n\v\f")
	return bytes.EqualFold(data[:min(len(data), len(jinja))], []byte(jinja))
}

// readMapping returns the mapping that user-data was made of. Text that looks the same is taken for one.
func readMapping(data []byte) (yaml11.Map, bool) {
	for line := range bytes.Lines(data) { // most texts are told at their first template: it is not in quotes
		if before, _, found := bytes.Cut(line, []byte("{{")); found && !bytes.Contains(before, []byte{'"'}) {
			return nil, false
		}
	}
	return yaml11.ReadCloudConfig(data)
}

// cloudConfig fills in the texts of a mapping one by one: what they give stays within them.
func (e *expansion) cloudConfig(path string, data []byte, mapping yaml11.Map) []byte {
	before := len(e.problems)
	filled, err := yaml11.AppendCloudConfig(nil, e.ordered(path, mapping))
	switch {
	case len(e.problems) > before:
		if lines, ok := e.origin.(metadata.LineOrigin); ok && lines.LocateLine(path, 1, 1) != "" { // it is a text, with places in it
			text := expansion{vm: e.vm, origin: e.origin, room: maxOutput}
			if text.text(path, string(data)); len(text.problems) > 0 {
				e.problems = append(e.problems[:before], text.problems...)
			}
		}
	case err != nil:
		e.report(path, &templateError{problem: "gives what can't be written as YAML: " + err.Error()})
	case len(filled) > maxOutput:
		e.report(path, explain("", errTooLong))
	}
	return filled
}

func (e *expansion) text(path, text string) string {
	if !strings.Contains(text, "{{") {
		return text
	}
	e.changed = true
	t, err := read(text)
	if err == nil {
		out := limited{room: e.room}
		if err = t.Execute(&out, struct{ VM metadata.VM }{e.vm}); err == nil {
			e.room -= out.Len()
			return out.String()
		}
		err = explain(text, err)
	}
	problem, ok := errors.AsType[*templateError](err)
	if !ok {
		problem = &templateError{problem: "can't be filled in"}
	}
	e.report(path, problem)
	return text
}

func (e *expansion) report(path string, problem *templateError) {
	if len(e.problems) < maxProblems {
		e.problems = append(e.problems, e.dataError(path, problem))
	}
}

// dataError places a problem: on its very line, if the text stands in its source line by line.
func (e *expansion) dataError(path string, problem *templateError) *metadata.DataError {
	if lines, ok := e.origin.(metadata.LineOrigin); ok && problem.line > 0 {
		if place := lines.LocateLine(path, problem.line, max(problem.column, 1)); place != "" {
			return &metadata.DataError{Origin: place, Path: path, Problem: "the template " + problem.problem}
		}
	}
	place := ""
	if e.origin != nil {
		place = e.origin.Locate(path)
	}
	return &metadata.DataError{Origin: place, Path: path, Problem: "the template " + problem.Error()}
}

// templateError is a problem in a text. It shows nothing of it but names.
type templateError struct {
	line, column int // 0 is not known
	problem      string
}

func (e *templateError) Error() string {
	if e.line > 1 {
		return fmt.Sprintf("on line %d of this text %s", e.line, e.problem)
	}
	return e.problem
}

// ownFunctions are ours; builtin ones of text/template that stay are named in knownFunctions.
func ownFunctions() template.FuncMap {
	return template.FuncMap{
		"lower":      strings.ToLower,
		"upper":      strings.ToUpper,
		"replace":    func(from, to, text string) string { return strings.ReplaceAll(text, from, to) },
		"trimPrefix": func(prefix, text string) string { return strings.TrimPrefix(text, prefix) },
		"trimSuffix": func(suffix, text string) string { return strings.TrimSuffix(text, suffix) },
		"default": func(instead, text string) string {
			if text == "" {
				return instead
			}
			return text
		},
		"json": func(text string) (string, error) {
			quoted, err := json.Marshal(text)
			return string(quoted), err
		},
	}
}

func knownFunctions() []string {
	names := []string{"and", "eq", "ge", "gt", "index", "le", "len", "lt", "ne", "not", "or", "print", "printf", "slice"}
	for name := range ownFunctions() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func vmFields() []string { return []string{"BIOSUUID", "LocationUUID", "Name", "UUID"} }

// read parses a template, and refuses what is not in our part of the language.
func read(text string) (*template.Template, error) {
	t, err := template.New("").Funcs(ownFunctions()).Parse(text)
	if err != nil {
		return nil, explain(text, err)
	}
	if t.Tree == nil || t.Root == nil { // it held nothing but definitions
		return nil, &templateError{problem: "defines another template, which is not understood here"}
	}
	if len(t.Templates()) > 1 {
		return nil, &templateError{problem: "defines another template, which is not understood here"}
	}
	c := checker{text: text}
	c.check(t.Root)
	if c.err != nil {
		return nil, c.err
	}
	return t, nil
}

// checker looks for what may not be in a template.
type checker struct {
	text string
	err  *templateError
}

func (c *checker) refuse(pos parse.Pos, format string, args ...any) {
	if c.err == nil {
		before := c.text[:min(int(pos), len(c.text))]
		c.err = &templateError{
			line: strings.Count(before, "\n") + 1, column: columnOf(before), problem: fmt.Sprintf(format, args...),
		}
	}
}

// columnOf returns the column, in characters, of what comes after the text.
func columnOf(before string) int {
	return utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
}

func (c *checker) check(node parse.Node) {
	switch n := node.(type) {
	case *parse.ListNode:
		if n == nil {
			return
		}
		for _, inner := range n.Nodes {
			c.check(inner)
		}
	case *parse.ActionNode:
		c.pipe(n.Pipe)
	case *parse.IfNode:
		c.branch(&n.BranchNode)
	case *parse.WithNode:
		c.branch(&n.BranchNode)
	case *parse.RangeNode, *parse.BreakNode, *parse.ContinueNode:
		c.refuse(node.Position(), "has a loop, which is not understood here")
	case *parse.TemplateNode:
		c.refuse(n.Pos, "calls another template, which is not understood here")
	}
}

func (c *checker) branch(n *parse.BranchNode) {
	c.pipe(n.Pipe)
	c.check(n.List)
	c.check(n.ElseList)
}

func (c *checker) pipe(pipe *parse.PipeNode) {
	if pipe == nil {
		return
	}
	for _, command := range pipe.Cmds {
		for _, arg := range command.Args {
			switch n := arg.(type) {
			case *parse.PipeNode:
				c.pipe(n)
			case *parse.IdentifierNode:
				if known := knownFunctions(); !slices.Contains(known, n.Ident) {
					c.refuse(n.Pos, "has a function %s, and there is none%s", n.Ident, nearest.Hint(n.Ident, known))
				}
			case *parse.FieldNode:
				c.field(n.Pos, n.Ident)
			case *parse.VariableNode:
				if n.Ident[0] == "$" && len(n.Ident) > 1 {
					c.field(n.Pos, n.Ident[1:])
				}
			case *parse.ChainNode:
				c.refuse(n.Pos, "has a field of what is in parentheses, which is not understood here")
			}
		}
	}
}

func (c *checker) field(pos parse.Pos, names []string) {
	switch {
	case names[0] != "VM":
		c.refuse(pos, "has a field .%s, and there is none: fields start with .VM, as in {{ .VM.Name }}", names[0])
	case len(names) == 1:
		c.refuse(pos, "has .VM without one of its fields %s", strings.Join(vmFields(), ", "))
	case len(names) != 2 || !slices.Contains(vmFields(), names[1]):
		name := strings.Join(names[1:], ".")
		c.refuse(pos, "has a field .VM.%s, and there is none%s", name, nearest.Hint(name, vmFields()))
	}
}

var (
	errorPlace      = regexp.MustCompile(`^template: :(\d+)(?::(\d+))?: `)
	missingFunction = regexp.MustCompile(`function "(\w+)" not defined`)
)

// explain takes from text/template's error about a text the place and what shows nothing of the text.
func explain(text string, err error) *templateError {
	if errors.Is(err, errTooLong) {
		return &templateError{problem: fmt.Sprintf("gives more than %d MiB, by itself or with others", maxOutput>>20)}
	}
	message := err.Error()
	e := &templateError{problem: "is not understood: look at the braces and quotes; a {{ that is meant as text is written {{ \"{{\" }}"}
	if place := errorPlace.FindStringSubmatch(message); place != nil {
		e.line, _ = strconv.Atoi(place[1])
		if before, err := strconv.Atoi(place[2]); err == nil { // in bytes
			line := text
			for range e.line - 1 {
				_, line, _ = strings.Cut(line, "\n")
			}
			e.column = columnOf(line[:min(before, len(line))])
		}
	}
	function := missingFunction.FindStringSubmatch(message)
	_, executing := errors.AsType[template.ExecError](err)
	switch {
	case function != nil:
		e.problem = fmt.Sprintf("has a function %s, and there is none%s", function[1], nearest.Hint(function[1], knownFunctions()))
	case strings.Contains(message, "wrong number of args"):
		e.problem = "gives a function too few or too many values"
	case executing:
		e.problem = "can't be filled in for this VM: a function does not take the value that it is given"
	}
	return e
}

var errTooLong = errors.New("too long")

// limited is a buffer that takes room bytes.
type limited struct {
	bytes.Buffer
	room int
}

var _ io.Writer = (*limited)(nil)

func (l *limited) Write(data []byte) (int, error) {
	if l.Len()+len(data) > l.room {
		return 0, errTooLong
	}
	return l.Buffer.Write(data)
}
