package arch

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Rule says what one package may import beside the standard library.
type Rule struct {
	// Package is a folder ("vspc"), or all folders below one ("driver/...").
	Package string
	// Imports are folders of this module ("internal/uuid", "driver/...") and import paths of others, of which the
	// packages below are meant too ("golang.org/x/sys").
	Imports []string
	// Pure forbids the parts of the standard library with which a codec could reach out of itself: see impure.
	Pure bool
	// Logs allows log/slog, which a library leaves to its caller.
	Logs bool
	// Flags allows package flag.
	Flags bool
	// Forbidden are packages of the standard library that this one does without, to stay small.
	Forbidden []string
}

// impure is what no codec imports: it is given bytes and returns bytes.
func impure() []string { return []string{"os", "os/exec", "net/http", "syscall", "unsafe"} }

// Imports holds every package against the first rule that fits it, and every test file against that rule and what
// tests may import besides. A package with no rule is a problem.
func (t *Tree) Imports(rules []Rule, tests []string) []string {
	var problems []string
	for _, dir := range t.Packages() {
		at := slices.IndexFunc(rules, func(r Rule) bool { return covers(r.Package, dir) })
		if at < 0 {
			problems = append(problems, dir+": no import rule covers this package; give it one")
			continue
		}
		for _, f := range t.packages[dir].files {
			for _, spec := range f.ast.Imports {
				imported, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					continue // the parser has refused it already
				}
				if why := rules[at].refuses(imported, f.test, tests); why != "" {
					problems = append(problems, fmt.Sprintf("%s: %s may not import %s: %s", t.at(spec), dir, imported, why))
				}
			}
		}
	}
	return problems
}

// Stale finds rules that cover no package.
func (t *Tree) Stale(rules []Rule) []string {
	var problems []string
	for _, r := range rules {
		if !slices.ContainsFunc(t.Packages(), func(dir string) bool { return covers(r.Package, dir) }) {
			problems = append(problems, fmt.Sprintf("rule %q covers no package; remove it", r.Package))
		}
	}
	return problems
}

// refuses says why a package under this rule may not import another, or returns "".
func (r Rule) refuses(imported string, test bool, tests []string) string {
	own, isOwn := strings.CutPrefix(imported, Module+"/")
	switch {
	case isOwn && (test || own == r.Package || coveredBy(r.Imports, own)):
		return ""
	case isOwn:
		return "not in its rule"
	case !isStandard(imported):
		if coveredBy(r.Imports, imported) || test && coveredBy(tests, imported) {
			return ""
		}
		return "not in its rule"
	case test:
		return ""
	case !r.Logs && (imported == "log" || imported == "log/slog"):
		return "a library logs nothing; return an error or call a hook"
	case !r.Flags && imported == "flag":
		return "a library reads no flags"
	case r.Pure && slices.Contains(impure(), imported):
		return "a codec only turns bytes into values and back"
	case coveredBy(r.Forbidden, imported):
		return "this program stays without it"
	}
	return ""
}

// covers says if a rule's pattern means name.
func covers(pattern, name string) bool {
	if below, ok := strings.CutSuffix(pattern, "/..."); ok {
		return name == below || strings.HasPrefix(name, below+"/")
	}
	return pattern == name
}

func coveredBy(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		if strings.Contains(pattern, ".") && !strings.HasSuffix(pattern, "...") {
			pattern += "/..." // another module, whole
		}
		return covers(pattern, name)
	})
}

// isStandard says if a package belongs to the standard library, whose paths have no dot in their first part.
func isStandard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".") && first != Module
}
