package yaml11

import (
	"bytes"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Text is a large text after a | of the outermost mapping: most of what a file has, as a rule. The parser would go through
// it character by character, which takes ten times as long as all else that is done with the file.
type Text struct {
	line   int    // of its |
	body   []byte // its lines in the file
	lines  int    // how many
	indent int
	chomp  byte // the sign behind the |, or 0
}

// minBlock is how large a text has to be, in bytes, to be worth cutting out.
const minBlock = 256

// stub is what the parser sees in place of a text's lines.
const stub = "x\n"

// Append appends the text to dst.
func (t *Text) Append(dst []byte) []byte {
	dst = slices.Grow(dst, len(t.body))
	start := len(dst)
	for body := t.body; len(body) > 0; {
		n := bytes.IndexByte(body, '\n') + 1
		dst = append(dst, body[min(t.indent, n-1):n]...)
		body = body[n:]
	}
	if t.chomp == '+' {
		return dst
	}
	end := start + len(bytes.TrimRight(dst[start:], "\n"))
	if t.chomp == 0 && end < len(dst) {
		end++
	}
	return dst[:end]
}

// cutTexts returns data, which may be plain, with a stub in place of each large text, and what was cut. What it takes for a
// text may be none, in quotes say: only the parser knows. So its result has to be checked.
func cutTexts(data []byte, plain bool) (short []byte, texts []Text) {
	line, kept := 0, 0
	for start := 0; start < len(data); {
		line++
		end := start + 1 + bytes.IndexByte(data[start:], '\n')
		if end == start {
			break // the last line has no end
		}
		header := data[start:end]
		start = end
		chomp, ok := opensBlock(header)
		if !ok {
			continue
		}
		body, indent := blockBody(data[end:])
		lines := bytes.Count(body, []byte("\n"))
		if len(body) >= minBlock && (plain || isOrdinary(body)) {
			texts = append(texts, Text{line, body, lines, indent, chomp})
			short = append(append(short, data[kept:end]...), bytes.Repeat([]byte(" "), indent)...)
			short = append(short, stub...)
			kept = end + len(body)
		}
		start, line = end+len(body), line+lines
	}
	if texts == nil {
		return data, nil
	}
	return append(short, data[kept:]...), texts
}

// opensBlock is for a line that starts in the first column with a key and ends with a |.
func opensBlock(line []byte) (chomp byte, ok bool) {
	if c := line[0]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
		return 0, false
	}
	line = bytes.TrimRight(line, " \n")
	if last := line[len(line)-1]; last == '-' || last == '+' {
		chomp, line = last, line[:len(line)-1]
	}
	return chomp, bytes.HasSuffix(line, []byte(": |"))
}

// blockBody returns the lines at the start of data that are a text's, and by how much they are indented.
func blockBody(data []byte) (body []byte, indent int) {
	end := 0
	for end < len(data) {
		line := data[end:]
		n := bytes.IndexByte(line, '\n') + 1
		if n == 0 {
			return nil, 0 // left to the parser: nothing ends the last line
		}
		line = line[:n]
		blanks := len(line) - len(bytes.TrimLeft(line, " "))
		switch empty := blanks == n-1; {
		case indent == 0 && empty:
			return nil, 0 // the parser counts its blanks too
		case indent == 0:
			indent = blanks
		case blanks < indent && !empty:
			return data[:end], indent
		}
		if indent == 0 {
			break
		}
		end += n
	}
	return data[:end], indent
}

// isOrdinary is for a body with no breaks but \n.
func isOrdinary(body []byte) bool {
	for _, special := range []string{"\r", "\u0085", "\u2028", "\u2029", "\ufeff"} {
		if bytes.IndexByte(body, special[0]) >= 0 && bytes.Contains(body, []byte(special)) {
			return false
		}
	}
	return true
}

// place returns the texts by the nodes that the parser made of their stubs, and gives all nodes the lines that they have
// with the texts. It returns false if the parser did not see each text where it was cut.
func place(root *yaml.Node, texts []Text) (map[*yaml.Node]*Text, bool) {
	if root == nil || root.Kind != yaml.MappingNode {
		return nil, false
	}
	places := make(map[*yaml.Node]*Text, len(texts))
	shift := 0 // by how many lines what follows is too far up
	for i, n := range root.Content {
		moveDown(n, shift)
		if len(places) == len(texts) || i%2 == 0 || n.Kind != yaml.ScalarNode {
			continue
		}
		t := &texts[len(places)]
		if n.Line < t.line {
			continue
		}
		want := stub
		if t.chomp == '-' {
			want = strings.TrimSuffix(stub, "\n")
		}
		if n.Line != t.line || n.Style != yaml.LiteralStyle || n.Value != want {
			return nil, false
		}
		places[n] = t
		shift += t.lines - 1
	}
	return places, len(places) == len(texts)
}

func moveDown(n *yaml.Node, lines int) {
	if lines == 0 {
		return
	}
	n.Line += lines
	for _, child := range n.Content {
		moveDown(child, lines)
	}
}
