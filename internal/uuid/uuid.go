// Package uuid reads UUIDs in the spellings that vSphere and its users have for them.
package uuid

// Parse returns text as 8-4-4-4-12 in lower case. It takes exactly 32 hexadecimal digits with blanks and dashes
// anywhere between them, which covers the .vmx form ("42 13 38 a5 …-b6 47 …"), the API's form and bare digits.
// No bytes are swapped: the order of the digits is the order of the text. Anything else, the empty text and the
// nil UUID (all zeros, which names nobody) included, is not a UUID.
func Parse(text string) (string, bool) {
	var out [36]byte
	n, nonZero := 0, false
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == ' ' || c == '-':
			continue
		case c >= 'A' && c <= 'F':
			c += 'a' - 'A'
		case c >= '0' && c <= '9' || c >= 'a' && c <= 'f':
		default:
			return "", false
		}
		if n == len(out) {
			return "", false
		}
		if n == 8 || n == 13 || n == 18 || n == 23 {
			out[n] = '-'
			n++
		}
		out[n] = c
		n++
		nonZero = nonZero || c != '0'
	}
	if n != len(out) || !nonZero {
		return "", false
	}
	return string(out[:]), true
}
