package arch

import (
	"fmt"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// link is [text](target) or ![text](target), with an optional title; and [text]: target at a line's start.
var (
	link       = regexp.MustCompile(`\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)`)
	definition = regexp.MustCompile(`^\s{0,3}\[[^\]]+\]:\s+<?(\S+?)>?\s*$`)
	codeSpan   = regexp.MustCompile("`[^`]*`")
	heading    = regexp.MustCompile(`^#{1,6}\s+(.*?)\s*#*$`)
)

// Links finds relative links in the documents that lead to no file, or to a heading that isn't there.
func (t *Tree) Links() []string {
	var problems []string
	for _, name := range slices.Sorted(maps.Keys(t.docs)) {
		for i, line := range prose(t.docs[name]) {
			targets := link.FindAllStringSubmatch(line, -1)
			targets = append(targets, definition.FindAllStringSubmatch(line, -1)...)
			for _, target := range targets {
				if why := t.dead(name, target[1]); why != "" {
					problems = append(problems, fmt.Sprintf("%s:%d: link %s: %s", name, i+1, target[1], why))
				}
			}
		}
	}
	return problems
}

// dead says what is wrong with a link, or returns "". Links out of the project aren't followed.
func (t *Tree) dead(from, target string) string {
	to, err := url.Parse(target)
	switch {
	case err != nil:
		return "not a URL"
	case to.Scheme != "" || to.Host != "":
		return ""
	case path.IsAbs(to.Path):
		return "begins with a slash, which means something else everywhere"
	}
	name := from
	if to.Path != "" {
		name = path.Join(path.Dir(from), to.Path)
	}
	if !t.paths[name] {
		return "no such file"
	}
	text, isDoc := t.docs[name]
	if to.Fragment == "" || !isDoc {
		return ""
	}
	if !slices.Contains(anchors(text), to.Fragment) {
		return "no such heading"
	}
	return ""
}

// prose returns a document's lines with code blanked out; line numbers stay.
func prose(text []byte) []string {
	lines := strings.Split(string(text), "\n")
	fence := ""
	for i, line := range lines {
		trimmed := strings.TrimSpace(line)
		switch {
		case fence == "" && (strings.HasPrefix(trimmed, "```") || strings.HasPrefix(trimmed, "~~~")):
			fence, lines[i] = trimmed[:3], ""
		case fence != "":
			if strings.HasPrefix(trimmed, fence) {
				fence = ""
			}
			lines[i] = ""
		default:
			lines[i] = codeSpan.ReplaceAllString(line, "")
		}
	}
	return lines
}

// anchors are the names of a document's headings, as code hosts make them: lower case, blanks to dashes, punctuation
// dropped, and a number after a repeated one.
func anchors(text []byte) []string {
	var out []string
	seen := make(map[string]int)
	code := false
	for line := range strings.SplitSeq(string(text), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			code = !code
		}
		match := heading.FindStringSubmatch(line)
		if code || match == nil {
			continue
		}
		slug := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, match[1])
		if n := seen[slug]; n > 0 {
			out = append(out, fmt.Sprintf("%s-%d", slug, n))
		} else {
			out = append(out, slug)
		}
		seen[slug]++
	}
	return out
}
