package yaml11

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// long is more than a text needs to be cut out, every line indented by two.
var long = strings.Repeat("  all of this is text: [\n", 20)

func TestLargeTextsAreCutOut(t *testing.T) {
	for _, c := range []struct {
		name, text string
		cut        int // how many texts the parser does not have to go through
	}{
		{"one", "userdata: |\n" + long, 1},
		{"two, with more around", "a: 1\nuserdata: |\n" + long + "b: [c,\n d]\nvendordata: |-\n" + long + "c: 1\n", 2},
		{"kept breaks", "userdata: |+\n" + long + "\n\n", 1},
		{"stripped breaks", "userdata: |-\n" + long + "\n\n", 1},
		{"blank lines within", "userdata: |\n" + long + "\n \n      \n" + long, 1},
		{"more indented lines", "userdata: |\n" + long + "      deep\n" + long, 1},
		{"a comment behind", "userdata: |\n" + long + "# a comment\nb: 1\n", 1},
		{"a document's start before", "---\nuserdata: |\n" + long, 1},
		{"a document's end behind", "userdata: |\n" + long + "...\n", 1},
		{"indented by a tab within", "userdata: |\n" + long + "  \ttab\n", 1},
		{"text of other scripts", "userdata: |\n" + long + "  größe 名前\n", 1},
		{"lone dashes around", "%YAML 1.2\n---\na: [-, b]\nuserdata: |\n" + long + "  [-, -]\nb: [-,\n -]\n", 1},
		{"short", "userdata: |\n  short\n", 0},
		{"blank lines first", "userdata: |\n    \n" + long, 0},
		{"no break at the end", "userdata: |\n" + strings.TrimSuffix(long, "\n"), 0},
		{"CR LF", strings.ReplaceAll("userdata: |\n"+long, "\n", "\r\n"), 0},
		{"a break of YAML 1.1's", "userdata: |\n" + long + "  a\u2028b\n", 0},
		{"not the outermost mapping", "a:\n  userdata: |\n  " + long, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			plain, err := checkText([]byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			_, cut := cutTexts([]byte(c.text), plain)
			if len(cut) != c.cut {
				t.Errorf("%d texts were cut out; want %d", len(cut), c.cut)
			}
			if _, texts, err := ParseTexts([]byte(c.text)); len(texts) != c.cut {
				t.Errorf("the parser does not see what was cut out: %v", err)
			}
			sameAsUncut(t, c.text)
		})
	}
}

func TestWhatOnlyLooksLikeATextIsNone(t *testing.T) {
	for name, text := range map[string]string{
		"in double quotes":     "a: \"\nuserdata: |\n" + long + "\"\n",
		"in a comment":         "a: 1\n#userdata: |\n" + strings.ReplaceAll(long, "  all", "# all"),
		"in a list":            "- a\nuserdata: |\n" + long,
		"in brackets":          "a: [\nuserdata: |\n" + long + "]\n",
		"in another text":      "a: |\n b\nuserdata: |\n" + long + "x\n",
		"a folded text":        "userdata: >\n" + long,
		"in a second document": "a: 1\n---\nuserdata: |\n" + long,
		"a key in two":         "? a\n: b\nuserdata: |\n" + long,
		"a tab behind":         "userdata: |\n" + long + "\ttab\n",
		"a wrong line behind":  "userdata: |\n" + long + " less\n",
	} {
		t.Run(name, func(t *testing.T) { sameAsUncut(t, text) })
	}
}

// sameAsUncut checks that a text means what the parser alone makes of it.
func sameAsUncut(t *testing.T, text string) {
	t.Helper()
	if _, err := checkText([]byte(text)); err != nil || isJSON([]byte(text)) {
		return
	}
	want, wantErr := load([]byte(text))
	got, err := Parse([]byte(text))
	switch {
	case (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error():
		t.Errorf("error %v; without cutting %v", err, wantErr)
	case err == nil && !sameNodes(got, want, map[*yaml.Node]bool{}):
		t.Errorf("it means something else without cutting:\n%q", text)
	}
}

func sameNodes(a, b *yaml.Node, seen map[*yaml.Node]bool) bool {
	if a == nil || b == nil || seen[a] {
		return (a == nil) == (b == nil)
	}
	seen[a] = true
	if a.Kind != b.Kind || a.Style != b.Style || a.Tag != b.Tag || a.Value != b.Value || a.Anchor != b.Anchor ||
		a.Line != b.Line || a.Column != b.Column || len(a.Content) != len(b.Content) || !sameNodes(a.Alias, b.Alias, seen) {
		return false
	}
	for i := range a.Content {
		if !sameNodes(a.Content[i], b.Content[i], seen) {
			return false
		}
	}
	return true
}

func FuzzBlocks(f *testing.F) {
	filler := strings.Repeat("  filler\n", 30)
	for _, text := range []string{
		"a: |\n@\n", "a: |+\n@\n \n   \nb: |-\n@", "a: |\n @", "a: \"\nb: |\n@\"", "a: |\n@\ta\n", "a: |\n@\n\tb\n", "- a: |\n@", "a: |\n@...\n",
		"a: |\n@---\nb: |\n@", "? a: |\n@: b", "{a: |\n@}", "a: 'b: |\n@'", "a: b: |\n@", "a: &x |\n@", "a: !!str |\n@", "a: |2\n@", "a: |\n@#\n", "a: |  \n@",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		// Texts are cut out from a certain size on, which a fuzzer is slow to reach.
		sameAsUncut(t, strings.ReplaceAll(text, "@", filler))
	})
}
