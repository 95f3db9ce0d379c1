package yaml11_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"vmw-cloudinit-metadata/internal/yaml11"
	"vmw-cloudinit-metadata/internal/yaml11/yaml11test"
)

func TestResolve(t *testing.T) {
	for text, want := range map[string]any{
		"": nil, "~": nil, "Null": nil, "yes": true, "OFF": false, "y": "y", "yEs": "yEs",
		"0644": int64(420), "0o644": "0o644", "08": "08", "0x1F": int64(31), "0b101": int64(5), "1_000": int64(1000), "-0": int64(0),
		"1:30": int64(90), "190:20:30": int64(685230), "1:60": "1:60", "12:34:56:12:34:56": int64(9783981296), "00:50:56:00:00:01": "00:50:56:00:00:01",
		"18446744073709551615": uint64(math.MaxUint64), "-9223372036854775808": int64(math.MinInt64),
		"1.5": 1.5, "1.": 1.0, ".5": 0.5, "-.5": "-.5", "1e3": "1e3", "1.5e3": "1.5e3", "1.5e+3": 1500.0, "190:20:30.15": 685230.15, ".inf": math.Inf(1),
		"123456789012345678901234.5": 123456789012345678901234.5, "99999999999999999999999:1.5": 6e24, "8901234567890123456789a": "8901234567890123456789a",
		"99999999999999999999:60": "99999999999999999999:60", "99999999999999999999.1.1": "99999999999999999999.1.1", "0x1.8": "0x1.8", "0b12": "0b12",
		"2001-01-01": "2001-01-01", "=": "=", "192.168.1.1": "192.168.1.1", "1.2.3": "1.2.3", "+": "+", "-": "-", ".": ".", "1:": "1:",
	} {
		got, err := yaml11.Resolve(text)
		if err != nil || got != want {
			t.Errorf("%q is %#v (%v), want %#v", text, got, err, want)
		}
	}
	for _, text := range []string{"18446744073709551616", "-9223372036854775809", "0x10000000000000000", "99999999999999999999:30"} {
		if got, err := yaml11.Resolve(text); err == nil {
			t.Errorf("%q is %#v, want an error", text, got)
		}
	}
}

// problems returns what is wrong with a text, a line each.
func problems(text string, d *yaml11.Decoder) string {
	root, err := yaml11.Parse([]byte(text))
	if err != nil {
		return err.Error()
	}
	if root == nil {
		return ""
	}
	d.Decode("", root)
	var lines []string
	for _, problem := range d.Problems() {
		lines = append(lines, problem.Error())
	}
	return strings.Join(lines, "\n")
}

