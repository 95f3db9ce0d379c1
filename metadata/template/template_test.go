package template_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"vmw-cloudinit-metadata/internal/yaml11"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/metadata/template"
	"vmw-cloudinit-metadata/vmfile"
)

var vm = metadata.VM{Name: "web-7", UUID: "421338a5-0a6a-b9b4-b647-3007991cf1d6"}

func parse(t *testing.T, text string) *metadata.Instance {
	t.Helper()
	instance, err := vmfile.Parse("web.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return instance
}

func TestJinjaIsLeftAlone(t *testing.T) {
	for _, start := range []string{"## template: jinja", "## Template: Jinja", "## TEMPLATE: JINJA", "  ## template: jinja", "\n\t## template: jinja"} {
		source := &metadata.Instance{UserData: []byte(start + "\n#cloud-config\nfqdn: {{ v1.local_hostname }}\n")}
		if got, err := template.Expand(vm, source); err != nil || got != source {
			t.Errorf("%q: it is a template for cloud-init, and got %v", start, err)
		}
	}
	ours := &metadata.Instance{UserData: []byte("# template: jinja\n{{ .VM.Name }}")}
	if got, err := template.Expand(vm, ours); err != nil || string(got.UserData) != "# template: jinja\nweb-7" {
		t.Errorf("a comment is taken for cloud-init's sign: %v", err)
	}
}

func TestExpand(t *testing.T) {
	source := parse(t, `metadata:
  hostname: "{{ .VM.Name | lower }}"
  deep: [1, true, {a: "x{{ .VM.UUID }}y"}]
  bios: '{{ default "none" .VM.BIOSUUID }}'
network:
  address: 192.0.2.{{ trimPrefix "web-" .VM.Name }}/24
userdata: |
  #cloud-config
  fqdn: {{ json .VM.Name }}
  {{- if eq .VM.Name "web-7" }}
  seven: {{ printf "%q" (replace "-" "_" .VM.Name) }}
  {{- end }}
vendordata: |
  ## template: jinja
  #cloud-config
  fqdn: {{ v1.local_hostname }}
`)
	before := fmt.Sprint(*source)
	got, err := template.Expand(vm, source)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(*source) != before {
		t.Error("Expand changed what it was given")
	}
	wantMeta := map[string]any{"hostname": "web-7", "bios": "none", "deep": []any{int64(1), true, map[string]any{"a": "x" + vm.UUID + "y"}}}
	if !reflect.DeepEqual(got.MetaData, wantMeta) || got.Network["address"] != "192.0.2.7/24" {
		t.Errorf("got %v and %v", got.MetaData, got.Network)
	}
	if want := "#cloud-config\nfqdn: \"web-7\"\nseven: \"web_7\"\n"; string(got.UserData) != want {
		t.Errorf("user-data is\n%s, want\n%s", got.UserData, want)
	}
	if string(got.VendorData) != string(source.VendorData) {
		t.Errorf("cloud-init's own template was touched: %q", got.VendorData)
	}
	plain := parse(t, "metadata: {hostname: a}\nuserdata: x")
	if same, err := template.Expand(vm, plain); same != plain || err != nil {
		t.Errorf("without templates: %p, %v, want the same instance", same, err)
	}
	compressed := &metadata.Instance{UserData: []byte("\x1f\x8b\x08{{")}
	if same, err := template.Expand(vm, compressed); same != compressed || err != nil {
		t.Errorf("compressed user-data: %v, %v", same, err)
	}
	empty := parse(t, "{}")
	if same, err := template.Expand(vm, empty); same != empty || err != nil {
		t.Errorf("empty: %v, %v", same, err)
	}
}

// A line that a template adds or takes away makes the others' places unknown, rather than wrong.
func TestLinesThatMoved(t *testing.T) {
	source := parse(t, `userdata: |
  #cloud-config
  {{- if eq .VM.Name "other" }}
  a: 1
  {{- end }}
  b: 1
vendordata: |
  #cloud-config
  a: {{ .VM.Name }}
  b: 1
`)
	got, err := template.Expand(vm, source)
	if err != nil {
		t.Fatal(err)
	}
	places := got.Origin.(metadata.LineOrigin)
	if place := places.LocateLine("userdata", 2, 1); place != "" {
		t.Errorf("b in user-data is at %s, want no place", place)
	}
	if place := places.LocateLine("vendordata", 3, 1); place != "web.yaml:10:3" {
		t.Errorf("b in vendor-data is at %q", place)
	}
	if place := places.Locate("userdata"); place != "web.yaml:1:1" {
		t.Errorf("user-data is at %q", place)
	}
}

// A name can't become more than a value.
func TestHostileName(t *testing.T) {
	source := parse(t, "metadata: {hostname: '{{ .VM.Name }}'}\nuserdata: |\n  #cloud-config\n  fqdn: {{ json .VM.Name }}\n")
	name := "a\"\nruncmd: [reboot]\nx: {{ .VM.UUID }}"
	got, err := template.Expand(metadata.VM{Name: name, UUID: "u"}, source)
	if err != nil || got.MetaData["hostname"] != name || len(got.MetaData) != 1 {
		t.Errorf("got %v, %v", got, err)
	}
	if want := "#cloud-config\nfqdn: \"a\\\"\\nruncmd: [reboot]\\nx: {{ .VM.UUID }}\"\n"; string(got.UserData) != want {
		t.Errorf("user-data is %q, want %q", got.UserData, want)
	}
}

// What is filled into user-data that is a mapping stays within its value.
func TestMapping(t *testing.T) {
	for _, c := range []struct{ name, file, vm, want string }{
		{"nothing filled in", "{hostname: '{{ \"x\" }}', n: 1, b: yes, z: null, l: [], bin: !!binary aGk=}", "a",
			"hostname: x\n\"n\": 1\nb: true\nz: null\nl: []\nbin: !!binary \"aGk=\"\n"},
		{"quotes in the template", "{hostname: '{{ default \"none\" .VM.BIOSUUID }}'}", "a", "hostname: none\n"},
		{"json", "{write_files: [{content: '{{ json .VM.Name }}'}]}", `a"b`, "write_files:\n- content: \"\\\"a\\\\\\\"b\\\"\"\n"},
		{"quotes in the name", "{hostname: '{{ .VM.Name }}'}", "a\"\nruncmd: [reboot]\nx: \"", "hostname: \"a\\\"\\nruncmd: [reboot]\\nx: \\\"\"\n"},
		{"quotes and a comma", "{runcmd: [[echo, '{{ .VM.Name }}']]}", `", "reboot`, "runcmd:\n- - echo\n  - \"\\\", \\\"reboot\"\n"},
		{"backslash", "{a: '{{ .VM.Name }}x'}", `\`, "a: \"\\\\x\"\n"},
		{"template in the name", "{a: '{{ .VM.Name }}'}", "{{ .VM.UUID }}", "a: \"{{ .VM.UUID }}\"\n"},
		{"colon", "{a: '{{ .VM.Name }}'}", "a: b", "a: \"a: b\"\n"},
		{"comment", "{a: '{{ .VM.Name }}'}", "a #b", "a: \"a #b\"\n"},
		{"unicode", "{a: 'ö {{ .VM.Name }}'}", "größe \u2028😀", "a: \"ö größe \\u2028😀\"\n"},
		{"number", "{a: '{{ .VM.Name }}', b: 7}", "0123", "a: \"0123\"\nb: 7\n"},
		{"base 60", "{a: '{{ .VM.Name }}'}", "12:34:56", "a: \"12:34:56\"\n"},
		{"bool", "{a: ['{{ .VM.Name }}']}", "no", "a:\n- \"no\"\n"},
		{"null", "{a: '{{ .VM.Name }}'}", "~", "a: \"~\"\n"},
		{"empty", "{a: '{{ .VM.Name }}'}", "", "a: \"\"\n"},
		{"list in the name", "{a: '{{ .VM.Name }}'}", "[a, b]", "a: \"[a, b]\"\n"},
		{"plain", "{a: 'x-{{ .VM.Name }}'}", "web7", "a: x-web7\n"},
		{"nested lists", "{a: [[['{{ .VM.Name }}'], {b: ['{{ .VM.Name | upper }}', 1]}]]}", "x", "a:\n- - - x\n  - b:\n    - X\n    - 1\n"},
		{"lines", "{a: \"{{ .VM.Name }}\\n{{ if true }}two\\n{{ end }}\"}", "one", "a: \"one\\ntwo\\n\"\n"},
		{"lines of the template's own", "{a: '{{ print \"one\\n- two\" }}'}", "", "a: \"one\\n- two\"\n"},
		{"key", "{users: {'{{ .VM.Name }}': '{{ .VM.Name }}'}, '{{ upper \"x\" }}': 1}", "a\": {}\nruncmd", "users:\n  \"a\\\": {}\\nruncmd\": \"a\\\": {}\\nruncmd\"\nX: 1\n"},
		{"merge key", "{a: {'{{ .VM.Name }}': {b: 1}}}", "<<", "a:\n  \"<<\":\n    b: 1\n"},
		{"text that looks the same", "|\n  #cloud-config\n  a: \"{{ .VM.Name }}\"\n", "x\"\nb: \"", "a: \"x\\\"\\nb: \\\"\"\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			source := parse(t, "userdata: "+c.file+"\nvendordata: "+c.file)
			before := string(source.UserData)
			got, err := template.Expand(metadata.VM{Name: c.vm, UUID: "u"}, source)
			if err != nil {
				t.Fatal(err)
			}
			if want := "#cloud-config\n" + c.want; string(got.UserData) != want || string(got.VendorData) != want {
				t.Errorf("got\n%s\nand\n%s\nwant\n%s", got.UserData, got.VendorData, want)
			}
			if string(source.UserData) != before {
				t.Error("Expand changed what it was given")
			}
		})
	}
	plain := parse(t, "userdata: {a: '{ {'}")
	if same, err := template.Expand(vm, plain); same != plain || err != nil {
		t.Errorf("without templates: %p, %v, want the same instance", same, err)
	}
}

// User-data that is text is filled in as it stands.
func TestText(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"#cloud-config\nhostname: {{ json .VM.Name }}\n", "#cloud-config\nhostname: \"web-7\"\n"},
		{"#cloud-config\nruncmd:\n- echo {{ .VM.Name }}\n", "#cloud-config\nruncmd:\n- echo web-7\n"},
		{"#cloud-config\nruncmd:\n  - echo \"{{ .VM.Name }}\"\n", "#cloud-config\nruncmd:\n  - echo \"web-7\"\n"},
		{"#cloud-config\n# {{ .VM.Name }}\na: \"{{ .VM.Name }}\"\n", "#cloud-config\n# web-7\na: \"web-7\"\n"},
		{"#cloud-config\na:   \"{{ .VM.Name }}\"\n", "#cloud-config\na:   \"web-7\"\n"},
		{"#cloud-config\na: '{{ .VM.Name }}'\n", "#cloud-config\na: 'web-7'\n"},
		{"#cloud-config\na: \"{{ if false }}\"\n# {{ end }}\"\n", "#cloud-config\na: \"\"\n"},
		{"#cloud-config\n{{ if true }}a: 1{{ end }}\n", "#cloud-config\na: 1\n"},
		{"#cloud-config\na: |\n  \"{{ .VM.Name }}\"\n", "#cloud-config\na: |\n  \"web-7\"\n"},
		{"#!/bin/sh\necho \"{{ .VM.Name }}\"\n", "#!/bin/sh\necho \"web-7\"\n"},
		{"a: \"{{ .VM.Name }}\"\n", "a: \"web-7\"\n"},
	} {
		got, err := template.Expand(vm, &metadata.Instance{UserData: []byte(c.text)})
		if err != nil || string(got.UserData) != c.want {
			t.Errorf("%q: got %q, %v, want %q", c.text, got.UserData, err, c.want)
		}
	}
}

func TestMappingErrors(t *testing.T) {
	million := "{{ printf \"%999999d\" 1 }}"
	for _, c := range []struct{ file, vm, want string }{
		{"userdata:\n  a: x\n  runcmd:\n  - [echo, '{{ .VM.Nme }}']", "", "web.yaml:4:12: userdata.runcmd.0.1: the template has a field .VM.Nme, and there is none: did you mean Name?"},
		{"userdata:\n  runcmd:\n  - |\n    one\n    {{ x }}", "", "web.yaml:3:5: userdata.runcmd.0: the template on line 2 of this text has a function x, and there is none"},
		{"vendordata:\n  a:\n    '{{ x }}': 1", "", "web.yaml:3:5: vendordata.a.{{ x }}: the template has a function x, and there is none"},
		{"userdata:\n  a: '{{ if true }}'\n  b: '{{ end }}'", "", "web.yaml:2:3: userdata.a: the template is not understood"},
		{"userdata:\n  a: '{{ .VM.Name }}'", "\xff", "web.yaml:2:3: userdata.a: the template gives text that is not UTF-8"},
		{"metadata:\n  a: '{{ .VM.Name }}'", "\xff", "web.yaml:2:3: metadata.a: the template gives text that is not UTF-8"},
		{"userdata:\n  a: '{{ slice .VM.Name 3 }}'", "a", "web.yaml:2:3: userdata.a: the template can't be filled in for this VM"},
		{"userdata:\n  '{{ .VM.Name }}': 1", "", "web.yaml:2:3: userdata.{{ .VM.Name }}: the template gives an empty key"},
		{"userdata:\n  a: 1\n  '{{ .VM.Name }}': 1", "a", "web.yaml:3:3: userdata.{{ .VM.Name }}: the template gives a key that is there twice"},
		{"userdata:\n  '{{ .VM.Name }}': 1\n  a: 1", "a", "web.yaml:3:3: userdata.a: the template gives a key that is there twice"},
		{"userdata:\n  '{{ .VM.Name }}': 1", strings.Repeat("k", 200), "web.yaml:1:1: userdata: the template gives what can't be written as YAML: a key is longer than 160 bytes"},
		{"userdata:\n  a: '" + strings.Repeat(million, 5) + "'", "", "web.yaml:2:3: userdata.a: the template gives more than 4 MiB"},
		{"userdata:\n  a: ['" + strings.Repeat(million+"', '", 4) + million + "']", "", "web.yaml:2:123: userdata.a.4: the template gives more than 4 MiB"},
		{"userdata:\n  a: '{{ .VM.Name }}'", strings.Repeat("\u2028", 1<<20), "web.yaml:1:1: userdata: the template gives more than 4 MiB"},
		{"userdata: |\n  #cloud-config\n  a: \"b {{ .VM.Nme }}\"\n", "", "web.yaml:3:15: userdata: the template has a field .VM.Nme"},
		{"userdata: |\n  #cloud-config\n  a: \"{{ if true }}\"\n  b: \"{{ end }}\"\n", "", "web.yaml:1:1: userdata.a: the template is not understood"},
	} {
		_, err := template.Expand(metadata.VM{Name: c.vm}, parse(t, c.file))
		if text := fmt.Sprint(err); !errors.Is(err, metadata.ErrInvalid) || !strings.Contains(text, c.want) {
			t.Errorf("%.100q:\ngot  %.300s\nwant %s", c.file, text, c.want)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"a {{ .VM.Nme }}", "f.yaml:3:11: userdata: the template has a field .VM.Nme, and there is none: did you mean Name?"},
		{"a\nb {{ .Name }}", "f.yaml:4:8: userdata: the template has a field .Name, and there is none: fields start with .VM"},
		{"größe {{ .VM.Nme }}", "f.yaml:3:15: userdata: the template has a field .VM.Nme"},
		{"grosse {{ slice .VM.Name 99 }}", "f.yaml:3:13: userdata: the template can't be filled in"},
		{"ü\nöö {{ slice .VM.Name 99 }}", "f.yaml:4:9: userdata: the template can't be filled in"},
		{"{{ uper .VM.Name }}", "has a function uper, and there is none: did you mean upper?"},
		{"{{ html .VM.Name }}", "has a function html, and there is none"},
		{"{{ call .VM.Name }}", "has a function call, and there is none"},
		{"{{ range 3 }}x{{ end }}", "f.yaml:3:12: userdata: the template has a loop"},
		{"{{ define \"x\" }}y{{ end }}", "defines another template"},
		{"a{{ define \"x\" }}y{{ end }}", "defines another template"},
		{"{{ template \"x\" }}", "calls another template"},
		{"{{ block \"x\" . }}y{{ end }}", "another template"},
		{"{{ with .VM }}{{ .Name }}{{ end }}", "has .VM without one of its fields"},
		{"{{ $x := .VM.Name }}{{ $.VM.Bios }}", "has a field .VM.Bios"},
		{"{{ (print .VM).Name }}", "has a field of what is in parentheses"},
		{"{{ \"secret", "f.yaml:3:3: userdata: the template is not understood"},
		{"a\n{{ if }}secret{{ end }}", "f.yaml:4:3: userdata: the template is not understood"},
		{"{{ lower }}", "gives a function too few or too many values"},
		{"{{ slice .VM.Name 3 99 }}", "can't be filled in for this VM"},
		{"{{ index .VM.Name 99 }}", "can't be filled in for this VM"},
		{"{{ printf \"%999999d%999999d%999999d%999999d%999999d\" 1 1 1 1 1 }}", "gives more than 4 MiB"},
	} {
		block := "#\nuserdata: |\n  " + strings.ReplaceAll(c.text, "\n", "\n  ") + "\n"
		instance, err := vmfile.Parse("f.yaml", []byte(block))
		if err != nil {
			t.Fatal(err)
		}
		_, err = template.Expand(vm, instance)
		if !errors.Is(err, metadata.ErrInvalid) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q:\ngot  %v\nwant %s", c.text, err, c.want)
		}
	}
	instance := parse(t, "metadata:\n  a: '{{ x }}'\nnetwork:\n  nameservers: ['{{ .VM }}']\n")
	_, err := template.Expand(vm, instance)
	want := "web.yaml:2:3: metadata.a: the template has a function x, and there is none"
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "web.yaml:4:17: network.nameservers.0: the template has .VM without") {
		t.Errorf("got %v", err)
	}
}

// What is written is bounded as a whole, and so is what is said of it.
func TestManyTemplates(t *testing.T) {
	million := "{{ printf \"%999999d\" 1 }}"
	fits := &metadata.Instance{MetaData: map[string]any{"a": []any{million, million}}, Network: map[string]any{"b": []any{million, million, million}}}
	if _, err := template.Expand(vm, fits); err != nil {
		t.Error(err)
	}
	tooMuch := &metadata.Instance{MetaData: map[string]any{"a": []any{million, million, million, million, million}}}
	if _, err := template.Expand(vm, tooMuch); err == nil || err.Error() != "metadata.a.4: the template gives more than 4 MiB, by itself or with others" {
		t.Errorf("got %v", err)
	}
	wrong := &metadata.Instance{MetaData: map[string]any{"a": slices.Repeat([]any{"{{ x }}"}, 100)}}
	if _, err := template.Expand(vm, wrong); strings.Count(fmt.Sprint(err), "\n") != 19 {
		t.Errorf("got %v", err)
	}
}

func FuzzExpand(f *testing.F) {
	for _, seed := range []string{"{{ .VM.Name }}", "{{ if eq 1 2 }}{{ end }}", "{{/* */}}", "{{ printf \"%*d\" 999999999 1 }}", "{{ slice \"abc\" 1 }}", "{{ with $x := .VM }}{{ end }}"} {
		f.Add(seed, "web1")
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		instance := &metadata.Instance{UserData: []byte(text)}
		got, err := template.Expand(metadata.VM{Name: name}, instance)
		if (got == nil) == (err == nil) {
			t.Errorf("got %v, %v", got, err)
		}
		if err != nil && !errors.Is(err, metadata.ErrInvalid) {
			t.Errorf("%v is no ErrInvalid", err)
		}
	})
}

// FuzzName checks that a name in a mapping is a value and nothing else, whatever it is.
func FuzzName(f *testing.F) {
	for _, seed := range []string{"web1", "a\"\nruncmd: [x]", "\\", "0x_", "1:30", "\u2028#", "{{", "\xff"} {
		f.Add(seed)
	}
	instance, err := vmfile.Parse("", []byte("userdata: {a: '{{ .VM.Name }}', b: [{c: ' x{{ .VM.Name }}'}], d: 1}"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got, err := template.Expand(metadata.VM{Name: name}, instance)
		if err != nil {
			if utf8.ValidString(name) {
				t.Error(err)
			}
			return
		}
		read, ok := yaml11.ReadCloudConfig(got.UserData)
		want := yaml11.Map{{Key: "a", Value: name}, {Key: "b", Value: []any{yaml11.Map{{Key: "c", Value: " x" + name}}}}, {Key: "d", Value: int64(1)}}
		if !ok || !reflect.DeepEqual(read, want) {
			t.Errorf("%q reads as %v", got.UserData, read)
		}
	})
}

func ExampleExpand() {
	instance := &metadata.Instance{MetaData: map[string]any{"hostname": "{{ .VM.Name | lower }}"}}
	expanded, err := template.Expand(metadata.VM{Name: "WEB1"}, instance)
	fmt.Println(expanded.MetaData, err)
	// Output: map[hostname:web1] <nil>
}
