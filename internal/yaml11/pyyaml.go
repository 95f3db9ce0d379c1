package yaml11

import (
	"bytes"
	"sort"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// CheckPyYAML returns an *Error for the first thing in data that Parse takes and PyYAML does not: a tab outside of quotes,
// block texts and comments, a ? or a leading : in a plain scalar of a flow collection, or a value that is = or << and nothing else. root is what Parse has made of data.
func CheckPyYAML(root *yaml.Node, data []byte) error {
	if tab := strayTab(data); tab >= 0 {
		before := data[:tab]
		column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
		return &Error{Line: bytes.Count(before, []byte("\n")) + 1, Column: column,
			Problem: "has a tab, which cloud-init takes only in quotes, in texts after | or >, and in comments: write blanks"}
	}
	if n := findFlow(root, false); n != nil {
		return &Error{Line: n.Line, Column: n.Column, Problem: "has a ?, or a : at its start, which cloud-init does not take for text within [] and {}: put it in quotes"}
	}
	if n := find(root, isReserved); n != nil {
		return &Error{Line: n.Line, Column: n.Column, Problem: "is = or << alone, which YAML keeps for itself, and cloud-init fails at: put it in quotes"}
	}
	return nil
}

// strayTab returns the index of the first tab that PyYAML refuses; -1 if there is none. It is one that changes what a text
// means, or is in a plain scalar, if a letter stands for it.
func strayTab(data []byte) int {
	var tabs []int
	for i, c := range data {
		if c == '\t' {
			tabs = append(tabs, i)
		}
	}
	if tabs == nil {
		return -1
	}
	letter := unusedLetter(data)
	refused := func(n int) bool { // is one of the first n?
		end := tabs[n-1] + 1
		text := bytes.ReplaceAll(data[:end], []byte("\t"), []byte(string(letter)))
		root, err := Parse(append(text, data[end:]...))
		return err != nil || find(root, func(n *yaml.Node, _ bool) bool { return isPlain(n) && strings.ContainsRune(n.Value, letter) }) != nil
	}
	if !refused(len(tabs)) {
		return -1
	}
	return tabs[sort.Search(len(tabs)-1, func(i int) bool { return refused(i + 1) })]
}

// isReserved is for what YAML 1.1 has a type of its own for, and PyYAML no value.
func isReserved(n *yaml.Node, key bool) bool {
	return !key && (n.Value == "=" || n.Value == "<<") && isPlain(n) && n.Style&yaml.TaggedStyle == 0
}

// find returns the first scalar that is what is looked for; nil if there is none.
func find(n *yaml.Node, isIt func(n *yaml.Node, key bool) bool) *yaml.Node {
	return findIn(n, false, isIt)
}

func findIn(n *yaml.Node, key bool, isIt func(n *yaml.Node, key bool) bool) *yaml.Node {
	if n == nil || n.Kind == yaml.ScalarNode && isIt(n, key) {
		return n
	}
	for i, child := range n.Content {
		if found := findIn(child, n.Kind == yaml.MappingNode && i%2 == 0, isIt); found != nil {
			return found
		}
	}
	return nil
}

// findFlow returns the first plain scalar in a flow collection that PyYAML ends at a ?, or does not start with a :.
func findFlow(n *yaml.Node, inFlow bool) *yaml.Node {
	if n == nil || inFlow && n.Kind == yaml.ScalarNode && isPlain(n) && (strings.Contains(n.Value, "?") || strings.HasPrefix(n.Value, ":")) {
		return n
	}
	for _, child := range n.Content {
		if found := findFlow(child, n.Style&yaml.FlowStyle != 0); found != nil {
			return found
		}
	}
	return nil
}
