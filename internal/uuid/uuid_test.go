package uuid_test

import (
	"strings"
	"testing"

	"vmw-cloudinit-metadata/internal/uuid"
)

func TestParse(t *testing.T) {
	const want = "421338a5-0a6a-b9b4-b647-3007991cf1d6"
	for _, tc := range []struct{ name, text, want string }{
		{"vmx", "42 13 38 a5 0a 6a b9 b4-b6 47 30 07 99 1c f1 d6", want},
		{"api", want, want},
		{"upper case", strings.ToUpper(want), want},
		{"bare digits", "421338a50a6ab9b4b6473007991cf1d6", want},
		{"blanks around", "  " + want + " ", want},
		{"empty", "", ""},
		{"a digit short", want[1:], ""},
		{"a digit long", want + "0", ""},
		{"twice", want + want, ""},
		{"not hexadecimal", "g" + want[1:], ""},
		{"nil UUID", "00000000-0000-0000-0000-000000000000", ""},
		{"path", "../" + want, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, ok := uuid.Parse(tc.text)
			if got != tc.want || ok != (tc.want != "") {
				t.Errorf("Parse(%q) = %q, %v; want %q", tc.text, got, ok, tc.want)
			}
		})
	}
}