func TestProblemsHaveTheirPlace(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"key twice", "a: 1\nb:\n  c: 1\n  c: 2\n", "4:3: b.c: is there twice, first on line 3: remove one"},
		{"merge key twice", "a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a\n", "4:3: b.<<: is there twice, first on line 3: remove one"},
		{"merge of a scalar", "a: {<<: 1}\n", "1:9: a.<<: takes a mapping, or a list of mappings"},
		{"list for a key", "? [a]\n: b\n", "1:3: a key must be text, not a list or a mapping: a text that starts with { or [ needs quotes around it"},
		{"empty key", "a: {: b}\n", "1:5: a: there is an empty key here"},
		{"long key", "a: {" + strings.Repeat("k", 161) + ": 1}\n", "1:5: a: has a key of more than 160 bytes"},
		{"number too big", "a: 99999999999999999999\n", "1:4: a: is a number of more than 64 bits: put it in quotes if it is text"},
		{"own tag", "a: !vault abc\n", "1:4: a: has a tag that is not understood: put the value in quotes if the ! is part of it"},
		{"tag of a list", "a: !!set {b}\n", "1:4: a: has a tag that is not understood: only plain lists and mappings are"},
		{"wrong tag", "a: !!int abc\n", "1:4: a: is not what its tag says"},
		{"bad base64", "a: !!binary '&'\n", "1:4: a: is !!binary, and no valid base64"},
		{"contains itself", "a: &x [b, *x]\n", "1:4: a.1: contains itself, by an alias"},
		{"merges itself", "a: &x\n  b: 1\n  <<: *x\n", "1:4: a: contains itself, by an alias"},
		{"second document", "a: 1\n---\nb: 2\n", "2:1: a second YAML document starts here, where only one can be: if this line is meant as text, indent it; if not, remove it"},
		{"unknown alias", "a: *b\n", "1:4: is not YAML: what starts with * is an alias, and there is no such anchor above; put it in quotes if it is text"},
		{"tab", "a:\n\tb: 1\n", "2:1: is not YAML: there is a tab, where only blanks can be"},
		{"tab behind other lines", "ü: [a,\n b]\nc:\n\td: e\n", "4:1: is not YAML: there is a tab, where only blanks can be"},
		{"at sign", "a: [b, @c]\n", "1:8: is not YAML: this character can't start a value; put the value in quotes if it is text"},
		{"at sign behind lone dashes", "ü: [su, -, b]\na: [-, @]\n", "2:8: is not YAML: this character can't start a value; put the value in quotes if it is text"},
		{"open bracket behind a lone dash", "%YAML 1.2\n---\na: [-, 1\nb: 2\n", "4:2: is not YAML: unexpected character; put the value in quotes if it is text"},
		{"dash with a blank", "a: [ - ]\n", "1:6: is not YAML: did not find expected node content (while parsing a flow node)"},
		{"twice behind a lone dash", "{ü: -, b: -, b: 1}\n", "1:14: b: is there twice, first on line 1: remove one"},
		{"version 2", "%YAML 2.0\n---\na: b\n", "1:1: is not YAML: found incompatible YAML document"},
		{"open bracket", "a: [1,\n", "2:1: is not YAML: did not find expected node content (while parsing a flow node)"},
		{"colon in a value", "a: b: c\n", "1:5: is not YAML: mapping values are not allowed in this context"},
		{"not UTF-8", "a: b\nü: \xff\n", "2:4: is not UTF-8 from here on: save it as UTF-8, and give binary data as !!binary"},
		{"UTF-16", "\xff\xfea\x00", "1:1: is UTF-16: save it as UTF-8"},
		{"control character", "a: b\x07\n", "1:5: has the control character U+0007, which YAML does not allow: write it as an escape in double quotes"},
		{"two problems", "a: !x 1\nb: !y 2\n", "1:4: a: has a tag that is not understood: put the value in quotes if the ! is part of it\n2:4: b: has a tag that is not understood: put the value in quotes if the ! is part of it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := problems(tc.text, &yaml11.Decoder{}); got != tc.want {
				t.Errorf("%q:\ngot  %s\nwant %s", tc.text, got, tc.want)
			}
		})
	}
}

func TestDecoderOptions(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"a: !!binary aGk=\n", "1:4: a: is !!binary, which fits only userdata and vendordata: write text"},
		{"a: .nan\n", "1:4: a: is not a finite number: put it in quotes if it is text"},
		{"a: 1.0e+999\n", "1:4: a: is not a finite number: put it in quotes if it is text"},
	} {
		if got := problems(tc.text, &yaml11.Decoder{JSON: true}); got != tc.want {
			t.Errorf("%q: got %s, want %s", tc.text, got, tc.want)
		}
	}
	root, err := yaml11.Parse([]byte("z: 0123\na: [no, ~, 'x']\nm: {<<: {k: 1}, b: 2}\n"))
	if err != nil {
		t.Fatal(err)
	}
	var visited []string
	d := yaml11.Decoder{
		KeepOrder: true, Literal: func(path string) bool { return path != "m.b" },
		Visit: func(path string, line, column int) {
			visited = append(visited, fmt.Sprintf("%s@%d:%d", path, line, column))
		},
	}
	got, err := json.Marshal(d.Decode("", root))
	if err != nil {
		t.Fatal(err)
	}
	const want = `[{"Key":"z","Value":"0123"},{"Key":"a","Value":["no",null,"x"]},{"Key":"m","Value":[{"Key":"k","Value":"1"},{"Key":"b","Value":2}]}]`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := strings.Join(visited, " "), "z@1:1 a@2:1 a.0@2:5 a.1@2:9 a.2@2:12 m@3:1 m.k@3:10 m.b@3:17"; got != want {
		t.Errorf("visited %s\nwant %s", got, want)
	}
}

