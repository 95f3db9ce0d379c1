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
	"slices"
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

// sources returns the Go files of folders in one piece: their tests, or all but those.
func sources(t *testing.T, tests bool, folders ...string) string {
	t.Helper()
	var all strings.Builder
	for _, folder := range folders {
		names, err := filepath.Glob(filepath.Join("..", folder, "*.go"))
		if err != nil || len(names) == 0 {
			t.Fatalf("no sources in %s: %v", folder, err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") == tests {
				all.WriteString(read(t, strings.TrimPrefix(name, "../")))
			}
		}
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
			packages[folder] = sources(t, true, folder)
		}
		switch source := packages[folder]; {
		case !strings.Contains(source, "\nfunc "+function+"("):
			t.Errorf("%s has no test %s", folder, function)
		case subtest != "" && !strings.Contains(source, `"`+subtest+`"`):
			t.Errorf("%s of %s has no case %q", function, folder, subtest)
		}
	}
}

// TestReadmeShowsTheExamples compares the README's driver with the one that is compiled and run, and its data with the
// file that the demonstration serves.
func TestReadmeShowsTheExamples(t *testing.T) {
	for language, file := range map[string]string{"go": "metadata/example_test.go", "yaml": "examples/metadata/web1.yaml"} {
		_, shown, found := strings.Cut(read(t, "README.md"), "\n```"+language+"\n")
		if shown, _, _ = strings.Cut(shown, "```\n"); !found || !strings.Contains(read(t, file), shown) {
			t.Errorf("%s does not have this part of the README:\n%s", file, shown)
		}
	}
}

// block is a fenced block that begins with "```console WORD".
var block = regexp.MustCompile("(?s)\n```console (test|server)\n(.*?\n)```\n")

// step is a command of a document, and what it prints there.
type step struct {
	server        bool
	command, want string
}

// documents are the names of all of them.
func documents(t *testing.T) []string {
	t.Helper()
	names := []string{"README.md"}
	for _, pattern := range []string{"docs/*.md", "docs/drivers/*.md"} {
		found, err := filepath.Glob("../" + pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("no documents %s: %v", pattern, err)
		}
		for _, name := range found {
			names = append(names, strings.TrimPrefix(name, "../"))
		}
	}
	return names
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
	ran := 0
	for _, name := range documents(t) {
		todo := steps(read(t, name))
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
	if got := stdout.String(); strings.TrimRight(got, "\n") != strings.TrimRight(step.want, "\n") {
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

// TestWordsOfTheDocuments looks for the log lines, counters, flags and variables that the documents name.
func TestWordsOfTheDocuments(t *testing.T) {
	operations := read(t, "docs/operations.md")
	server := sources(t, false, "internal/server", "cmd/vmw-cloudinit-metadata", "vspc")
	for _, line := range firstCells(operations, "## The log") {
		for part := range strings.SplitSeq(line, "…") {
			if part = strings.TrimSpace(part); !strings.Contains(server, part) {
				t.Errorf("docs/operations.md: nothing logs %q", part)
			}
		}
	}
	logs := regexp.MustCompile(`(?:log|logger)\.(?:Info|Warn|Error)\("([^"]+)"|quiet\.log\([^,]+, [^,]+, [^,]+, "([^"]+)"`).FindAllStringSubmatch(server, -1)
	for _, match := range logs {
		message := match[1] + match[2]
		if !slices.ContainsFunc(firstCells(operations, "## The log"), func(line string) bool {
			start, _, _ := strings.Cut(line, "…")
			return strings.HasPrefix(message, start)
		}) {
			t.Errorf("docs/operations.md says nothing of the log's line %q", message)
		}
	}
	if len(logs) < 25 {
		t.Errorf("only %d log lines are found in the source", len(logs))
	}
	for _, counter := range firstCells(operations, "## Counters") {
		if !strings.Contains(server, `{"`+counter+`", &s.`) {
			t.Errorf("docs/operations.md: there is no counter %q", counter)
		}
	}
	documented := firstCells(operations, "## Metrics")
	for _, metric := range documented {
		if name := strings.TrimPrefix(metric, "vmw_cloudinit_"); !strings.Contains(server, `"`+name+`"`) && !strings.Contains(server, `"`+metric+`"`) {
			t.Errorf("docs/operations.md: there is no metric %q", metric)
		}
	}
	counted := regexp.MustCompile(`&s\.\w+, "(\w+)", `).FindAllStringSubmatch(server, -1)
	for _, match := range counted {
		if !slices.Contains(documented, "vmw_cloudinit_"+match[1]) {
			t.Errorf("docs/operations.md says nothing of the metric %q", match[1])
		}
	}
	if len(counted) < 15 {
		t.Errorf("only %d metrics are found in the source", len(counted))
	}
	flag := regexp.MustCompile("`--([a-z-]+)|VMW_CLOUDINIT_([A-Z_]+)")
	for _, document := range []string{"README.md", "docs/operations.md", "docs/security.md", "docs/vsphere.md"} {
		for _, match := range flag.FindAllStringSubmatch(read(t, document), -1) {
			name := match[1] + strings.ToLower(strings.ReplaceAll(match[2], "_", "-"))
			if !strings.Contains(server, `, "`+name+`", `) && !strings.Contains(server, `("`+name+`", `) && !strings.HasPrefix(name, "guest-") {
				t.Errorf("%s: there is no flag --%s", document, name)
			}
		}
	}
}

// firstCells returns what stands in backticks in the first column of the first table below a heading.
func firstCells(document, heading string) (cells []string) {
	_, section, _ := strings.Cut(document, "\n"+heading+"\n")
	inTable := false
	for line := range strings.Lines(section) {
		row, ok := strings.CutPrefix(line, "| ")
		if !ok {
			if inTable && !strings.HasPrefix(line, "|") {
				break
			}
			continue
		}
		inTable = true
		first, _, _ := strings.Cut(row, " | ")
		for i, part := range strings.Split(first, "`") {
			if i%2 == 1 {
				cells = append(cells, part)
			}
		}
	}
	return cells
}

// TestArchitectureNamesAllPackages looks for each internal package in the table of packages.
func TestArchitectureNamesAllPackages(t *testing.T) {
	page := read(t, "docs/architecture.md")
	folders, err := filepath.Glob("../internal/*")
	if err != nil || len(folders) < 15 {
		t.Fatalf("only %d folders: %v", len(folders), err)
	}
	for _, folder := range folders {
		if name := strings.TrimPrefix(folder, "../"); !strings.Contains(page, "`"+name+"`") {
			t.Errorf("docs/architecture.md says nothing of %s: give it a row", name)
		}
	}
}
