package yaml11_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"vmw-cloudinit-metadata/internal/yaml11"
	"vmw-cloudinit-metadata/internal/yaml11/yaml11test"
)

// awkward are texts of which some YAML or other makes something else, or nothing.
func awkward() []string {
	texts := []string{
		"", " ", "a ", " a", "a b", "a  b", "\t", "a\t", "\n", "a\nb", "a\n", "\na", "a\r\nb", "\r", "a\rb", "\u0085", "a\u0085b", "\u2028", "\u2029", "\ufeff", "a\ufeffb",
		"\x00", "\x01", "\x1b[0m", "\x7f", "\u0080", "\u009f", "\u00a0", "\ud7ff", "\ue000", "\ufffd", "\ufffe", "\uffff", "😀", "\U0010ffff", "größe", "名前",
		"=", "<<", "~", "null", "Null", "NULL", "nUll", "yes", "Yes", "YES", "yEs", "no", "on", "off", "On", "y", "n", "Y", "N", "true", "TRUE", "false", "t",
		"0", "-0", "+0", "00", "07", "08", "0644", "0o644", "0x1F", "0X1F", "0b101", "0b2", "0x", "0b", "0_", "0x_", "0b_", "1_000", "_1", "1_", "1__2", "+1", "-1", "--1", "+-1", "1-", "-",
		"9223372036854775807", "9223372036854775808", "-9223372036854775808", "18446744073709551615",
		"1:30", "12:30:45", "12:34:56:12:34:56", "00:50:56:12:34:56", "1:60", "1:5:9", "0:30", "01:30", "190:20:30.15", "1:30.", "-1:30", "+1:30", "1_0:30", "1:3_0", "1:", ":1", "1::2", ":", "::", "a:b", "a: b", "a:", ":a", "a :b",
		"1.0", "1.", ".5", "-.5", "+.5", "._5", ".5_", "1._5", "1e3", "1.5e3", "1.5e+3", "1.5E-3", "1.5e+", "1.e+3", ".e+3", "1e+3", "1.5e+3_0", "1_0.5", "0.0", "-0.0", "1.2.3", "192.168.1.1", "1.7976931348623157e+309", "0x1.8p1",
		".inf", "-.inf", "+.Inf", ".INF", ".iNF", ".nan", ".NaN", ".NAN", "-.nan", "inf", "nan", "Infinity", ".", "..", "...", "....",
		"2001-01-01", "2001-1-1", "2001-01-01T00:00:00Z", "2001-01-01 00:00:00", "2001-01-01x", "2001-12-14t21:59:43.10-05:00", "2001-12-14 21:59:43.10 -5", "2001-13-99", "20010101", "1999-", "1999-a",
		"---", "--- a", "-a", "- a", "?", "? a", "?a", "!", "!a", "!!str a", "&a", "*a", "|", ">", "%", "%a", "@", "@a", "`", "'", "\"", "'a'", "\"a\"", "it's", "\\", "\\n", "#", "#a", "a #b", "a#b", "a: #b",
		"[", "]", "{", "}", "[]", "{}", ",", "a,b", "a, b", "[a", "{a: b}", "/", "/etc", "a/b", "+", "a+b", "ssh-ed25519 AAAA+/== me@host", "2001:db8::1", "::1", "fe80::1%eth0",
		"user@example.com", "a@b", "a_b", "_", "__", "x: y: z", "key: 'v'", strings.Repeat("a", 2000), strings.Repeat("a b ", 600), strings.Repeat("ü", 500), strings.Repeat("\x01", 300),
	}
	return texts
}

// valuesToWrite are what Append must bring over, each text as a value, in a list and as a key.
func valuesToWrite() []any {
	values := []any{
		nil, true, false, int64(0), int64(-1), int64(math.MaxInt64), int64(math.MinInt64), uint64(math.MaxUint64),
		0.0, math.Copysign(0, -1), 1.0, 1.5, 1e6, 1e21, 1e-7, -2.5e300, math.MaxFloat64, math.SmallestNonzeroFloat64,
		map[string]any{}, []any{}, []any{[]any{}, map[string]any{}}, []any{[]any{[]any{int64(1)}}},
		map[string]any{"a": map[string]any{"b": []any{map[string]any{"c": []any{nil}, "d": map[string]any{}}}}},
	}
	for _, text := range awkward() {
		values = append(values, text, []any{text, text}, map[string]any{"k": text})
		if len(text) <= 100 {
			values = append(values, map[string]any{text: text}, []any{map[string]any{text: []any{text}, "z": "z"}})
		}
	}
	return values
}

