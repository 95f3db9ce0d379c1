package arch_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"vmw-cloudinit-metadata/internal/arch"
)

// rules are who may import whom. Arrows point one way: programs, what they are made of, formats, codecs.
func rules() []arch.Rule {
	const (
		yaml   = "go.yaml.in/yaml/v4"
		yaml11 = "internal/yaml11"
		cobra  = "github.com/spf13/cobra"
		sys    = "golang.org/x/sys"
	)
	return []arch.Rule{
		// Codecs and the words of the field: nothing but the standard library.
		{Package: "internal/uuid", Pure: true},
		{Package: "internal/nearest", Pure: true},
		{Package: "internal/late", Pure: true},
		{Package: "internal/options", Pure: true, Imports: []string{"internal/nearest"}},
		{Package: "metadata", Pure: true, Imports: []string{"internal/uuid"}},
		{Package: "metadata/metadatatest", Imports: []string{"metadata"}},
		{Package: "telnet", Pure: true},
		{Package: "vspc", Imports: []string{"telnet", "internal/uuid"}},
		{Package: "packet", Pure: true},

		// Formats: from text to data, and to what cloud-init reads.
		{Package: yaml11, Pure: true, Imports: []string{yaml}},
		{Package: "vmfile", Pure: true, Imports: []string{"metadata", "internal/nearest", yaml11, yaml}},
		{Package: "nocloud", Pure: true, Imports: []string{"metadata", "internal/nearest", yaml11, yaml}},
		{Package: "nocloud/schema", Imports: []string{"metadata", "nocloud", "vmfile", yaml11, yaml, "internal/nearest", "github.com/santhosh-tekuri/jsonschema/v6", "golang.org/x/text/message"}},
		{Package: "nocloud/seed", Imports: []string{sys}},

		{Package: "internal/check", Imports: []string{"metadata", "nocloud", "nocloud/schema", "golang.org/x/crypto/ssh"}},
		{Package: "internal/config", Imports: []string{yaml11, "internal/nearest"}},

		// Drivers: the format, and one engine each.
		{Package: "internal/lru", Pure: true},
		{Package: "internal/dedupe", Pure: true},
		{Package: "internal/workers", Pure: true},
		{Package: "driver/file", Imports: []string{"internal/dedupe", "internal/nearest", "internal/options", "internal/workers", "metadata", "metadata/layer", "metadata/template", "vmfile"}},
		{Package: "driver/command", Imports: []string{"metadata", "vmfile", "internal/options"}},
		{Package: "driver/http", Imports: []string{"metadata", "vmfile", yaml11, "internal/late", "internal/options", "internal/lru"}},
		{Package: "driver/postgres", Imports: []string{"metadata", "vmfile", "internal/late", "internal/options", "github.com/jackc/pgx/v5"}},
		{Package: "driver/etcd", Imports: []string{"metadata", "vmfile", "internal/late", "internal/options", "internal/lru", "go.etcd.io/etcd/client/v3", "go.uber.org/zap", "google.golang.org/grpc"}},
		{Package: "metadata/template", Pure: true, Imports: []string{"metadata", "internal/nearest", yaml11}},
		{Package: "metadata/...", Imports: []string{"metadata", "internal/lru"}},

		// The server never knows a driver or an engine; the guest's side knows nothing of the server's.
		{Package: "internal/server", Logs: true, Imports: []string{"vspc", "packet", "metadata", "nocloud", "internal/dedupe", "internal/workers", "golang.org/x/time", "github.com/prometheus"}},
		{Package: "internal/tlspair"},
		{Package: "internal/logqueue", Pure: true},
		{Package: "internal/tty", Imports: []string{sys}},
		{Package: "internal/guest", Logs: true, Imports: []string{"packet", "nocloud/seed", "internal/tty"}},
		{Package: "internal/guest/guesttest", Imports: []string{"packet"}},

		{Package: "internal/simulator", Imports: []string{"vspc", "packet", sys}},

		// Programs.
		{Package: "cmd/vmw-cloudinit-metadata", Logs: true, Imports: []string{
			"internal/...", "driver/...", "metadata/...", "nocloud/...", "vmfile", "vspc", "packet", "telnet",
			yaml, cobra, "github.com/spf13/pflag", "github.com/prometheus", sys, "golang.org/x/term",
		}},
		{Package: "cmd/vmw-cloudinit-guest", Flags: true, Imports: []string{"internal/guest", "internal/tty", "packet", "nocloud/seed"},
			Forbidden: []string{"net/http", "crypto/tls"}},

		// The benchmark takes the host's end from the project, and of the server only the program, but where both ends are in
		// one process.
		{Package: "bench", Flags: true, Imports: []string{"bench/...", sys}},
		{Package: "bench/answers"},
		{Package: "bench/plot", Pure: true},
		{Package: "bench/stats", Pure: true},
		{Package: "bench/report", Imports: []string{"bench/plot", "bench/stats"}},
		{Package: "bench/inventory", Imports: []string{"vspc"}},
		{Package: "bench/floor", Imports: []string{"bench/answers", "telnet", "vspc", sys}},
		{Package: "bench/load", Imports: []string{"bench/answers", "bench/inventory", "bench/stats", "vspc", sys}},
		{Package: "bench/pipe"},
		{Package: "bench/sessions", Logs: true, Imports: []string{"bench/load", "bench/pipe", "driver/file", "internal/server"}},

		// What keeps the house in order.
		{Package: "internal/arch"},
		{Package: "internal/testenv"},
		{Package: "internal/tlstest"},
		{Package: "packaging/guest", Imports: []string{"packet", sys}},
		{Package: "internal/tty/ttytest", Imports: []string{sys}},
		{Package: "internal/yaml11/yaml11test", Imports: []string{"internal/testenv", yaml11, yaml}},
		{Package: "internal/testenv/skips", Flags: true},
		{Package: "test/..."},
		{Package: "packaging/guest", Imports: []string{sys}},
	}
}

