package main

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"vmw-cloudinit-metadata/driver/command"
	"vmw-cloudinit-metadata/driver/etcd"
	"vmw-cloudinit-metadata/driver/file"
	"vmw-cloudinit-metadata/driver/http"
	"vmw-cloudinit-metadata/driver/postgres"
	"vmw-cloudinit-metadata/internal/config"
	"vmw-cloudinit-metadata/internal/testenv"
)

func readDoc(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "docs"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func blocks(text, language string) []string {
	var found []string
	for _, match := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(text, -1) {
		found = append(found, match[1])
	}
	return found
}

// Each driver's page has the same sections, and options that its driver takes.
func TestDriverPages(t *testing.T) {
	parsers := map[string]func(json.RawMessage) error{
		"command":  func(o json.RawMessage) error { _, err := command.ParseConfig(o); return err },
		"etcd":     func(o json.RawMessage) error { _, err := etcd.ParseConfig(o); return err },
		"file":     func(o json.RawMessage) error { _, err := file.ParseConfig(o); return err },
		"http":     func(o json.RawMessage) error { c, err := http.ParseConfig(o); return newHTTP(c, err) },
		"postgres": func(o json.RawMessage) error { _, err := postgres.ParseConfig(o); return err },
	}
	for _, name := range driverNames() {
		text := readDoc(t, "drivers", name+".md")
		var sections []string
		for _, match := range regexp.MustCompile(`(?m)^## (.*)$`).FindAllStringSubmatch(text, -1) {
			sections = append(sections, match[1])
		}
		if want := []string{"What for", "Options", "Example", "Failure behaviour", "Limits"}; !reflect.DeepEqual(sections, want) {
			t.Errorf("%s.md has the sections %q, want %q", name, sections, want)
		}
		examples := blocks(text, "json")
		for _, match := range regexp.MustCompile(`--driver-opts '(.*?)'`).FindAllStringSubmatch(text, -1) {
			examples = append(examples, match[1])
		}
		if len(examples) == 0 {
			t.Errorf("%s.md has no example of options", name)
		}
		for _, example := range examples {
			if err := parsers[name](json.RawMessage(example)); err != nil {
				t.Errorf("%s.md: %s: %v", name, example, err)
			}
		}
		if err := parsers[name](json.RawMessage(`{"no-such-option-at-all": 1}`)); err == nil {
			t.Errorf("%s takes any option", name)
		} else if _, known, listed := strings.Cut(err.Error(), "known are "); listed {
			for option := range strings.SplitSeq(known, ", ") {
				if !strings.Contains(text, "`"+option+"`") {
					t.Errorf("%s.md does not name the option %s", name, option)
				}
			}
		}
	}
}

// newHTTP also reads the URL templates of an example, without its files.
func newHTTP(c http.Config, err error) error {
	if err != nil {
		return err
	}
	driver, err := http.New(http.Config{URL: c.URL, NoCloud: c.NoCloud, Socket: c.Socket})
	if err != nil {
		return err
	}
	return driver.Close()
}

func TestConfigurationPage(t *testing.T) {
	flags := newRunCommand().Flags()
	examples := blocks(readDoc(t, "configuration.md"), "yaml")
	if len(examples) != 1 {
		t.Fatalf("%d examples, want 1", len(examples))
	}
	parsed, err := config.Parse("example", []byte(examples[0]), settings(flags))
	if err != nil {
		t.Fatal(err)
	}
	for _, setting := range parsed.Settings {
		for _, value := range setting.Values {
			if err := flags.Set(setting.Key, value); err != nil {
				t.Errorf("%s: %v", setting.Key, err)
			}
		}
	}
	for _, service := range parsed.Services {
		for _, driver := range service.Drivers {
			if !slices.Contains(driverNames(), driver.Name) {
				t.Errorf("there is no driver %s", driver.Name)
			}
		}
	}
}

// The command driver's page shows a conversation with the example program. It is had here.
func TestCommandPage(t *testing.T) {
	python := testenv.Need(t, "python3")[0]
	var lines []string
	for _, match := range regexp.MustCompile(`(?m)^    (\{.*\})$`).FindAllStringSubmatch(readDoc(t, "drivers", "command.md"), -1) {
		lines = append(lines, match[1])
	}
	if len(lines) != 4 {
		t.Fatalf("%d lines, want the announcement, a request and two answers", len(lines))
	}
	program := exec.CommandContext(t.Context(), python, filepath.Join("..", "..", "examples", "drivers", "driver.py"))
	stdin, err := program.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := program.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	second := strings.NewReplacer(`"id":1`, `"id":2`, "web-7", "db1").Replace(lines[1])
	if _, err := io.WriteString(stdin, lines[1]+"\n"+second+"\n"); err != nil {
		t.Fatal(err)
	}
	stdin.Close()
	said := bufio.NewScanner(stdout)
	for _, want := range []string{lines[0], lines[2], lines[3]} {
		var got, documented any
		if !said.Scan() || json.Unmarshal(said.Bytes(), &got) != nil || json.Unmarshal([]byte(want), &documented) != nil || !reflect.DeepEqual(got, documented) {
			t.Errorf("the program said %s, want %s", said.Text(), want)
		}
	}
	if err := program.Wait(); err != nil {
		t.Error(err)
	}
}
