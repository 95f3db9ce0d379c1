package yaml11

import (
	"bytes"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"
)

// repair returns data with what PyYAML takes, and the parser refused with the message, in a form that both take. Every
// character keeps its line, and its column too but in a directive. restore undoes it in the nodes. changed is false if there is
// nothing of the kind.
func repair(data []byte, message string) (repaired []byte, restore func(*yaml.Node), changed bool) {
	switch {
	case strings.Contains(message, "cannot start any token"):
		return nameDashes(data)
	case strings.Contains(message, "incompatible YAML document"):
		return sameVersion(data)
	}
	return nil, nil, false
}

// nameDashes gives a letter of its own to each dash that is an item of a flow collection, as in [su, -, postgres], which
// the parser takes for the start of a block's item. Dashes in texts that look alike get it too, and change as little by it:
// restore finds them all, since the letter is nowhere else.
func nameDashes(data []byte) (repaired []byte, restore func(*yaml.Node), changed bool) {
	letter := string(unusedLetter(data))
	for i, c := range data {
		if c == '-' && i+1 < len(data) && strings.IndexByte(",]}", data[i+1]) >= 0 && (i == 0 || strings.IndexByte(" \t\r\n[{,:", data[i-1]) >= 0) {
			repaired = append(repaired, letter...)
			changed = true
			continue
		}
		repaired = append(repaired, c)
	}
	return repaired, func(root *yaml.Node) { replaceIn(root, letter, "-") }, changed
}

func replaceIn(n *yaml.Node, before, after string) {
	n.Value = strings.ReplaceAll(n.Value, before, after)
	for _, child := range n.Content {
		replaceIn(child, before, after)
	}
}

// unusedLetter returns one of those for private use that is not in data.
func unusedLetter(data []byte) rune {
	letter := '\ue000'
	for bytes.ContainsRune(data, letter) {
		letter++
	}
	return letter
}

// sameVersion takes a document that says that it is of another version 1.x for one of 1.1, as PyYAML does.
func sameVersion(data []byte) (repaired []byte, restore func(*yaml.Node), changed bool) {
	// Before the directive there are others, comments and empty lines alone.
	version := regexp.MustCompile(`\A((?:\x{feff}?(?:[%#].*|[ \t]*)\r?\n)*%YAML[ \t]+1\.)[0-9]+`)
	repaired = version.ReplaceAll(data, []byte("${1}1"))
	return repaired, func(*yaml.Node) {}, !bytes.Equal(repaired, data)
}
