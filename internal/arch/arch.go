// Package arch checks what the compiler can't: who may import whom, that no package keeps hidden state, that tests
// don't sleep, and that links in the documents lead somewhere. Its test runs the checks over the whole project.
package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Module is the module's name, with which the import paths of its own packages begin.
const Module = "vmw-cloudinit-metadata"

// Tree is the module's source: its Go files, parsed, and its documents.
type Tree struct {
	fset     *token.FileSet
	packages map[string]*pkg   // by folder, slash-separated; "." is the root
	docs     map[string][]byte // by path
	paths    map[string]bool   // every file and folder
}

// pkg is one folder's Go files. An external test package counts to its folder.
type pkg struct {
	dir   string
	files []*file
}

type file struct {
	name string // path in the tree
	test bool
	ast  *ast.File
}

// Load reads a module from its root. Folders that Go ignores (testdata, a leading dot or underscore) hold no packages;
// a leading dot hides documents too.
func Load(tree fs.FS) (*Tree, error) {
	t := &Tree{
		fset:     token.NewFileSet(),
		packages: make(map[string]*pkg),
		docs:     make(map[string][]byte),
		paths:    make(map[string]bool),
	}
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		t.paths[name] = true
		base := path.Base(name)
		if entry.IsDir() {
			if name != "." && (base == ".git" || base == ".cache" || base == "dist") {
				return fs.SkipDir
			}
			return nil
		}
		switch path.Ext(name) {
		case ".go":
			if ignored(path.Dir(name)) || strings.HasPrefix(base, "_") || strings.HasPrefix(base, ".") {
				return nil
			}
			return t.addGo(tree, name)
		case ".md":
			text, err := fs.ReadFile(tree, name)
			t.docs[name] = text
			return err
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (t *Tree) addGo(tree fs.FS, name string) error {
	text, err := fs.ReadFile(tree, name)
	if err != nil {
		return err
	}
	parsed, err := parser.ParseFile(t.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	dir := path.Dir(name)
	if t.packages[dir] == nil {
		t.packages[dir] = &pkg{dir: dir}
	}
	p := t.packages[dir]
	p.files = append(p.files, &file{name: name, test: strings.HasSuffix(name, "_test.go"), ast: parsed})
	return nil
}

// Packages returns the folders that hold Go files, sorted.
func (t *Tree) Packages() []string {
	var dirs []string
	for dir := range t.packages {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	return dirs
}

// each calls visit for every Go file, in order of their paths.
func (t *Tree) each(visit func(*pkg, *file)) {
	for _, dir := range t.Packages() {
		for _, f := range t.packages[dir].files {
			visit(t.packages[dir], f)
		}
	}
}

// at says where a node stands, as file:line.
func (t *Tree) at(node ast.Node) string {
	position := t.fset.Position(node.Pos())
	return fmt.Sprintf("%s:%d", position.Filename, position.Line)
}

func ignored(dir string) bool {
	for part := range strings.SplitSeq(dir, "/") {
		if part == "testdata" || part != "." && (strings.HasPrefix(part, ".") || strings.HasPrefix(part, "_")) {
			return true
		}
	}
	return false
}