// testModules are what tests may use beside the standard library and this module.
func testModules() []string {
	return []string{
		"github.com/google/go-cmp",
		"github.com/rogpeppe/go-internal",
		"go.etcd.io/etcd/server/v3", // a real etcd, for driver/etcd
	}
}

func TestProject(t *testing.T) {
	tree, err := arch.Load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for name, problems := range map[string][]string{
		"imports":  tree.Imports(rules(), testModules()),
		"stale":    tree.Stale(rules()),
		"state":    tree.State(),
		"comments": tree.Comments(),
		"habits":   tree.Habits(),
		"links":    tree.Links(),
	} {
		t.Run(name, func(t *testing.T) {
			for _, problem := range problems {
				t.Error(problem)
			}
		})
	}
}

func TestImports(t *testing.T) {
	const yaml = "go.yaml.in/yaml/v4"
	rules := []arch.Rule{
		{Package: "codec", Pure: true},
		{Package: "format", Imports: []string{"codec", yaml}},
		{Package: "driver/...", Imports: []string{"format"}},
		{Package: "cmd/tool", Imports: []string{"driver/...", "format"}, Logs: true, Flags: true, Forbidden: []string{"net/http"}},
	}
	sound := map[string]string{
		"codec/codec.go":       `package codec; import "bytes"`,
		"codec/codec_test.go":  `package codec_test; import ("os"; "log"; "vmw-cloudinit-metadata/format"; "example.com/cmp/diff")`,
		"format/format.go":     `package format; import ("os"; "vmw-cloudinit-metadata/codec"; "go.yaml.in/yaml/v4/node")`,
		"driver/file/file.go":  `package file; import "vmw-cloudinit-metadata/format"`,
		"cmd/tool/main.go":     `package main; import ("flag"; "log/slog"; "vmw-cloudinit-metadata/driver/file")`,
		"codec/testdata/x.go":  `not Go at all`,
		"codec/.hidden/x.go":   `not Go at all`,
		"codec/_old/x.go":      `not Go at all`,
		"driver/file/_junk.go": `not Go at all`,
	}
	for _, tc := range []struct{ name, path, source, want string }{
		{"sound", "codec/more.go", `package codec`, ""},
		{"upwards", "codec/more.go", "package codec\nimport \"vmw-cloudinit-metadata/format\"", "codec/more.go:2: codec may not import vmw-cloudinit-metadata/format: not in its rule"},
		{"sideways", "driver/http/h.go", `package http; import "vmw-cloudinit-metadata/driver/file"`, "not in its rule"},
		{"another module", "codec/more.go", `package codec; import "go.yaml.in/yaml/v4"`, "not in its rule"},
		{"a module that begins alike", "format/more.go", `package format; import "go.yaml.in/yaml/v44"`, "not in its rule"},
		{"impure", "codec/more.go", `package codec; import "os"`, "a codec only turns bytes"},
		{"logs", "format/more.go", `package format; import "log/slog"`, "a library logs nothing"},
		{"flags", "format/more.go", `package format; import "flag"`, "a library reads no flags"},
		{"forbidden", "cmd/tool/more.go", `package main; import "net/http"`, "stays without it"},
		{"test module in code", "codec/more.go", `package codec; import "example.com/cmp"`, "not in its rule"},
		{"other module in a test", "codec/more_test.go", `package codec; import "example.com/other"`, "not in its rule"},
		{"no rule", "new/n.go", `package n`, "new: no import rule covers this package"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			expect(t, load(t, sound, tc.path, tc.source).Imports(rules, []string{"example.com/cmp"}), tc.want)
		})
	}
	t.Run("stale rule", func(t *testing.T) {
		stale := append(slices.Clone(rules), arch.Rule{Package: "gone"})
		expect(t, load(t, sound, "codec/more.go", `package codec`).Stale(stale), `rule "gone" covers no package`)
	})
}

