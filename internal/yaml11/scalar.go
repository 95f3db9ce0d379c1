package yaml11

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// errTooBig is for integers that PyYAML could hold and neither Go nor most readers of JSON can.
var errTooBig = errors.New("is a number of more than 64 bits: put it in quotes if it is text")

// Resolve returns what a plain scalar means to PyYAML: nil, bool, int64, uint64 (above int64's range), float64 or,
// for all else, the text itself. Dates stay text, which is how JSON and cloud-init's schemas have them. Its error
// is for a number that does not fit.
func Resolve(text string) (any, error) {
	value, isText, err := resolve(text)
	if isText {
		return text, nil
	}
	return value, err
}

// resolve is Resolve, but has no value for text.
func resolve(text string) (value any, isText bool, err error) {
	switch text {
	case "", "~", "null", "Null", "NULL":
		return nil, false, nil
	case "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON":
		return true, false, nil
	case "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF":
		return false, false, nil
	case ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF":
		return math.Inf(1), false, nil
	case "-.inf", "-.Inf", "-.INF":
		return math.Inf(-1), false, nil
	case ".nan", ".NaN", ".NAN":
		return math.NaN(), false, nil
	}
	if c := text[0]; c != '+' && c != '-' && c != '.' && !isDigit(c) {
		return nil, true, nil
	}
	if value, ok, err := resolveInt(text); ok || err != nil {
		return value, false, err
	}
	if value, ok := resolveFloat(text); ok {
		return value, false, nil
	}
	return nil, true, nil
}

// resolveInt follows http://yaml.org/type/int.html as PyYAML reads it: base 2, 8, 10, 16 and 60.
func resolveInt(text string) (any, bool, error) {
	digits, negative := cutSign(text)
	base := 10
	switch {
	case strings.HasPrefix(digits, "0b"):
		base, digits = 2, digits[2:]
	case strings.HasPrefix(digits, "0x"):
		base, digits = 16, digits[2:]
	case digits == "0":
	case strings.HasPrefix(digits, "0"):
		base, digits = 8, digits[1:]
	}
	for i := range len(digits) { // all of them, before any is found to be too many
		if c := digits[i]; c != '_' && c != ':' && !isDigitOf(c, base) {
			return nil, false, nil
		}
	}
	parts := strings.Split(digits, ":")
	if len(parts) > 1 && (base != 10 || digits[0] == '0') {
		return nil, false, nil
	}
	for i, part := range parts {
		if part == "" || i == 0 && base == 10 && part[0] == '_' || i > 0 && !isSixtieth(part) {
			return nil, false, nil
		}
	}
	var value uint64
	for _, part := range parts {
		number := strings.ReplaceAll(part, "_", "")
		if number == "" { // "0_" is 0 and "0x_" is nothing that PyYAML can read
			if base != 8 {
				return nil, false, nil
			}
			number = "0"
		}
		n, err := strconv.ParseUint(number, base, 64)
		if err != nil || value > (math.MaxUint64-n)/60 {
			return nil, false, errTooBig
		}
		value = value*60 + n
	}
	switch {
	case negative && value > -math.MinInt64:
		return nil, false, errTooBig
	case negative:
		return -int64(value), true, nil
	case value > math.MaxInt64:
		return value, true, nil
	}
	return int64(value), true, nil
}

// resolveFloat follows http://yaml.org/type/float.html as PyYAML reads it: the point is a must, an exponent has a
// sign, and a number that starts with the point has none.
func resolveFloat(text string) (float64, bool) {
	digits, negative := cutSign(text)
	whole, rest, found := strings.Cut(digits, ".")
	if !found || whole == "" && digits != text {
		return 0, false
	}
	fraction, exponent := rest, ""
	if i := strings.IndexAny(rest, "eE"); i >= 0 {
		fraction, exponent = rest[:i], rest[i:]
	}
	if !isDigits(fraction, true) {
		return 0, false
	}
	parts := strings.Split(whole, ":")
	if len(parts) > 1 && exponent != "" {
		return 0, false
	}
	if whole == "" && (fraction == "" || fraction[0] == '_') {
		return 0, false
	}
	if whole != "" && (!isDigits(parts[0], true) || !isDigit(whole[0])) {
		return 0, false
	}
	if exponent != "" && (len(exponent) < 3 || exponent[1] != '+' && exponent[1] != '-' || !isDigits(exponent[2:], false)) {
		return 0, false
	}
	value := 0.0
	for i, part := range parts {
		if i > 0 && !isSixtieth(part) {
			return 0, false
		}
		if i == len(parts)-1 {
			part += "." + fraction + exponent
		}
		n, err := strconv.ParseFloat(strings.ReplaceAll(part, "_", ""), 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) { // out of range is infinite, in Python too
			return 0, false
		}
		value = value*60 + n
	}
	if negative {
		value = -value
	}
	return value, true
}

func cutSign(text string) (digits string, negative bool) {
	if text != "" && (text[0] == '-' || text[0] == '+') {
		return text[1:], text[0] == '-'
	}
	return text, false
}

// isSixtieth is for a digit of base 60 after the first: [0-5]?[0-9].
func isSixtieth(text string) bool {
	return len(text) == 1 && isDigit(text[0]) || len(text) == 2 && text[0] >= '0' && text[0] <= '5' && isDigit(text[1])
}

func isDigits(text string, underscores bool) bool {
	for i := range len(text) {
		if !isDigit(text[i]) && (text[i] != '_' || !underscores) {
			return false
		}
	}
	return true
}

func isDigitOf(c byte, base int) bool {
	switch base {
	case 2, 8, 10:
		return c >= '0' && c < '0'+byte(base)
	}
	return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
