package template_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

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

func TestErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"a {{ .VM.Nme }}", "f.yaml:3:11: userdata: the template has a field .VM.Nme, and there is none: did you mean Name?"},
		{"a\nb {{ .Name }}", "f.yaml:4:8: userdata: the template has a field .Name, and there is none: fields start with .VM"},
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

func ExampleExpand() {
	instance := &metadata.Instance{MetaData: map[string]any{"hostname": "{{ .VM.Name | lower }}"}}
	expanded, err := template.Expand(metadata.VM{Name: "WEB1"}, instance)
	fmt.Println(expanded.MetaData, err)
	// Output: map[hostname:web1] <nil>
}
