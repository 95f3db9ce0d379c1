// Package test holds the documents against the programs.
package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// read returns a file of the project.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sources returns the tests of a package.
func sources(t *testing.T, folder string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("..", folder, "*_test.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no tests in %s: %v", folder, err)
	}
	var all strings.Builder
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

// TestConformanceNamesTests looks for each test that docs/vspc-conformance.md names.
func TestConformanceNamesTests(t *testing.T) {
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)(?:/([^`]+))?`(?: \\(((?:internal|test)/\\w+)\\))?")
	packages := make(map[string]string)
	found := named.FindAllStringSubmatch(read(t, "docs/vspc-conformance.md"), -1)
	if len(found) < 50 {
		t.Fatalf("only %d tests are named", len(found))
	}
	for _, match := range found {
		function, subtest, folder := match[1], match[2], match[3]
		if folder == "" {
			folder = "vspc"
		}
		if packages[folder] == "" {
			packages[folder] = sources(t, folder)
		}
		switch source := packages[folder]; {
		case !strings.Contains(source, "\nfunc "+function+"("):
			t.Errorf("%s has no test %s", folder, function)
		case subtest != "" && !strings.Contains(source, `"`+subtest+`"`):
			t.Errorf("%s of %s has no case %q", function, folder, subtest)
		}
	}
}

// TestReadmesDriverIsTheExample compares the README's driver with the one that is compiled and run.
func TestReadmesDriverIsTheExample(t *testing.T) {
	_, block, found := strings.Cut(read(t, "README.md"), "\n```go\n")
	if !found {
		t.Fatal("the README has no driver in Go")
	}
	block, _, _ = strings.Cut(block, "```\n")
	if !strings.Contains(read(t, "metadata/example_test.go"), block) {
		t.Errorf("metadata/example_test.go does not have this part of the README:\n%s", block)
	}
}

// block is a fenced block that begins with "```console WORD".
var block = regexp.MustCompile("(?ms)^```console (test|server)\n(.*?)^```$")

// step is a command of a document, and what it prints there.
type step struct {
	server        bool
	command, want string
}

func steps(document string) (steps []step) {
	for _, match := range block.FindAllStringSubmatch(document, -1) {
		for line := range strings.Lines(match[2]) {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				steps = append(steps, step{server: match[1] == "server", command: strings.TrimSpace(command)})
			} else if len(steps) > 0 {
				steps[len(steps)-1].want += line
			}
		}
	}
	return steps
}

// TestCommandsOfTheDocuments runs the commands in blocks marked "console test", in order, in a folder that has the
// examples, and compares what they print. What a block "console server" starts runs until the document's end, on a
// port of its own.
func TestCommandsOfTheDocuments(t *testing.T) {
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin, "../cmd/vmw-cloudinit-metadata").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	examples, err := filepath.Abs("../examples")
	if err != nil {
		t.Fatal(err)
	}
	documents, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, name := range append(documents, "../README.md") {
		todo := steps(read(t, strings.TrimPrefix(name, "../")))
		ran += len(todo)
		if len(todo) == 0 {
			continue
		}
		t.Run(filepath.Base(name), func(t *testing.T) {
			folder := t.TempDir()
			if err := os.Symlink(examples, filepath.Join(folder, "examples")); err != nil {
				t.Fatal(err)
			}
			s := shell{folder: folder, environment: append(os.Environ(),
				"PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "VMW_CLOUDINIT_LISTEN=127.0.0.1:0", "VMW_CLOUDINIT_LOG_FORMAT=json")}
			for _, step := range todo {
				if step.server {
					s.serve(t, step.command)
				} else {
					s.run(t, step)
				}
			}
		})
	}
	if ran < 3 {
		t.Errorf("the documents have only %d commands to run", ran)
	}
}

// shell runs commands.
type shell struct {
	folder      string
	environment []string
	address     string // of the server
}

// prepare makes a document's command one that uses the built program, and the server that was started.
func (s *shell) prepare(t *testing.T, command string) *exec.Cmd {
	t.Helper()
	command = strings.ReplaceAll(command, "go run ./cmd/vmw-cloudinit-metadata", "vmw-cloudinit-metadata")
	if s.address != "" && !strings.Contains(command, "--connect") {
		command = strings.ReplaceAll(command, "vmw-cloudinit-metadata simulate", "vmw-cloudinit-metadata simulate --connect "+s.address)
	}
	cmd := exec.Command("sh", "-c", command)
	cmd.Dir, cmd.Env = s.folder, s.environment
	return cmd
}

func (s *shell) run(t *testing.T, step step) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := s.prepare(t, step.command)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("$ %s\n%v\n%s%s", step.command, err, &stdout, &stderr)
	}
	if got := stdout.String(); got != step.want {
		t.Errorf("$ %s\nprints\n%s\nand the document has\n%s", step.command, got, step.want)
	}
}

// serve starts the server, and takes its address from its log.
func (s *shell) serve(t *testing.T, command string) {
	t.Helper()
	cmd := s.prepare(t, "exec "+command)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-read
		if err := cmd.Wait(); err != nil {
			t.Errorf("$ %s\n%v", command, err)
		}
	})
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var line struct{ Msg, Address, Error string }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			close(read)
			t.Fatalf("$ %s\n%s", command, lines.Text())
		}
		if line.Msg == "listening" {
			s.address = line.Address
			go func() {
				defer close(read)
				_, _ = io.Copy(io.Discard, log)
			}()
			return
		}
	}
	close(read)
	t.Fatalf("$ %s\nends without listening", command)
}
