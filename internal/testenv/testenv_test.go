package testenv

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// recorder is a test whose end is looked at from outside.
type recorder struct {
	testing.TB
	skipped, failed string
}

func (r *recorder) Helper() {}

func (r *recorder) Skipf(format string, args ...any) {
	r.skipped = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// run calls body as the testing package would, and returns what came of it.
func run(t *testing.T, body func(testing.TB)) *recorder {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		body(r)
	}()
	<-done
	return r
}

func TestNeed(t *testing.T) {
	dir := t.TempDir()
	tool := program(t, dir, "a-tool", "exit 0")
	t.Setenv("PATH", dir)

	var paths []string
	if r := run(t, func(tb testing.TB) { paths = Need(tb, "a-tool") }); r.skipped+r.failed != "" {
		t.Errorf("with the tool there: skipped %q, failed %q", r.skipped, r.failed)
	}
	if len(paths) != 1 || paths[0] != tool {
		t.Errorf("Need = %q; want %q", paths, tool)
	}

	missing := func(tb testing.TB) {
		Need(tb, "a-tool", "no-such-tool")
		t.Error("Need returned without the tool")
	}
	t.Setenv("CI", "")
	if r := run(t, missing); !strings.Contains(r.skipped, "no-such-tool") || r.failed != "" {
		t.Errorf("on a developer's machine: skipped %q, failed %q", r.skipped, r.failed)
	}
	t.Setenv("CI", "true")
	if r := run(t, missing); !strings.Contains(r.failed, "no-such-tool") || r.skipped != "" {
		t.Errorf("in CI: skipped %q, failed %q", r.skipped, r.failed)
	}
}

func TestPython(t *testing.T) {
	dir := t.TempDir()
	without := program(t, dir, "without", "exit 1")
	with := program(t, dir, "with", `case $3 in "import sys, yaml, os") exit 0;; esac; exit 1`)
	t.Setenv("CI", "")

	for _, tc := range []struct {
		name       string
		candidates []string
		want       string
	}{
		{"first", []string{with, without}, with},
		{"second", []string{without, with}, with},
		{"the first is not there", []string{filepath.Join(dir, "none"), with}, with},
		{"neither", []string{without}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got string
			r := run(t, func(tb testing.TB) { got = python(tb, tc.candidates, []string{"yaml"}) })
			if got != tc.want || (r.skipped == "") != (tc.want != "") {
				t.Errorf("python = %q, skipped %q; want %q", got, r.skipped, tc.want)
			}
		})
	}
}

func program(t *testing.T, dir, name, script string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
