// Package testenv finds the real tools that tests are held against. A tool that is missing skips the test on a
// developer's machine, and fails it where CI is set in the environment: CI installs them all.
package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Need returns the paths of the named programs, in their order. After PATH, it looks in administrators' folders and in
// those where Debian keeps PostgreSQL's.
func Need(t testing.TB, programs ...string) []string {
	t.Helper()
	var paths []string
	for _, program := range programs {
		path := find(program)
		if path == "" {
			Missing(t, "program "+program)
		}
		paths = append(paths, path)
	}
	return paths
}

// Python returns a python3 that has all the named modules: the first in PATH, else Debian's own.
func Python(t testing.TB, modules ...string) string {
	t.Helper()
	return python(t, []string{"python3", "/usr/bin/python3"}, modules)
}

func python(t testing.TB, candidates, modules []string) string {
	t.Helper()
	for _, candidate := range candidates {
		path, err := exec.LookPath(candidate)
		if err != nil {
			continue
		}
		// -I keeps the current folder and the user's own packages out.
		if exec.CommandContext(t.Context(), path, "-I", "-c", "import sys, "+strings.Join(append(modules, "os"), ", ")).Run() == nil {
			return path
		}
	}
	Missing(t, "python3 with the modules "+strings.Join(modules, ", "))
	return ""
}

// Missing ends the test for want of something: skipped on a developer's machine, failed in CI.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing, and CI must have it: add it to .ci/run", what)
	}
	t.Skipf("%s is missing on this machine", what)
}

func find(program string) string {
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	if strings.ContainsRune(program, filepath.Separator) {
		return ""
	}
	dirs := []string{"/usr/sbin", "/sbin", "/usr/local/sbin"}
	postgres, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // an error means a bad pattern, and this one is good
	for _, dir := range append(dirs, postgres...) {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path
		}
	}
	return ""
}

// CloudInit returns the root of an unpacked Debian package of cloud-init: suite is bookworm or trixie. "make cloud-init"
// unpacks them.
func CloudInit(t testing.TB, suite string) string {
	t.Helper()
	dir, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("this is not run inside of the module")
		}
		dir = filepath.Dir(dir)
	}
	root := filepath.Join(dir, ".cache", "cloud-init", suite)
	if _, err := os.Stat(filepath.Join(root, "usr", "lib", "python3", "dist-packages", "cloudinit")); err != nil {
		Missing(t, "cloud-init of Debian "+suite+" (make cloud-init)")
	}
	return root
}