func TestState(t *testing.T) {
	for _, tc := range []struct{ name, source, want string }{
		{"error value", `var ErrGone = errors.New("gone")`, ""},
		{"assertion", `var _ fmt.Stringer = T{}`, ""},
		{"embedded", "//go:embed a.txt\nvar text string", ""},
		{"table", `var table = map[string]int{"a": 1}; func f() int { return table["a"] }`, ""},
		{"init", `func init() {}`, "func init"},
		{"method init", `type T struct{}; func (T) init() {}`, ""},
		{"no value", `var count int`, "count has no value"},
		{"unknown call", `var client = http.NewClient()`, "client is made by a call"},
		{"lock", `var pool = sync.Pool{}`, "pool is shared"},
		{"pointer to a struct", `var cache = &Cache{}`, "cache points to"},
		{"exported table", `var Names = []string{"a"}`, "Names is exported"},
		{"assigned", `var n = 1; func f() { n = 2 }`, "n is written to"},
		{"counted", `var n = 1; func f() { n++ }`, "n is written to"},
		{"element", `var m = map[int]int{}; func f() { m[1] = 2 }`, "m is written to"},
		{"field", `var s = S{}; func f() { s.a.b = 2 }`, "s is written to"},
		{"deleted", `var m = map[int]int{}; func f() { delete(m, 1) }`, "m is written to"},
		{"address", `var n = 1; func f() *int { return &n }`, "n is written to"},
		{"version of a library", `var version string`, "version has no value"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			expect(t, load(t, nil, "p/p.go", "package p\n"+tc.source).State(), tc.want)
		})
	}
	t.Run("version of a program", func(t *testing.T) {
		expect(t, load(t, nil, "cmd/p/p.go", "package main\nvar version string").State(), "")
	})
	t.Run("tests may", func(t *testing.T) {
		expect(t, load(t, nil, "p/p_test.go", "package p\nvar update bool").State(), "")
	})
}

