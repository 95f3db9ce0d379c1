package nearest

import (
	"strings"
	"testing"
)

func TestWord(t *testing.T) {
	known := []string{"address", "netmask", "dhcp", "mac-address", "mtu"}
	for word, want := range map[string]string{
		"addrss": "address", "Address": "address", "adrdess": "address", "mac_addrss": "mac-address", "netmaks": "netmask", "dchp": "dhcp", "mut": "mtu",
		"": "", "gateway": "", "x": "", "dh": "", strings.Repeat("address", 1000): "", "\xff\xfe": "",
	} {
		if got, _ := Word(word, known); got != want {
			t.Errorf("%.20q: got %q, want %q", word, got, want)
		}
	}
	for word, want := range map[string]int{"address": 0, "ADDRESS": 0, "addrss": 1, "adrdess": 1, "addrrs": 2} {
		if _, got := Word(word, known); got != want {
			t.Errorf("%q is at %d, want %d", word, got, want)
		}
	}
}

func TestHint(t *testing.T) {
	if got, want := Hint("addrss", []string{"address", "name"}), ": did you mean address?"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := Hint("foo", []string{"address", "name"}), ": known are address, name"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
