// Package yaml11test reads documents with the real PyYAML, for tests of what we write for it.
package yaml11test

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"vmw-cloudinit-metadata/internal/testenv"
	"vmw-cloudinit-metadata/internal/yaml11"
)

//go:embed load.py
var program string

// Load reads each document with PyYAML's safe_load, all in one process, and returns what each one is in the form
// that Describe gives, or "error". Without PyYAML it skips the test, and fails it where CI is set.
func Load(t testing.TB, documents [][]byte) []string {
	t.Helper()
	python := testenv.Python(t, "yaml")
	input, err := json.Marshal(documents) // bytes go as base64
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "-I", "-c", program)
	cmd.Stdin = bytes.NewReader(input)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("python3: %v\n%s", err, stderr.String())
	}
	var values []string
	if err := json.Unmarshal(output, &values); err != nil {
		t.Fatalf("python3's answer: %v", err)
	}
	if len(values) != len(documents) {
		t.Fatalf("python3 gave %d answers to %d documents", len(values), len(documents))
	}
	return values
}

// Describe writes a value with its types, so that equal texts are equal values.
func Describe(value any) string {
	switch v := value.(type) {
	case nil:
		return "null"
	case bool:
		return fmt.Sprintf("bool %t", v)
	case int, int64, uint64:
		return fmt.Sprintf("int %d", v)
	case float64:
		if math.IsNaN(v) {
			return "float nan"
		}
		return fmt.Sprintf("float %016x", math.Float64bits(v))
	case string:
		return "str " + hex(v)
	case []byte:
		return "bytes " + base64.StdEncoding.EncodeToString(v)
	case []any:
		parts := make([]string, 0, len(v))
		for _, element := range v {
			parts = append(parts, Describe(element))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case []string:
		parts := make([]any, 0, len(v))
		for _, element := range v {
			parts = append(parts, element)
		}
		return Describe(parts)
	case yaml11.Map:
		parts := make([]string, 0, len(v))
		for _, pair := range v {
			parts = append(parts, "str "+hex(pair.Key)+": "+Describe(pair.Value))
		}
		slices.Sort(parts)
		return "{" + strings.Join(parts, ", ") + "}"
	case map[string]any:
		pairs := make(yaml11.Map, 0, len(v))
		for key, element := range v {
			pairs = append(pairs, yaml11.Pair{Key: key, Value: element})
		}
		return Describe(pairs)
	}
	return fmt.Sprintf("unknown %T", value)
}

// hex shows text such that no two texts look the same: plain if it is plain ASCII, else in hexadecimal digits.
func hex(text string) string {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || strings.IndexByte(`,:[]{}"`, c) >= 0 {
			return fmt.Sprintf("0x%x", text)
		}
	}
	return `"` + text + `"`
}