func randomValue(r *rand.Rand, depth int) any {
	switch n := r.IntN(12); {
	case n < 2 && depth > 0:
		list := make([]any, r.IntN(4))
		for i := range list {
			list[i] = randomValue(r, depth-1)
		}
		return list
	case n < 4 && depth > 0:
		m := map[string]any{}
		for range r.IntN(4) {
			m[randomText(r)] = randomValue(r, depth-1)
		}
		return m
	case n == 4:
		return int64(r.Uint64())
	case n == 5:
		return math.Float64frombits(r.Uint64() &^ (1 << 62)) // finite
	case n == 6:
		return [...]any{nil, true, false, r.Uint64()}[r.IntN(4)]
	}
	return randomText(r)
}

// randomText favours what means something to YAML.
func randomText(r *rand.Rand) string {
	const alphabet = "aeExyYnNoO0123456789 -+.:_,#'\"\\[]{}&*!|>%@`~=<?\t\n\r/\u0085\u2028\ufeff\x00\x7fü😀"
	letters := []rune(alphabet)
	var text strings.Builder
	for range r.IntN(9) {
		text.WriteRune(letters[r.IntN(len(letters))])
	}
	return text.String()
}

func TestPyYAMLReadsWhatWeWrite(t *testing.T) {
	values := valuesToWrite()
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		values = append(values, randomValue(r, 4))
	}
	var documents [][]byte
	for _, value := range values {
		asYAML, err := yaml11.Append(nil, value)
		if err != nil {
			t.Fatalf("Append(%q): %v", value, err)
		}
		asJSON, err := yaml11.AppendJSON(nil, value)
		if err != nil {
			t.Fatalf("AppendJSON(%q): %v", value, err)
		}
		documents = append(documents, asYAML, asJSON)
	}
	for i, got := range yaml11test.Load(t, documents) {
		if want := yaml11test.Describe(values[i/2]); got != want {
			t.Errorf("%q\nwas written as\n%s\nand PyYAML reads %s", want, documents[i], got)
		}
	}
}

func TestWeReadWhatPyYAMLReads(t *testing.T) {
	var documents [][]byte
	for _, text := range awkward() {
		if strings.ContainsAny(text, "\n\r\u0085\u2028\u2029\x00\x01\x1b\x7f\ufeff\ufffe\uffff") || len(text) > 100 || strings.HasPrefix(text, "---") || text == "..." {
			continue // no plain scalars
		}
		documents = append(documents, []byte("- "+text+"\n"), []byte("k: "+text+"\n"))
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 4000 { // numbers, and what is nearly one
		var text strings.Builder
		for range 1 + r.IntN(7) {
			text.WriteByte("0123456789_:.+-xboeE"[r.IntN(20)])
		}
		documents = append(documents, []byte("- "+text.String()+"\n"))
	}
	documents = append(documents, []byte("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\n"), []byte("a: &x {b: 1}\ny: &y {b: 2, c: 3}\nd: {<<: [*x, *y], e: 4}\n"),
		[]byte("a: !!binary aGVs\n  bG8=\nb: !!str 12\nc: !!float 3\nd: !!int 0x10\ne: ! 12\nf: !!null ''\n"),
		[]byte("a: |\n  x\n   y\n\nb: >-\n  x\n  y\nc: 'it''s'\nd: \"a\\x41\\u00e9\\n\"\n"))
	documents = slices.DeleteFunc(documents, func(document []byte) bool {
		// Keys are text to us, and never empty.
		return strings.HasPrefix(string(document), "- ") && strings.HasSuffix(string(document), ":\n") || strings.HasSuffix(string(document), "?\n")
	})
	for i, want := range yaml11test.Load(t, documents) {
		got := describeOurs(documents[i])
		switch {
		case strings.Contains(want, "time"), want == "error": // dates are text for us; we may take more than PyYAML
			continue
		case got != want:
			t.Errorf("%q is %s to us and %s to PyYAML", documents[i], got, want)
		}
	}
}

func describeOurs(document []byte) string {
	root, err := yaml11.Parse(document)
	if err != nil {
		return fmt.Sprint(err)
	}
	if root == nil {
		return "null"
	}
	var d yaml11.Decoder
	value := d.Decode("", root)
	if problems := d.Problems(); len(problems) > 0 {
		return fmt.Sprint(problems)
	}
	return yaml11test.Describe(value)
}
