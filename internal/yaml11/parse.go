// Package yaml11 reads and writes YAML as PyYAML does, which is what cloud-init has: plain scalars mean what YAML
// 1.1 says (yes is true, 0644 is 420, 1:30 is 90), where most Go programs follow YAML 1.2.
package yaml11

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// maxDepth is how deep collections may nest. The deepest document known to cloud-init is at 8; the parser, our
// walks and PyYAML's are all recursive.
const maxDepth = 64

// Error is one thing wrong with a YAML text. It shows nothing of the text.
type Error struct {
	// Line and Column count from 1, the column in characters. Line 0 means the text as a whole.
	Line, Column int
	// Path is the keys and indices that lead to the value, joined by dots, where the structure is known so far.
	Path string
	// Problem says what is wrong, and what to do.
	Problem string
}

func (e *Error) Error() string {
	text := e.Problem
	if e.Path != "" {
		text = e.Path + ": " + text
	}
	if e.Line > 0 {
		text = fmt.Sprintf("%d:%d: %s", e.Line, e.Column, text)
	}
	return text
}

// Parse returns the root node of the one document in data, YAML or JSON; nil if there is none. Its error is an
// *Error.
func Parse(data []byte) (*yaml.Node, error) {
	root, texts, err := ParseTexts(data)
	for n, text := range texts {
		n.Value = string(text.Append(nil))
	}
	return root, err
}

// ParseTexts is Parse, but for large texts that are values of the outermost mapping: they are left in data, and what their
// nodes have as a value means nothing.
func ParseTexts(data []byte) (root *yaml.Node, texts map[*yaml.Node]*Text, err error) {
	if isJSON(data) {
		root, err = parseJSON(data)
		return root, nil, err
	}
	plain, err := checkText(data)
	if err != nil {
		return nil, nil, err
	}
	if short, cut := cutTexts(data, plain); cut != nil {
		if root, err := load(short); err == nil {
			if texts, ok := place(root, cut); ok {
				return root, texts, nil
			}
		}
	}
	root, err = load(data)
	return root, nil, err
}

// load is Parse of a text that is YAML's characters.
func load(data []byte) (*yaml.Node, error) {
	root, err := loadAsIs(data)
	var restores []func(*yaml.Node)
	for refused, ok := errors.AsType[*yaml.LoadError](err); ok; refused, ok = errors.AsType[*yaml.LoadError](err) {
		repaired, restore, changed := repair(data, refused.Message) // only once for each kind
		if !changed {
			return nil, syntaxError(refused, data)
		}
		data, restores = repaired, append(restores, restore)
		root, err = loadAsIs(data)
	}
	if root != nil {
		for _, restore := range restores {
			restore(root)
		}
	}
	return root, err
}

// loadAsIs takes what the parser takes. Its error is the parser's, or an *Error.
func loadAsIs(data []byte) (*yaml.Node, error) {
	loader, err := yaml.NewLoader(bytes.NewReader(data), yaml.WithPlugin(depthLimit{}))
	if err != nil {
		return nil, &Error{Problem: err.Error()}
	}
	var doc, next yaml.Node
	if err := loader.Load(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, parserError(err)
	}
	if err := loader.Load(&next); err == nil {
		return nil, &Error{Line: next.Line, Column: next.Column, Problem: "a second YAML document starts here, where only one can be: " +
			"if this line is meant as text, indent it; if not, remove it"}
	} else if !errors.Is(err, io.EOF) {
		return nil, parserError(err)
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	return doc.Content[0], nil
}

// checkText refuses what the parser would refuse without saying where. plain says that all is ASCII, and no line ends but
// with \n.
func checkText(data []byte) (plain bool, err error) {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return false, &Error{Line: 1, Column: 1, Problem: "is UTF-16: save it as UTF-8"}
	}
	plain = true
	for i := 0; i < len(data); {
		if i += plainRun(data[i:]); i == len(data) {
			break
		}
		c := data[i]
		if c >= ' ' && c < 0x7f || c == '\n' || c == '\t' {
			i++
			continue
		}
		if plain = false; c == '\r' {
			i++
			continue
		}
		r, size := utf8.DecodeRune(data[i:])
		problem := ""
		switch {
		case r == utf8.RuneError && size == 1:
			problem = "is not UTF-8 from here on: save it as UTF-8, and give binary data as !!binary"
		case !printable(r) && r != '\ufeff':
			problem = fmt.Sprintf("has the control character U+%04X, which YAML does not allow: write it as an escape in double quotes", r)
		}
		if problem != "" {
			line := data[bytes.LastIndexByte(data[:i], '\n')+1 : i]
			return false, &Error{Line: bytes.Count(data[:i], []byte("\n")) + 1, Column: utf8.RuneCount(line) + 1, Problem: problem}
		}
		i += size
	}
	return plain, nil
}