func TestComments(t *testing.T) {
	for _, tc := range []struct{ name, source, want string }{
		{"sound", "// Package p does p.\npackage p", ""},
		{"none", "package p", "p: 0 package comments"},
		{"other name", "// Package q does p.\npackage p", "doesn't begin with \"Package p \""},
		{"program", "// Command p runs.\npackage main", ""},
		{"program as a package", "// Package main runs.\npackage main", "doesn't begin with \"Command \""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			expect(t, load(t, nil, "p/p.go", tc.source).Comments(), tc.want)
		})
	}
	t.Run("twice", func(t *testing.T) {
		files := map[string]string{"p/a.go": "// Package p is one.\npackage p"}
		expect(t, load(t, files, "p/b.go", "// Package p is two.\npackage p").Comments(), "p: 2 package comments")
	})
	t.Run("only tests", func(t *testing.T) {
		expect(t, load(t, nil, "p/p_test.go", "package p").Comments(), "")
	})
}

func TestHabits(t *testing.T) {
	for _, tc := range []struct{ name, source, want string }{
		{"sound", `package p; func f(t T) { t.Skip("no tool") }`, ""},
		{"dot import", `package p; import . "fmt"`, `dot import of "fmt"`},
		{"sleep", `package p; import "time"; func f() { go func() { time.Sleep(1) }() }`, "time.Sleep in a test"},
		{"sleep in a bubble", `package p; import ("testing/synctest"; "time"); func f() { time.Sleep(1) }`, ""},
		{"skip", `package p; func f(t T) { t.Skip() }`, "gives no reason"},
		{"skip now", `package p; func f(t T) { t.SkipNow() }`, "gives no reason"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			expect(t, load(t, nil, "p/p_test.go", tc.source).Habits(), tc.want)
		})
	}
}

func TestLinks(t *testing.T) {
	files := map[string]string{
		"docs/a.md": "# The way\n\n## A `run`, twice\n\n## A run, twice\n\n```\n# not a heading\n```\n",
		"p/p.go":    "package p",
	}
	for _, tc := range []struct{ name, text, want string }{
		{"file", "[a](docs/a.md) and ![p](p/p.go) and [d](docs)", ""},
		{"heading", "[a](docs/a.md#the-way) [b](docs/a.md#a-run-twice) [c](docs/a.md#a-run-twice-1)", ""},
		{"own heading", "# Top\n[a](#top)", ""},
		{"elsewhere", "[a](https://example.com/none) [b](mailto:a@example.com)", ""},
		{"in code", "`[a](none.md)`\n```\n[a](none.md)\n```\n", ""},
		{"title", `[a](docs/a.md "The way")`, ""},
		{"definition", "[a]: docs/a.md", ""},
		{"dead file", "line\n[a](docs/none.md)", "README.md:2: link docs/none.md: no such file"},
		{"dead definition", "[a]: docs/none.md", "no such file"},
		{"dead heading", "[a](docs/a.md#not-a-heading)", "no such heading"},
		{"dead own heading", "[a](#top)", "no such heading"},
		{"rooted", "[a](/docs/a.md)", "begins with a slash"},
		{"out of the project", "[a](../secret.md)", "no such file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			expect(t, load(t, files, "README.md", tc.text).Links(), tc.want)
		})
	}
}

func load(t *testing.T, files map[string]string, name, source string) *arch.Tree {
	t.Helper()
	tree := fstest.MapFS{name: {Data: []byte(source)}}
	for name, source := range files {
		tree[name] = &fstest.MapFile{Data: []byte(source)}
	}
	loaded, err := arch.Load(tree)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// expect wants no problem, or exactly one that contains text.
func expect(t *testing.T, problems []string, text string) {
	t.Helper()
	switch {
	case text == "" && len(problems) > 0:
		t.Errorf("problems in a sound tree: %q", problems)
	case text != "" && (len(problems) != 1 || !strings.Contains(problems[0], text)):
		t.Errorf("problems %q; want one with %q", problems, text)
	}
}
