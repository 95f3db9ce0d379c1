// Package schema validates user-data and network-config against cloud-init's own JSON schemas, as its command "cloud-init
// schema" does, with the line and column of what is wrong. The schemas come with cloud-init and are not part of this project.
package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"vmw-cloudinit-metadata/internal/yaml11"
)

// The files that cloud-init keeps its schemas in. Those for networks came with version 23.4.
const (
	cloudConfigFile = "schema-cloud-config-v1.json"
	networkV1File   = "schema-network-config-v1.json"
	networkV2File   = "schema-network-config-v2.json"
)

// Places returns where an installed cloud-init has its schemas, on the systems that we know. The first that exists is the one to
// load.
func Places() []string {
	const inside = "cloudinit/config/schemas"
	places := []string{
		"/usr/lib/python3/dist-packages/" + inside, // Debian, Ubuntu
		"/usr/share/cloud-init/schemas",
	}
	for _, pattern := range []string{"/usr/lib/python3*/site-packages/" + inside, "/usr/local/lib/python3*/*-packages/" + inside, "/opt/*/lib/python3*/site-packages/" + inside} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			continue // of a pattern that is not one
		}
		slices.Sort(found)
		slices.Reverse(found)
		places = append(places, found...)
	}
	return slices.DeleteFunc(places, func(place string) bool {
		_, err := os.Stat(filepath.Join(place, cloudConfigFile))
		return err != nil
	})
}

// Problem is one thing wrong with a document. It shows nothing of the document but keys.
type Problem struct {
	// Line and Column are in the document, and count from 1; Line is 0 if no place is known.
	Line, Column int
	// Part is the line of the document on which the part of a MIME message starts that the problem is in; 0 if it is in none,
	// or the message is compressed.
	Part int
	// Path is the keys and indices that lead to the value, joined by dots.
	Path string
	// Text says what is wrong.
	Text string
	// Warning is for what cloud-init takes: something deprecated, or that its schema does not have, or is hardly meant so.
	Warning bool
}

func (p Problem) String() string {
	text := p.Text
	if p.Path != "" {
		text = p.Path + ": " + text
	}
	if p.Line > 0 {
		text = fmt.Sprintf("%d:%d: %s", p.Line, p.Column, text)
	}
	return text
}

// Schemas are cloud-init's, ready for use. Its methods may be called at once.
type Schemas struct {
	cloudConfig *document
	networks    map[int64]*document // by version, for what is in the key "network" if that is there; empty with a cloud-init that has none
}

// document is one schema.
type document struct {
	compiled *jsonschema.Schema
	strict   *jsonschema.Schema // the same, that nothing passes which is deprecated
	raw      any
	// lenient is for a schema of which cloud-init itself makes nothing where netplan takes the document: keys that it lacks are no errors.
	lenient bool
}

// Load reads the schemas in a directory, or those of a cloud-init that was unpacked there.
func Load(dir string) (*Schemas, error) {
	inside := filepath.Join(dir, "usr", "lib", "python3", "dist-packages", "cloudinit", "config", "schemas")
	for _, place := range []string{dir, inside, filepath.Join(dir, "cloudinit", "config", "schemas")} {
		if _, err := os.Stat(filepath.Join(place, cloudConfigFile)); err == nil {
			return load(place)
		}
	}
	return nil, fmt.Errorf("schema: %s has no %s: name the directory with cloud-init's schemas, or one where cloud-init was unpacked", dir, cloudConfigFile)
}

func load(dir string) (*Schemas, error) {
	cloudConfig, err := compile(filepath.Join(dir, cloudConfigFile), "")
	if err != nil {
		return nil, err
	}
	s := &Schemas{cloudConfig: cloudConfig, networks: map[int64]*document{}}
	for version, file := range map[int64]string{1: networkV1File, 2: networkV2File} {
		network, err := compile(filepath.Join(dir, file), fmt.Sprintf("network_config_version%d", version))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		network.lenient = version == 2
		s.networks[version] = network
	}
	return s, nil
}

// compile reads one schema. cloud-init validates all of them as draft 4, whatever they say of themselves, and of their formats
// it knows only date where no more of Python's packages are installed than it needs.
//
// If the schema has a definition by the name of form, that is what counts: without a choice of forms, errors say more.
func compile(file, form string) (*document, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	var raw map[string]any
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("schema: %s: %w", file, err)
	}
	addUnlisted(raw)
	addNetplans(raw)
	if inside(raw, "$defs", form) != nil {
		delete(raw, "oneOf")
		raw["allOf"] = []any{map[string]any{"$ref": "#/$defs/" + form}}
	}
	raw["$schema"] = "http://json-schema.org/draft-04/schema#"
	d := &document{raw: raw}
	if d.compiled, err = compileWith(raw); err == nil {
		d.strict, err = compileWith(annotated(raw), deprecations())
	}
	if err != nil {
		return nil, fmt.Errorf("schema: %s: %w", file, err)
	}
	return d, nil
}

func compileWith(raw any, vocabularies ...*jsonschema.Vocabulary) (*jsonschema.Schema, error) {
	const url = "file:///schema.json"
	compiler := jsonschema.NewCompiler()
	for _, format := range []string{"uri", "hostname"} {
		compiler.RegisterFormat(&jsonschema.Format{Name: format, Validate: func(any) error { return nil }})
	}
	for _, vocabulary := range vocabularies {
		compiler.RegisterVocabulary(vocabulary)
	}
	compiler.AssertFormat()
	compiler.UseLoader(noLoader{})
	if err := compiler.AddResource(url, raw); err != nil {
		return nil, err
	}
	return compiler.Compile(url)
}

