package postgres

import (
	"regexp"
	"strings"
)

// What placeholders looks for at the start of what is left of a query (PostgreSQL's manual, section 4.1).
var (
	placeholder = regexp.MustCompile(`^\$[0-9]+`)
	lineComment = regexp.MustCompile(`^--[^\r\n]*`)
	dollarQuote = regexp.MustCompile(`^\$(?:[A-Za-z_\x{80}-\x{10FFFF}][A-Za-z0-9_\x{80}-\x{10FFFF}]*)?\$`)
	escapeText  = regexp.MustCompile(`^[eE]'(?:[^'\\]|\\(?s:.)|'')*'`)
	word        = regexp.MustCompile(`^[A-Za-z_\x{80}-\x{10FFFF}][A-Za-z0-9_$\x{80}-\x{10FFFF}]*`)
)

// placeholders returns the parameters of a query, such as "$1", in their order, without what looks like one in comments, quotes
// and names. Where something is not closed it ends: the database will say so.
func placeholders(query string) []string {
	var found []string
	for query != "" {
		length := 1
		switch c := query[0]; {
		case strings.HasPrefix(query, "--"):
			length = len(lineComment.FindString(query))
		case strings.HasPrefix(query, "/*"):
			length = comment(query)
		case c == '\'', c == '"': // a quote within is doubled, which makes two texts of it
			length = to(query, 1, query[:1])
		case c == '$':
			if tag := dollarQuote.FindString(query); tag != "" {
				length = to(query, len(tag), tag)
			} else if parameter := placeholder.FindString(query); parameter != "" {
				length, found = len(parameter), append(found, parameter)
			}
		default:
			length = max(1, len(escapeText.FindString(query)))
			if length == 1 {
				length = max(1, len(word.FindString(query)))
			}
		}
		query = query[length:]
	}
	return found
}

// to returns the length of text to the end of the next such end, from an index on; all of it if there is none.
func to(text string, from int, end string) int {
	if at := strings.Index(text[from:], end); at >= 0 {
		return from + at + len(end)
	}
	return len(text)
}

// comment returns the length of the comment at the start of text, in which others may be.
func comment(text string) int {
	depth := 0
	for i := 0; i+1 < len(text); i++ {
		switch text[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
		}
		if depth == 0 {
			return i + 1
		}
	}
	return len(text)
}
