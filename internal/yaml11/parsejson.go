package yaml11

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// isJSON is for a JSON object or array. JSON is all but a part of YAML: the pairs of escapes for one character
// beyond U+FFFF (as Python's json.dumps writes them) and numbers such as 1e3 mean something else there.
func isJSON(data []byte) bool {
	start := bytes.TrimLeft(data, " \t\r\n")
	return len(start) > 0 && (start[0] == '{' || start[0] == '[') && utf8.Valid(data) && json.Valid(data)
}

// parseJSON returns the nodes of a valid JSON text.
func parseJSON(data []byte) (*yaml.Node, error) {
	p := jsonParser{data: data, tokens: json.NewDecoder(bytes.NewReader(data)), line: 1, column: 1}
	p.tokens.UseNumber()
	return p.value(0)
}

type jsonParser struct {
	data   []byte
	tokens *json.Decoder

	// pos is where line and column were counted up to.
	pos, line, column int
	values            int
}

// next returns the next token, and an empty node at its place.
func (p *jsonParser) next() (json.Token, *yaml.Node, error) {
	start := int(p.tokens.InputOffset())
	for start < len(p.data) && strings.IndexByte(" \t\r\n,:", p.data[start]) >= 0 {
		start++
	}
	for ; p.pos < start; p.pos++ {
		switch c := p.data[p.pos]; {
		case c == '\n':
			p.line, p.column = p.line+1, 1
		case utf8.RuneStart(c):
			p.column++
		}
	}
	token, err := p.tokens.Token()
	return token, &yaml.Node{Line: p.line, Column: p.column}, err
}

func (p *jsonParser) value(depth int) (*yaml.Node, error) {
	token, n, err := p.next()
	if err != nil {
		return nil, &Error{Line: n.Line, Column: n.Column, Problem: "is not JSON"}
	}
	if p.values++; p.values > 2*maxValues { // keys and values
		return nil, &Error{Line: n.Line, Column: n.Column, Problem: fmt.Sprintf("the document has more than %d values", maxValues)}
	}
	n.Kind = yaml.ScalarNode
	switch v := token.(type) {
	case string:
		n.Style, n.Tag, n.Value = yaml.DoubleQuotedStyle, "!!str", v
	case bool:
		n.Value = strconv.FormatBool(v)
	case nil:
		n.Value = "null"
	case json.Number:
		n.Value = v.String()
		if strings.ContainsAny(n.Value, "eE") {
			f, _ := v.Float64() // out of range is infinite, which the Decoder judges
			n.Style, n.Tag, n.Value = yaml.TaggedStyle, "!!float", string(appendFloat(nil, f))
		}
	case json.Delim:
		if depth >= maxDepth {
			return nil, &Error{Line: n.Line, Column: n.Column, Problem: fmt.Sprintf("is nested more than %d levels deep", maxDepth)}
		}
		n.Kind = yaml.SequenceNode
		if v == '{' {
			n.Kind = yaml.MappingNode
		}
		n.Style = yaml.FlowStyle
		for p.tokens.More() {
			element, err := p.value(depth + 1)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, element)
		}
		if _, _, err := p.next(); err != nil { // the closing bracket
			return nil, &Error{Line: n.Line, Column: n.Column, Problem: "is not JSON"}
		}
	}
	return n, nil
}
