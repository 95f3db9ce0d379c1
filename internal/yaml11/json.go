package yaml11

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// AppendJSON appends value as JSON that PyYAML, which cloud-init reads JSON with, reads the same: control
// characters are escaped beyond what JSON asks for, and a number with an exponent has a point. It takes the types
// that Append takes, but for []byte and numbers that are not finite. Keys of map[string]any are sorted. On an
// error dst is returned as it was.
func AppendJSON(dst []byte, value any) ([]byte, error) {
	out, err := appendJSON(dst, value, 0)
	if err != nil {
		return dst, err
	}
	return out, nil
}

func appendJSON(dst []byte, value any, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested more than %d levels deep", maxDepth)
	}
	switch v := value.(type) {
	case string:
		return appendQuoted(dst, v)
	case Map:
		return appendObject(dst, v, depth)
	case map[string]any:
		return appendObject(dst, sorted(v), depth)
	case []any:
		return appendArray(dst, v, depth)
	case []string:
		return appendArray(dst, v, depth)
	case []byte:
		return nil, errors.New("binary data has no form in JSON")
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, errors.New("a number that is not finite has no form in JSON")
		}
	}
	return appendScalar(dst, value)
}

func appendObject(dst []byte, m Map, depth int) ([]byte, error) {
	dst = append(dst, '{')
	for i, pair := range m {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		if len(pair.Key) > maxKey {
			return nil, errLongKey
		}
		var err error
		if dst, err = appendQuoted(dst, pair.Key); err != nil {
			return nil, err
		}
		if dst, err = appendJSON(append(dst, ": "...), pair.Value, depth+1); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

func appendArray[T any](dst []byte, list []T, depth int) ([]byte, error) {
	dst = append(dst, '[')
	for i, item := range list {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		var err error
		if dst, err = appendJSON(dst, item, depth+1); err != nil {
			return nil, err
		}
	}
	return append(dst, ']'), nil
}

// appendQuoted appends text in double quotes, with such escapes only as JSON and all YAMLs share.
func appendQuoted(dst []byte, text string) ([]byte, error) {
	dst = append(dst, '"')
	for text != "" {
		n := 0
		for n < len(text) && isOrdinaryASCII(text[n]) {
			n++
		}
		dst = append(dst, text[:n]...)
		if text = text[n:]; text == "" {
			break
		}
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			return nil, errors.New("text that is not UTF-8 can't be written")
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, `\n`...)
		case r == '\t':
			dst = append(dst, `\t`...)
		case r < 0x10000 && (!printable(r) || r == '\r' || r == 0x85 || r == 0x2028 || r == 0x2029): // the last four break lines
			dst = append(dst, `\u`...)
			for shift := 12; shift >= 0; shift -= 4 {
				dst = append(dst, strconv.FormatInt(int64(r>>shift&0xf), 16)...)
			}
		default:
			dst = append(dst, text[:size]...)
		}
		text = text[size:]
	}
	return append(dst, '"'), nil
}

// isOrdinaryASCII is for what stands for itself in double quotes.
func isOrdinaryASCII(c byte) bool { return c >= ' ' && c < 0x7f && c != '"' && c != '\\' }
