package nocloud

import (
	"strings"
	"unicode/utf8"
)

// Limits of RFC 1035, section 2.3.4: a label, and a name in text form without the last dot.
const (
	maxLabel    = 63
	maxHostname = 253
)

// isHostname is for names by RFC 1123, section 2.1.
func isHostname(name string) bool {
	if len(name) > maxHostname {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if !isAlnum(label[i]) && label[i] != '-' {
				return false
			}
		}
	}
	return true
}

func isAlnum(c byte) bool { return c >= '0' && c <= '9' || isLetter(c) }

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// defaultHostname makes a hostname of a VM's name, else of its instance-id; it is never empty. Dots separate
// labels only where the name is a host's name in full; in "Ubuntu 24.04 (old)" they are no different from blanks.
func defaultHostname(name, id string) string {
	if isHostname(name) && isLetterLed(name[strings.LastIndexByte(name, '.')+1:]) {
		return strings.ToLower(name)
	}
	if label := toLabel(unescapeName(name)); label != "" {
		return label
	}
	if label := toLabel("vm-" + id); label != "" {
		return label
	}
	return "vm"
}

// isLetterLed tells a top-level domain from the end of a version or an address.
func isLetterLed(label string) bool { return isLetter(label[0]) }

// unescapeName undoes what the vSphere API does to three characters of a name. Hosts may do the same.
func unescapeName(name string) string {
	return strings.NewReplacer("%2f", "/", "%2F", "/", "%5c", `\`, "%5C", `\`, "%25", "%").Replace(name)
}

// toLabel makes one label of any text: letters lose their accents, what else has no place becomes a dash.
func toLabel(text string) string {
	label := make([]byte, 0, maxLabel)
	for _, r := range text {
		latin := string(r)
		if r >= utf8.RuneSelf {
			latin = toASCII(r)
		}
		for i := range len(latin) {
			c := latin[i]
			if !isAlnum(c) {
				c = '-'
			}
			if c == '-' && (len(label) == 0 || label[len(label)-1] == '-') || len(label) == maxLabel {
				continue
			}
			label = append(label, c)
		}
	}
	return strings.ToLower(strings.TrimRight(string(label), "-"))
}

// toASCII returns the usual spelling of a Latin letter without its marks; "" for marks that stand by themselves
// and "-" for all other characters.
func toASCII(r rune) string {
	if r >= 0x300 && r < 0x370 { // combining marks: what they belong to has been written
		return ""
	}
	for _, group := range [...]struct{ ascii, letters string }{ // Latin-1 and Latin Extended-A
		{"a", "àáâãåāăąÀÁÂÃÅĀĂĄ"}, {"ae", "äæÄÆ"}, {"c", "çćĉċčÇĆĈĊČ"}, {"d", "ďđðĎĐÐ"}, {"e", "èéêëēĕėęěÈÉÊËĒĔĖĘĚ"},
		{"g", "ĝğġģĜĞĠĢ"}, {"h", "ĥħĤĦ"}, {"i", "ìíîïĩīĭįıÌÍÎÏĨĪĬĮİ"}, {"j", "ĵĴ"}, {"k", "ķĸĶ"}, {"l", "ĺļľŀłĹĻĽĿŁ"},
		{"n", "ñńņňŉŋÑŃŅŇŊ"}, {"o", "òóôõøōŏőÒÓÔÕØŌŎŐ"}, {"oe", "öœÖŒ"}, {"r", "ŕŗřŔŖŘ"}, {"s", "śŝşšŚŜŞŠſ"}, {"ss", "ß"},
		{"t", "ţťŧŢŤŦ"}, {"th", "þÞ"}, {"u", "ùúûũūŭůűųÙÚÛŨŪŬŮŰŲ"}, {"ue", "üÜ"}, {"w", "ŵŴ"}, {"y", "ýÿŷÝŸŶ"}, {"z", "źżžŹŻŽ"},
	} {
		if strings.ContainsRune(group.letters, r) {
			return group.ascii
		}
	}
	return "-"
}