// noLoader refuses what a schema refers to outside of itself: nothing is fetched.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("refers to %s, which is not loaded", url)
}

// HasNetworks says whether there are schemas for network-config.
func (s *Schemas) HasNetworks() bool { return len(s.networks) > 0 }

// CloudConfig validates a cloud-config, with or without its first line.
func (s *Schemas) CloudConfig(data []byte) []Problem {
	value, places, problems := decode(data)
	if isWrong(problems) || value == nil { // cloud-init takes one that is empty
		return problems
	}
	if _, ok := value.(map[string]any); !ok {
		return []Problem{{Line: 1, Column: 1, Text: "must be a mapping: keys with their values"}}
	}
	return append(problems, s.cloudConfig.validate(value, "", places)...)
}

// NetworkConfig validates a network-config by the schema of its version, if there is one.
func (s *Schemas) NetworkConfig(data []byte) []Problem {
	value, places, problems := decode(data)
	if isWrong(problems) {
		return problems
	}
	config, _ := value.(map[string]any)
	bare, prefix := config, ""
	if inner, ok := config["network"].(map[string]any); ok {
		bare, prefix = inner, "network."
		for _, key := range slices.Sorted(maps.Keys(config)) {
			if key != "network" {
				problems = append(problems, Problem{Line: places[key].line, Column: places[key].column, Path: key, Text: "can't be there beside network"})
			}
		}
	}
	version, ok := bare["version"].(int64)
	if !ok || version != 1 && version != 2 {
		place := places[prefix+"version"]
		return []Problem{{Line: max(place.line, 1), Column: max(place.column, 1), Path: prefix + "version", Text: "must be 1 or 2"}}
	}
	schema := s.networks[version]
	if schema == nil {
		return problems
	}
	return append(problems, schema.validate(bare, strings.TrimSuffix(prefix, "."), places)...)
}

// isWrong says whether there is more than warnings.
func isWrong(problems []Problem) bool {
	return slices.ContainsFunc(problems, func(p Problem) bool { return !p.Warning })
}

// validate validates a value that is at a path of its document.
func (d *document) validate(value any, path string, places map[string]place) []Problem {
	t := translator{schema: d.raw, places: places, lenient: d.lenient}
	if path != "" {
		t.root = []string{path}
	}
	err := d.compiled.Validate(value)
	if err == nil {
		if failed, ok := errors.AsType[*jsonschema.ValidationError](d.strict.Validate(value)); ok {
			t.addDeprecated(failed)
		}
		return t.sorted()
	}
	failed, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return []Problem{{Text: "can't be validated"}}
	}
	t.add(failed)
	return t.sorted()
}

// place is where a value is in its document.
type place struct {
	line, column int
	date         bool // what PyYAML takes for one
}

// notText stands for a date, of which JSON schema knows no type: it is none that a schema asks for.
const notText = 0.5

// decode reads YAML as PyYAML does, into the values that a schema is about.
func decode(data []byte) (any, map[string]place, []Problem) {
	root, err := yaml11.Parse(data)
	if err != nil {
		return nil, nil, []Problem{problemOf(err)}
	}
	if err := yaml11.CheckPyYAML(root, data); err != nil {
		return nil, nil, []Problem{problemOf(err)}
	}
	if root == nil {
		return nil, nil, nil
	}
	places := map[string]place{"": {line: root.Line, column: root.Column}}
	var problems []Problem
	decoder := yaml11.Decoder{
		Lenient: true,
		Visit:   func(path string, line, column int) { places[path] = place{line: line, column: column} },
		Date: func(path, text string) any {
			at := places[path]
			places[path] = place{at.line, at.column, true}
			if _, err := time.Parse("2006-1-2", strings.FieldsFunc(text, func(r rune) bool { return r == 'T' || r == 't' || r == ' ' || r == '\t' })[0]); err != nil {
				problems = append(problems, Problem{Line: at.line, Column: at.column, Path: path, Text: "is a date to YAML, of a day that there is not, and cloud-init fails at it: put it in quotes"})
			}
			return notText
		},
	}
	value := decoder.Decode("", root)
	for _, problem := range decoder.Problems() {
		problems = append(problems, problemOf(problem))
	}
	for _, warning := range decoder.Warnings() {
		problem := problemOf(warning)
		problem.Warning = true
		problems = append(problems, problem)
	}
	return plain(value), places, problems
}

func problemOf(err error) Problem {
	if e, ok := errors.AsType[*yaml11.Error](err); ok {
		return Problem{Line: e.Line, Column: e.Column, Path: e.Path, Text: e.Problem}
	}
	return Problem{Text: "is not YAML"}
}

// plain replaces !!binary, which cloud-init lets count as text.
func plain(value any) any {
	switch v := value.(type) {
	case []byte:
		return strings.ToValidUTF8(string(v), "\uFFFD")
	case []any:
		for i, item := range v {
			v[i] = plain(item)
		}
	case map[string]any:
		for key, item := range v {
			v[key] = plain(item)
		}
	}
	return value
}