func TestJSON(t *testing.T) {
	for text, want := range map[string]string{
		"{\"a\":\t\"x\\/\\ud83d\\ude00\x7f\"}":          `{str "a": str 0x782ff09f98807f}`,
		`[1e3, 1.5E-1, -0.5, 10, 18446744073709551615]`: `[float 408f400000000000, float 3fc3333333333333, float bfe0000000000000, int 10, int 18446744073709551615]`,
		` {"<<": {"a": true}, "b": [[], {}, null]} `:    `{str "<<": {str "a": bool true}, str "b": [[], {}, null]}`,
		`{a: 1e3}`: `{str "a": str "1e3"}`, // YAML
	} {
		if got := describeOurs([]byte(text)); got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
	for text, want := range map[string]string{
		"{\"a\": 1,\n \"b\": {\"ü\": 1, \"ü\": 2}}": "2:16: b.ü: is there twice, first on line 2: remove one",
		`{"a": 1e999}`: "1:7: a: is not a finite number: put it in quotes if it is text",
		strings.Repeat("[", 100) + strings.Repeat("]", 100): "1:65: is nested more than 64 levels deep",
		`{"a": 1} {"b": 2}`: "1:10: is not YAML: did not find expected <document start>",
	} {
		if got := problems(text, &yaml11.Decoder{JSON: true}); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

// TestBombs are documents of a few lines that mean millions of values, or need as many steps.
func TestBombs(t *testing.T) {
	chain := func(first, each string) string {
		text := first
		for i := range 60 {
			text += strings.NewReplacer("NEW", fmt.Sprintf("a%d", i+1), "OLD", fmt.Sprintf("a%d", i)).Replace(each)
		}
		return text
	}
	const tooBig = "is too big once its aliases are followed"
	for _, tc := range []struct{ name, text, want string }{
		{"lists", chain("a0: &a0 [x]\n", "NEW: &NEW [*OLD, *OLD, *OLD]\n"), tooBig},
		{"mappings", chain("a0: &a0 {x: y}\n", "NEW: &NEW {a: *OLD, b: *OLD}\n"), tooBig},
		{"merges", chain("a0: &a0 {}\n", "NEW: &NEW {<<: [*OLD, *OLD]}\n"), tooBig},
		{"text", "a: &a '" + strings.Repeat("x", 1<<20) + "'\nb: [" + strings.Repeat("*a,", 1000) + "]\n", tooBig},
		{"JSON", "[" + strings.Repeat("1,", 1<<21) + "1]", "has more than 100000 values"},
		{"depth", strings.Repeat("[", 100) + strings.Repeat("]", 100), "nested more than 64 levels deep"},
		{"block depth", strings.Repeat("- ", 100), "nested more than 64 levels deep"},
		{"depth by aliases", "a: &a " + strings.Repeat("[", 40) + strings.Repeat("]", 40) + "\nb: " + strings.Repeat("[", 40) + "*a" + strings.Repeat("]", 40), "nested more than 64 levels deep"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := problems(tc.text, &yaml11.Decoder{}); !strings.Contains(got, tc.want) {
				t.Errorf("got %.200s, want %s", got, tc.want)
			}
		})
	}
}

func TestSyntaxErrorsShowNoContent(t *testing.T) {
	const secret = "hunter2"
	for _, text := range []string{
		"a: *" + secret, "a: &" + secret + " [", "a: !" + secret + "\"{} x", "a: !<" + secret, "%" + secret + "\n---\n", "%TAG ! " + secret + "\n", "a: \"" + secret + "\\q\"",
		"a: '" + secret, "a: |" + secret, "- " + secret + "\nb: 1", "a: {" + secret + ": [}", "a: @" + secret, "a: `" + secret, "a: !!" + secret + " x", "a: !" + secret + "!x y", "<<: " + secret,
	} {
		got := problems(text, &yaml11.Decoder{})
		if strings.Contains(got, secret) {
			t.Errorf("%q: the error shows it: %s", text, got)
		}
		if got == "" && !strings.HasPrefix(text, "a: &") {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestAppend(t *testing.T) {
	value := yaml11.Map{
		{Key: "version", Value: 1},
		{Key: "config", Value: []any{
			yaml11.Map{{Key: "type", Value: "physical"}, {Key: "mac_address", Value: "12:34:56:12:34:56"}, {Key: "subnets", Value: []any{yaml11.Map{{Key: "address", Value: "192.168.1.1"}}}}},
			[]string{"a", "yes"},
			[]any{},
		}},
		{Key: "yes", Value: map[string]any{"b": []byte("hi"), "a": nil}},
		{Key: "deep", Value: map[string]any{"a": 1e6}},
	}
	want := `version: 1
config:
- type: physical
  mac_address: "12:34:56:12:34:56"
  subnets:
  - address: 192.168.1.1
- - a
  - "yes"
- []
"yes":
  a: null
  b: !!binary "aGk="
deep:
  a: 1.0e+06
`
	if got, err := yaml11.Append(nil, value); err != nil || string(got) != want {
		t.Errorf("got (%v)\n%s\nwant\n%s", err, got, want)
	}
	for _, bad := range []any{"\xff", map[string]any{"\xff": 1}, struct{}{}, []any{make(chan int)}, map[string]any{strings.Repeat("k", 200): 1}} {
		if got, err := yaml11.Append([]byte("x"), bad); err == nil || string(got) != "x" {
			t.Errorf("Append(%T) = %q, %v", bad, got, err)
		}
	}
	deep := any("x")
	for range 100 {
		deep = []any{deep}
	}
	if _, err := yaml11.Append(nil, deep); err == nil {
		t.Error("Append takes a hundred levels")
	}
}

func TestAppendJSON(t *testing.T) {
	value := map[string]any{"b": "a\"\\\n\x7f\u0085<>&😀", "a": []any{1e21, int64(-1), uint64(1), true, nil}, "c": map[string]any{}}
	const want = `{"a": [1.0e+21, -1, 1, true, null], "b": "a\"\\\n\u007f\u0085<>&😀", "c": {}}`
	got, err := yaml11.AppendJSON(nil, value)
	if err != nil || string(got) != want {
		t.Errorf("got  %s (%v)\nwant %s", got, err, want)
	}
	var back map[string]any
	if err := json.Unmarshal(got, &back); err != nil || back["b"] != value["b"] {
		t.Errorf("encoding/json reads %v, %v", back, err)
	}
	for _, bad := range []any{math.NaN(), math.Inf(-1), []byte("a"), "\xff", map[string]any{strings.Repeat("k", 1000): 1}} {
		if got, err := yaml11.AppendJSON(nil, bad); err == nil {
			t.Errorf("AppendJSON(%T) = %s", bad, got)
		}
	}
}

func TestCloudConfig(t *testing.T) {
	m := yaml11.Map{{Key: "b", Value: []any{"x: y", nil, yaml11.Map{{Key: "yes", Value: "1"}}}}, {Key: "a", Value: int64(1)}}
	const want = "#cloud-config\nb:\n- \"x: y\"\n- null\n- \"yes\": \"1\"\na: 1\n"
	doc, err := yaml11.AppendCloudConfig([]byte("x"), m)
	if err != nil || string(doc) != "x"+want {
		t.Errorf("got %q, %v", doc, err)
	}
	if back, ok := yaml11.ReadCloudConfig([]byte(want)); !ok || yaml11test.Describe(back) != yaml11test.Describe(m) {
		t.Errorf("%s came back as %s", yaml11test.Describe(m), yaml11test.Describe(back))
	}
	if doc, err := yaml11.AppendCloudConfig([]byte("x"), yaml11.Map{{Key: "a", Value: "\xff"}}); err == nil || string(doc) != "x" {
		t.Errorf("got %q, %v", doc, err)
	}
	for _, other := range []string{
		"", "#cloud-config", "#cloud-config\n", "#cloud-config\n[]\n", "#cloud-config\ntext\n", "a: 1\n", "#cloud-config\na: [\n", "#cloud-config \na: 1\n",
		"#cloud-config\na: 1", "#cloud-config\na: 1\n\n", "#cloud-config\na: 'x'\n", "#cloud-config\na: \"x\"\n", "#cloud-config\na: 01\n",
		"#cloud-config\na: 1 # one\n", "#cloud-config\na: 1\na: 1\n", "#cloud-config\na: &x 1\n", "#cloud-config\na: [1]\n", "#cloud-config\na: |\n  b\n",
		"#cloud-config\na: 1\n---\nb: 1\n", "#cloud-config\r\na: 1\r\n", want[:len(want)-1],
	} {
		if m, ok := yaml11.ReadCloudConfig([]byte(other)); ok {
			t.Errorf("%q is taken for our own, of %s", other, yaml11test.Describe(m))
		}
	}
}

// FuzzRoundTrip checks that what parses is written, and reads back as the same value.
func FuzzRoundTrip(f *testing.F) {
	for _, text := range awkward() {
		f.Add([]byte("a: " + text + "\n"))
	}
	f.Add([]byte("a: &x {b: 1}\nc: [*x, {<<: *x}]\nd: !!binary aGk=\n"))
	f.Add([]byte("a: |\n  b\n\n c\n"))
	f.Add([]byte(`{"a": [1e3, "\ud83d\ude00", null, {}], "<<": {}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		root, err := yaml11.Parse(text)
		if err != nil || root == nil {
			return
		}
		d := yaml11.Decoder{KeepOrder: true}
		value := d.Decode("", root)
		if len(d.Problems()) > 0 {
			return
		}
		written, err := yaml11.Append(nil, value)
		if err != nil {
			t.Fatalf("a value that was read can't be written: %v", err)
		}
		if root, err = yaml11.Parse(written); err != nil {
			t.Fatalf("%q does not parse: %v", written, err)
		}
		d = yaml11.Decoder{KeepOrder: true}
		again, err := yaml11.Append(nil, d.Decode("", root))
		if err != nil || len(d.Problems()) > 0 || !bytes.Equal(written, again) {
			t.Fatalf("%q was written anew as %q (%v, %v)", written, again, d.Problems(), err)
		}
		if back := d.Decode("", root); yaml11test.Describe(back) != yaml11test.Describe(value) {
			t.Fatalf("%s came back as %s", yaml11test.Describe(value), yaml11test.Describe(back))
		}
	})
}

// FuzzText checks that any text survives both encoders.
func FuzzText(f *testing.F) {
	for _, text := range awkward() {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			return
		}
		for _, encode := range []func([]byte, any) ([]byte, error){yaml11.Append, yaml11.AppendJSON} {
			document, err := encode(nil, []any{text})
			if err != nil {
				t.Fatal(err)
			}
			root, err := yaml11.Parse(document)
			if err != nil {
				t.Fatalf("%q: %v", document, err)
			}
			var d yaml11.Decoder
			if got := yaml11test.Describe(d.Decode("", root)); got != yaml11test.Describe([]any{text}) {
				t.Fatalf("%q reads as %s", document, got)
			}
		}
	})
}
