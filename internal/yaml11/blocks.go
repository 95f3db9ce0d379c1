package yaml11

import (
	"bytes"
	"strings"

	"go.yaml.in/yaml/v4"
)

// block is a text after a | of the outermost mapping: most of what a file has, as a rule. The parser would go through it
// character by character, which takes ten times as long as all else that is done with the file.
type block struct {
	line int // of its |
	text string
	stub string // the text that the parser sees in its place
}

// minBlock is how large a text has to be, in bytes, to be worth cutting out.
const minBlock = 256

// cutBlocks returns data with its large texts cut down to a line each, so that all lines keep their numbers, and what was
// cut. What it takes for a text may be none, in quotes say: only the parser knows. So its result has to be checked.
func cutBlocks(data []byte) (short []byte, blocks []block) {
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
		if len(body) >= minBlock && isOrdinary(body) {
			b := block{line: line}
			b.text, b.stub = chomped(unindented(body, indent), chomp), chomped("x"+strings.Repeat("\n", lines), chomp)
			blocks = append(blocks, b)
			short = append(append(short, data[kept:end]...), strings.Repeat(" ", indent)...)
			short = append(append(short, 'x'), bytes.Repeat([]byte("\n"), lines)...)
			kept = end + len(body)
		}
		start, line = end+len(body), line+lines
	}
	if blocks == nil {
		return data, nil
	}
	return append(short, data[kept:]...), blocks
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

// unindented returns the body without its indentation.
func unindented(body []byte, indent int) string {
	var text strings.Builder
	text.Grow(len(body))
	for len(body) > 0 {
		n := bytes.IndexByte(body, '\n') + 1
		text.Write(body[min(indent, n-1):n])
		body = body[n:]
	}
	return text.String()
}

// chomped returns the text with the breaks at its end that a + or a - leaves; 0 leaves one.
func chomped(text string, chomp byte) string {
	if chomp == '+' {
		return text
	}
	cut := strings.TrimRight(text, "\n")
	if chomp == 0 && len(cut) < len(text) {
		return text[:len(cut)+1]
	}
	return cut
}

// putBack gives the nodes their texts, and reports whether the parser saw each where it was cut.
func putBack(root *yaml.Node, blocks []block) bool {
	if root == nil || root.Kind != yaml.MappingNode {
		return false
	}
	found := 0
	for i := 1; i < len(root.Content) && found < len(blocks); i += 2 {
		n, b := root.Content[i], blocks[found]
		if n.Kind != yaml.ScalarNode || n.Line < b.line {
			continue
		}
		if n.Line != b.line || n.Style != yaml.LiteralStyle || n.Value != b.stub {
			return false
		}
		n.Value = b.text
		found++
	}
	return found == len(blocks)
}
