package yaml11_test

import (
	"bytes"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"vmw-cloudinit-metadata/internal/yaml11"
	"vmw-cloudinit-metadata/internal/yaml11/yaml11test"
)

// refusedByTheParser are documents that PyYAML takes.
func refusedByTheParser() []string {
	return []string{
		"[su, -, postgres]", "[-]", "[-,a]", "[a,-]", "[a, -]", "[a,\n -,\n b]", "{a: -}", "{a: -, b: c}", "{-}", `{"a":-}`, "[[-], {a: [-]}]", "[-, --, -x, x-, -, 'a -, b', \"[-]\"]",
		"runcmd:\n- [su, -, postgres, -c, 'psql [-, -]']\n- |\n  echo [a, -, b]\n  -, -]\n- a -, b\n- -, c\n- >\n  x\n  -}\n",
		"# [-]\nä: [ö, -] # -,\n\ue000: [-, \ue000, '\ue001']\n", "x: |\n  -,\n-: [-]\n", "&a [-, &b -x, *b]\n", "[a\n -, -]\n", "[a: -, b: [-]]\n",
		"%YAML 1.2\n---\na: b\n", "%YAML 1.0\n---\na: 0o7\n", "# of\n\n%YAML  1.3 # this\n--- [on, -]\n", "%TAG !a! tag:a,1\n%YAML 1.12\n--- [0644]\n...\n", "%YAML 1.2\r\n---\r\n- |\r\n  %YAML 1.2\r\n",
	}
}

func TestWhatTheParserRefusesAndPyYAMLReads(t *testing.T) {
	var documents [][]byte
	for _, document := range refusedByTheParser() {
		documents = append(documents, []byte(document))
	}
	for i, want := range yaml11test.Load(t, documents) {
		if got := describeOurs(documents[i]); got != want || want == "error" {
			t.Errorf("%q is %s to us and %s to PyYAML", documents[i], got, want)
		}
	}
}

// TestNothingIsMadeUp holds random documents that the parser refuses, and we take, against PyYAML.
func TestNothingIsMadeUp(t *testing.T) {
	pieces := []string{"-", "-", "-", ",", ",", "]", "]", "}", "[", "[", "{", " ", " ", "\n", "\n ", "a", "ü", "'", `"`, ": ", ":", "- ", "#", " #", "|\n", ">-\n", "&b ", "*b", "!!str ", "---\n", "...", "\\", "%YAML 1.2\n---", "%", "x: ", "\ue000", "\r\n"}
	r := rand.New(rand.NewPCG(5, 6))
	var taken [][]byte
	for range 100_000 {
		var text strings.Builder
		if r.IntN(2) == 0 {
			text.WriteString([]string{"[", "x: [", "- {", "%YAML 1.2\n--- ["}[r.IntN(4)])
		}
		for range 1 + r.IntN(12) {
			text.WriteString(pieces[r.IntN(len(pieces))])
		}
		if r.IntN(2) == 0 {
			text.WriteString([]string{"]", "}", "]}", "']"}[r.IntN(4)])
		}
		document := []byte(text.String())
		if _, err := yaml11.Parse(document); err == nil && yaml.Unmarshal(document, new(yaml.Node)) != nil {
			taken = append(taken, document)
		}
	}
	if len(taken) < 300 {
		t.Fatalf("only %d documents test anything", len(taken))
	}
	// Where the parser has ways of its own, it has them whatever there is in place of a dash and a version.
	lone := regexp.MustCompile(`([\s\[{,:])-([,\]}])`)
	var alike [][]byte
	for _, document := range taken {
		document = lone.ReplaceAll(lone.ReplaceAll(document, []byte("${1}Z${2}")), []byte("${1}Z${2}"))
		alike = append(alike, bytes.ReplaceAll(document, []byte("%YAML 1.2"), []byte("%YAML 1.1")))
	}
	problems := regexp.MustCompile(`^\[\d+:\d+: `) // of keys, most of them
	of := yaml11test.Load(t, alike)
	for i, want := range yaml11test.Load(t, taken) {
		if got := describeOurs(taken[i]); got != want && !problems.MatchString(got) && describeOurs(alike[i]) == of[i] {
			t.Errorf("%q is %s to us and %s to PyYAML", taken[i], got, want)
		}
	}
}
