package arch

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
)

// State finds what a package keeps between calls: func init, and package-level variables that can change. Left alone
// are error values, compile-time assertions, embedded files, and tables that nobody outside can reach and nothing
// inside writes to.
func (t *Tree) State() []string {
	var problems []string
	for _, dir := range t.Packages() {
		written := writtenNames(t.packages[dir])
		for _, f := range t.packages[dir].files {
			for _, decl := range f.ast.Decls {
				switch decl := decl.(type) {
				case *ast.FuncDecl:
					if decl.Recv == nil && decl.Name.Name == "init" {
						problems = append(problems, t.at(decl)+": func init; do it where the program is wired")
					}
				case *ast.GenDecl:
					if decl.Tok == token.VAR && !f.test {
						problems = append(problems, t.variables(f, decl, written)...)
					}
				}
			}
		}
	}
	return problems
}

func (t *Tree) variables(f *file, decl *ast.GenDecl, written map[string]bool) []string {
	var problems []string
	for _, spec := range decl.Specs {
		spec := spec.(*ast.ValueSpec)
		for i, name := range spec.Names {
			var value ast.Expr
			if i < len(spec.Values) {
				value = spec.Values[i]
			}
			if why := changeable(f, decl, name, spec.Type, value, written); why != "" {
				problems = append(problems, fmt.Sprintf("%s: package-level variable %s %s", t.at(name), name.Name, why))
			}
		}
	}
	return problems
}

// changeable says why a package-level variable counts as state, or returns "".
func changeable(f *file, decl *ast.GenDecl, name *ast.Ident, typ, value ast.Expr, written map[string]bool) string {
	switch {
	case name.Name == "_":
		return ""
	case written[name.Name]:
		return "is written to, or a local variable of its name is; keep state in a value that its user makes"
	case f.ast.Name.Name == "main" && name.Name == "version":
		return "" // the linker writes it
	case decl.Doc != nil && slices.ContainsFunc(decl.Doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") }):
		return ""
	case value == nil:
		return "has no value, so something must write to it"
	}
	switch v := value.(type) {
	case *ast.CallExpr:
		if slices.Contains(constructors(), selector(v.Fun)) {
			return ""
		}
		return "is made by a call that this check doesn't know to return a constant"
	case *ast.UnaryExpr:
		return "points to something that can change"
	case *ast.CompositeLit:
		if typ == nil {
			typ = v.Type
		}
		if pkg, _, ok := strings.Cut(selector(typ), "."); ok && (pkg == "sync" || pkg == "atomic") {
			return "is shared between all users of the package"
		}
	}
	if name.IsExported() {
		return "is exported, so anyone can change it; make it a function"
	}
	return ""
}

// constructors are the calls whose result never changes.
func constructors() []string {
	return []string{
		"errors.New", "fmt.Errorf", "regexp.MustCompile", "crc32.MakeTable", "template.Must",
		"strings.NewReplacer", "netip.MustParsePrefix", "netip.MustParseAddr",
		"base64.StdEncoding.Strict", "[]byte", "time.Unix",
	}
}

// writtenNames are the names that a package's code, without its tests, assigns to, takes the address of, or deletes
// from, in any scope. A local variable of the same name counts too: then one of the two is better renamed.
func writtenNames(p *pkg) map[string]bool {
	written := make(map[string]bool)
	mark := func(expr ast.Expr) {
		if name := root(expr); name != nil {
			written[name.Name] = true
		}
	}
	for _, f := range p.files {
		if f.test {
			continue
		}
		ast.Inspect(f.ast, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.AssignStmt:
				if node.Tok != token.DEFINE {
					for _, left := range node.Lhs {
						mark(left)
					}
				}
			case *ast.IncDecStmt:
				mark(node.X)
			case *ast.UnaryExpr:
				if node.Op == token.AND {
					mark(node.X)
				}
			case *ast.CallExpr:
				if name, ok := node.Fun.(*ast.Ident); ok && len(node.Args) > 0 && (name.Name == "delete" || name.Name == "clear" || name.Name == "copy") {
					mark(node.Args[0])
				}
			}
			return true
		})
	}
	return written
}

// root is the variable that an expression reaches into: x of x.f[i].
func root(expr ast.Expr) *ast.Ident {
	for {
		switch e := expr.(type) {
		case *ast.Ident:
			return e
		case *ast.SelectorExpr:
			expr = e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.StarExpr:
			expr = e.X
		case *ast.ParenExpr:
			expr = e.X
		default:
			return nil
		}
	}
}

// selector prints a name as the source has it: "errors.New", "[]byte".
func selector(expr ast.Expr) string {
	switch e := expr.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return selector(e.X) + "." + e.Sel.Name
	case *ast.ArrayType:
		return "[]" + selector(e.Elt)
	case *ast.UnaryExpr:
		return selector(e.X)
	}
	return ""
}

// Comments finds packages that don't say what they are, and those that say it twice.
func (t *Tree) Comments() []string {
	var problems []string
	for _, dir := range t.Packages() {
		count, code := 0, false
		for _, f := range t.packages[dir].files {
			if f.test {
				continue
			}
			code = true
			if f.ast.Doc == nil {
				continue
			}
			count++
			begins := "Package " + f.ast.Name.Name + " "
			if f.ast.Name.Name == "main" {
				begins = "Command "
			}
			if !strings.HasPrefix(f.ast.Doc.Text(), begins) {
				problems = append(problems, fmt.Sprintf("%s: the package comment doesn't begin with %q", t.at(f.ast.Doc), begins))
			}
		}
		if code && count != 1 {
			problems = append(problems, fmt.Sprintf("%s: %d package comments; it needs one", dir, count))
		}
	}
	return problems
}

// Habits finds what no Go file of the project does: dot imports, and sleeping or skipping without a reason in tests.
func (t *Tree) Habits() []string {
	var problems []string
	t.each(func(_ *pkg, f *file) {
		for _, spec := range f.ast.Imports {
			if spec.Name != nil && spec.Name.Name == "." {
				problems = append(problems, fmt.Sprintf("%s: dot import of %s; name where things come from", t.at(spec), spec.Path.Value))
			}
		}
		if !f.test {
			return
		}
		ast.Inspect(f.ast, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok {
				return true
			}
			switch fun, ok := call.Fun.(*ast.SelectorExpr); {
			case !ok:
			case selector(fun) == "time.Sleep" && !importsPath(f.ast, "testing/synctest"):
				problems = append(problems, t.at(call)+": time.Sleep in a test; wait for the thing itself, or use testing/synctest")
			case fun.Sel.Name == "Skip" && len(call.Args) == 0, fun.Sel.Name == "SkipNow":
				problems = append(problems, t.at(call)+": a skip that gives no reason")
			}
			return true
		})
	})
	return problems
}

func importsPath(f *ast.File, imported string) bool {
	return slices.ContainsFunc(f.Imports, func(spec *ast.ImportSpec) bool { return spec.Path.Value == strconv.Quote(imported) })
}
