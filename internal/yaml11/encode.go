package yaml11

import (
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// maxKey is the longest key, in bytes: PyYAML finds no key of more than 1024 characters (YAML 1.1, section 9.1.2), and
// six stand for one in an escape.
const maxKey = 160

// maxKeyPyYAML is the longest that is read where PyYAML is to be followed, without the quotes.
const maxKeyPyYAML = 1022

var errLongKey = fmt.Errorf("a key is longer than %d bytes", maxKey)

// Append appends value as a YAML document in block form. It takes what Decoder returns and what encoding/json
// does, []string, Map (its order is kept) and map[string]any (sorted). What it writes reads back the same in
// PyYAML and in readers of YAML 1.2: text stays plain only where all of them agree. It fails for other types,
// for text that is not UTF-8, for keys too long and for nesting too deep; dst is then returned as it was.
func Append(dst []byte, value any) ([]byte, error) {
	out, err := appendBlock(dst, value, 0, 0)
	if err != nil {
		return dst, err
	}
	return out, nil
}

// appendBlock appends value where a line has begun: its first line is already indented.
func appendBlock(dst []byte, value any, indent, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested more than %d levels deep", maxDepth)
	}
	switch v := value.(type) {
	case Map:
		return appendMap(dst, v, indent, depth)
	case map[string]any:
		return appendMap(dst, sorted(v), indent, depth)
	case []any:
		return appendList(dst, v, indent, depth)
	case []string:
		return appendList(dst, v, indent, depth)
	}
	dst, err := appendScalar(dst, value)
	return append(dst, '\n'), err
}

func appendMap(dst []byte, m Map, indent, depth int) ([]byte, error) {
	if len(m) == 0 {
		return append(dst, "{}\n"...), nil
	}
	for i, pair := range m {
		if i > 0 {
			dst = appendIndent(dst, indent)
		}
		if len(pair.Key) > maxKey {
			return nil, errLongKey
		}
		var err error
		if dst, err = appendText(dst, pair.Key); err != nil {
			return nil, err
		}
		dst = append(dst, ':')
		switch size, list := sizeOf(pair.Value); {
		case size == 0: // a scalar, or an empty collection: on the same line
			dst = append(dst, ' ')
		case list:
			dst = appendIndent(append(dst, '\n'), indent)
		default:
			dst = appendIndent(append(dst, '\n'), indent+2)
			if dst, err = appendBlock(dst, pair.Value, indent+2, depth+1); err != nil {
				return nil, err
			}
			continue
		}
		if dst, err = appendBlock(dst, pair.Value, indent, depth+1); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

func appendList[T any](dst []byte, list []T, indent, depth int) ([]byte, error) {
	if len(list) == 0 {
		return append(dst, "[]\n"...), nil
	}
	for i, item := range list {
		if i > 0 {
			dst = appendIndent(dst, indent)
		}
		var err error
		if dst, err = appendBlock(append(dst, "- "...), item, indent+2, depth+1); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

// sizeOf returns the number of elements of a collection, and whether it is a list.
func sizeOf(value any) (size int, list bool) {
	switch v := value.(type) {
	case Map:
		return len(v), false
	case map[string]any:
		return len(v), false
	case []any:
		return len(v), true
	case []string:
		return len(v), true
	}
	return 0, false
}

func sorted(m map[string]any) Map {
	pairs := make(Map, 0, len(m))
	for key, value := range m {
		pairs = append(pairs, Pair{Key: key, Value: value})
	}
	slices.SortFunc(pairs, func(a, b Pair) int { return strings.Compare(a.Key, b.Key) })
	return pairs
}

func appendIndent(dst []byte, indent int) []byte {
	for range indent {
		dst = append(dst, ' ')
	}
	return dst
}

func appendScalar(dst []byte, value any) ([]byte, error) {
	switch v := value.(type) {
	case nil:
		return append(dst, "null"...), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case int:
		return strconv.AppendInt(dst, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(dst, v, 10), nil
	case uint64:
		return strconv.AppendUint(dst, v, 10), nil
	case float64:
		return appendFloat(dst, v), nil
	case string:
		return appendText(dst, v)
	case []byte:
		dst = append(dst, `!!binary "`...)
		return append(base64.StdEncoding.AppendEncode(dst, v), '"'), nil
	}
	return nil, fmt.Errorf("a value of type %T can't be written as YAML", value)
}

// appendFloat writes a point in each number: without one, PyYAML takes 1e+06 for text.
func appendFloat(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, ".nan"...)
	case math.IsInf(f, 1):
		return append(dst, ".inf"...)
	case math.IsInf(f, -1):
		return append(dst, "-.inf"...)
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'g', -1, 64), "e")
	dst = append(dst, mantissa...)
	if !strings.Contains(mantissa, ".") {
		dst = append(dst, ".0"...)
	}
	if exponent != "" {
		dst = append(append(dst, 'e'), exponent...)
	}
	return dst
}

func appendText(dst []byte, text string) ([]byte, error) {
	if isSafePlain(text) {
		return append(dst, text...), nil
	}
	return appendQuoted(dst, text)
}

// isSafePlain is for text that needs no quotes to stay text, whatever the version of YAML.
func isSafePlain(text string) bool {
	onlyDigitsAndColons := true
	for i := range len(text) {
		c := text[i]
		switch {
		case isDigit(c):
			continue
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '/':
		case c == '.' || c == '-' || c == '+' || c == '@' || c == ' ':
			if i == 0 || i == len(text)-1 {
				return false
			}
		case c == ':':
			if i == 0 || i == len(text)-1 || text[i+1] == ' ' {
				return false
			}
			continue
		default:
			return false
		}
		onlyDigitsAndColons = false
	}
	if onlyDigitsAndColons {
		return false
	}
	switch text { // YAML 1.1's specification has these too (yaml.org/type/bool.html)
	case "y", "Y", "n", "N":
		return false
	}
	if isDigit(text[0]) && strings.Count(text, ".") < 2 {
		if _, err := strconv.ParseFloat(text, 64); err == nil { // YAML 1.2's 1e3
			return false
		}
		if _, err := strconv.ParseInt(text, 0, 64); err == nil { // its 0o17
			return false
		}
	}
	if strings.HasPrefix(text, "0x") || strings.HasPrefix(text, "0b") { // PyYAML fails at "0x_"
		return false
	}
	_, isText, _ := resolve(text)
	return isText && !isTimestamp(text)
}

// isTimestamp is for what begins as a date does. PyYAML makes a date or a time of it.
func isTimestamp(text string) bool {
	return len(text) >= 6 && isDigits(text[:4], false) && text[4] == '-' && isDigit(text[5])
}