// plainRun returns how many bytes at the start of data are printable ASCII, in steps of eight: those that it stops at
// may be so too.
func plainRun(data []byte) int {
	const each, high = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; n+8 <= len(data); n += 8 {
		x := binary.LittleEndian.Uint64(data[n:])
		del := x ^ 0x7f*each // 0 where a byte is DEL
		if (x|(x-' '*each)|(del-each)&^del)&high != 0 {
			break
		}
	}
	return n
}

// printable is YAML's c-printable (5.1), without the byte order mark.
func printable(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' || r >= ' ' && r < 0x7f || r == 0x85 ||
		r >= 0xa0 && r < 0xd800 || r >= 0xe000 && r < 0xfffe && r != 0xfeff || r >= 0x10000 && r <= utf8.MaxRune
}

// parserError returns an error of a kind that is known.
func parserError(err error) error {
	if refused, ok := errors.AsType[*yaml.LoadError](err); ok {
		return refused
	}
	return &Error{Problem: "is not YAML"}
}

// syntaxError takes position and problem from the parser's error and leaves out what it may quote from the text.
func syntaxError(loadError *yaml.LoadError, data []byte) error {
	e := &Error{Line: loadError.Mark.Line, Column: loadError.Mark.Column}
	if e.Line == 0 {
		e.Line, e.Column = loadError.ContextMark.Line, loadError.ContextMark.Column
	}
	switch {
	case loadError.Stage == yaml.ComposerStage:
		e.Problem = "is not YAML: what starts with * is an alias, and there is no such anchor above; put it in quotes if it is text"
	case strings.Contains(loadError.Message, "cannot start any token") && characterAt(data, e.Line, e.Column) == '\t':
		e.Problem = "is not YAML: there is a tab, where only blanks can be"
	case strings.Contains(loadError.Message, "cannot start any token"):
		e.Problem = "is not YAML: this character can't start a value; put the value in quotes if it is text"
	case strings.ContainsAny(loadError.Message, "'\""):
		e.Problem = "is not YAML: unexpected character; put the value in quotes if it is text"
	default:
		e.Problem = "is not YAML: " + loadError.Message
		if loadError.ContextMsg != "" {
			e.Problem += " (" + loadError.ContextMsg + ")"
		}
	}
	return e
}

// characterAt returns what stands at a place; 0 if nothing does.
func characterAt(data []byte, line, column int) rune {
	for range line - 1 {
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
	for range column - 1 {
		_, size := utf8.DecodeRune(data)
		data = data[size:]
	}
	if len(data) == 0 {
		return 0
	}
	character, _ := utf8.DecodeRune(data)
	return character
}

// depthLimit is the parser's hook. Aliases are the Decoder's business: the parser doesn't follow them.
type depthLimit struct{}

func (depthLimit) CheckDepth(depth int, _ *yaml.DepthContext) error {
	if depth > maxDepth {
		return fmt.Errorf("nested more than %d levels deep", maxDepth)
	}
	return nil
}

func (depthLimit) CheckAlias(int, int) error { return nil }
