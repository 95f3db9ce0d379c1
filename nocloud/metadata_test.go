package nocloud_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"vmw-cloudinit-metadata/internal/yaml11/yaml11test"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/nocloud"
)

func TestHostnameOfAName(t *testing.T) {
	long := strings.Repeat("a", 70)
	for name, want := range map[string]string{
		"web1": "web1", "Web1": "web1", "web1.example.com": "web1.example.com", "web 1 (old)": "web-1-old", "web_1": "web-1",
		"Ubuntu 24.04 test": "ubuntu-24-04-test", "debian-12.5": "debian-12-5", "10.0.0.1": "10-0-0-1", "-web-": "web", "a..b": "a-b",
		"Größe": "groesse", "Žluťoučký kůň": "zlutoucky-kun", "e\u0301te\u0301": "ete", "web-名前-1": "web-1", "a%2fb": "a-b", "50%25": "50",
		long: long[:63], strings.Repeat("a", 62) + " b": strings.Repeat("a", 62), "..": "vm-" + testUUID, "名前": "vm-" + testUUID, "": "vm-" + testUUID, "\x00\xff\n": "vm-" + testUUID,
		strings.Repeat("ab.", 100) + "c": strings.Repeat("ab-", 21)[:62],
	} {
		docs, err := nocloud.Render(metadata.VM{Name: name, UUID: testUUID}, &metadata.Instance{}, nocloud.Options{})
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		var meta map[string]string
		if err := json.Unmarshal(docs.MetaData, &meta); err != nil {
			t.Fatal(err)
		}
		if meta["hostname"] != want || meta["local-hostname"] != want {
			t.Errorf("%q became %q, %q; want %q", name, meta["hostname"], meta["local-hostname"], want)
		}
	}
}

func TestMetaData(t *testing.T) {
	for _, tc := range []struct {
		name     string
		vm       metadata.VM
		metadata map[string]any
		want     string
	}{
		{"defaults", metadata.VM{Name: "web 1", UUID: testUUID}, nil, `{"hostname": "web-1", "instance-id": "` + testUUID + `", "local-hostname": "web-1"}`},
		{"no UUID", metadata.VM{Name: "web/1\n"}, nil, `{"hostname": "web-1", "instance-id": "web-1-", "local-hostname": "web-1"}`},
		{"no name", metadata.VM{UUID: testUUID}, nil, `{"hostname": "vm-` + testUUID + `", "instance-id": "` + testUUID + `", "local-hostname": "vm-` + testUUID + `"}`},
		{"given", metadata.VM{Name: "a"}, map[string]any{"instance-id": "i-1", "hostname": "Web1.example.com"}, `{"hostname": "Web1.example.com", "instance-id": "i-1", "local-hostname": "Web1.example.com"}`},
		{"nulls", metadata.VM{Name: "a"}, map[string]any{"instance-id": nil, "hostname": nil, "tags": nil, "public-keys": nil, "region": nil}, `{"hostname": "a", "instance-id": "a", "local-hostname": "a"}`},
		{"local hostname", metadata.VM{Name: "a"}, map[string]any{"local-hostname": "b"}, `{"hostname": "b", "instance-id": "a", "local-hostname": "b"}`},
		{"others pass", metadata.VM{Name: "a"}, map[string]any{"role": map[string]any{"n": int64(1), "f": 1e6, "l": []any{nil, true}}}, `{"hostname": "a", "instance-id": "a", "local-hostname": "a", "role": {"f": 1.0e+06, "l": [null, true], "n": 1}}`},
		{"keys by name", metadata.VM{Name: "a"}, map[string]any{"public-keys": map[string]any{"me": "ssh-x A", "you": []any{"ssh-x B"}}}, `{"hostname": "a", "instance-id": "a", "local-hostname": "a", "public-keys": {"me": "ssh-x A", "you": ["ssh-x B"]}}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := maps.Clone(tc.metadata)
			docs, err := nocloud.Render(tc.vm, &metadata.Instance{MetaData: tc.metadata}, nocloud.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if string(docs.MetaData) != tc.want {
				t.Errorf("\ngot  %s\nwant %s", docs.MetaData, tc.want)
			}
			if len(before) != len(tc.metadata) {
				t.Error("the instance was changed")
			}
			if docs.UserData != nil || docs.VendorData != nil || docs.NetworkConfig != nil {
				t.Errorf("documents came from nothing: %+v", docs)
			}
		})
	}
}

func TestMetaDataProblems(t *testing.T) {
	for _, tc := range []struct {
		name     string
		metadata map[string]any
		want     string
	}{
		{"hostname", map[string]any{"hostname": "web_1"}, "metadata.hostname: is not a hostname: it takes letters, digits and -, up to 63 in a row between dots, and neither starts nor ends with - or a dot"},
		{"hostname of a wrong type", map[string]any{"hostname": int64(1)}, "metadata.hostname: must be text"},
		{"empty hostname", map[string]any{"hostname": ""}, "metadata.hostname: is empty: give it a value, or leave the key out"},
		{"instance-id with a slash", map[string]any{"instance-id": "a/b"}, "metadata.instance-id: must not contain a / nor be . or ..: cloud-init makes a directory of that name"},
		{"instance-id with a control character", map[string]any{"instance-id": "a\nb"}, "metadata.instance-id: contains a control character"},
		{"instance-id too long", map[string]any{"instance-id": strings.Repeat("a", 256)}, "metadata.instance-id: is longer than 255 bytes: cloud-init makes a directory of that name"},
		{"tags", map[string]any{"tags": "a"}, "metadata.tags: must be a list, or a mapping of names to values"},
		{"public keys", map[string]any{"public-keys": true}, "metadata.public-keys: must be a list of public keys, or names with a key or a list of keys each"},
		{"number for a key", map[string]any{"public-keys": []any{"ssh-x A", int64(1)}}, "metadata.public-keys.1: must be text: a public key as it stands in a .pub file"},
		{"empty key", map[string]any{"public-keys": map[string]any{"me": []any{" "}}}, "metadata.public-keys.me.0: is empty: remove it"},
		{"two keys in one", map[string]any{"public-keys": []any{"ssh-x A\nssh-x B\n"}}, "metadata.public-keys.0: must be one line: write each key as an item of its own"},
		{"private key", map[string]any{"public-keys": []any{"-----BEGIN OPENSSH PRIVATE KEY-----"}}, "metadata.public-keys.0: is a private key: only the public one (.pub) belongs here"},
		{"type", map[string]any{"x": struct{}{}}, "metadata: can't be written as JSON: a value of type struct {} can't be written as YAML"},
		{"not UTF-8", map[string]any{"x": "\xff"}, "metadata: can't be written as JSON: text that is not UTF-8 can't be written"},
		{"two problems", map[string]any{"region": int64(1), "hostname": "-"}, "metadata.region: must be text\nmetadata.hostname: is not a hostname: it takes letters, digits and -, up to 63 in a row between dots, and neither starts nor ends with - or a dot"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			docs, err := nocloud.Render(metadata.VM{Name: "a"}, &metadata.Instance{MetaData: tc.metadata}, nocloud.Options{})
			if err == nil {
				t.Fatalf("rendered as %s", docs.MetaData)
			}
			if err.Error() != tc.want {
				t.Errorf("\ngot  %s\nwant %s", err, tc.want)
			}
		})
	}
	for _, name := range []string{"", "..", " . "} {
		if docs, err := nocloud.Render(metadata.VM{Name: name}, &metadata.Instance{}, nocloud.Options{}); err == nil {
			t.Errorf("a VM with the name %q and no UUID got %s", name, docs.MetaData)
		}
	}
}

func TestPyYAMLReadsMetaData(t *testing.T) {
	values := map[string]any{"hostname": "h", "local-hostname": "h", "instance-id": "0644", "a": "yes", "b": "\u0085\x7f\u2028😀", "c": 1e21, "=": "=", "n": nil, "d": map[string]any{"12:30": []any{int64(1)}}}
	docs, err := nocloud.Render(metadata.VM{}, &metadata.Instance{MetaData: values}, nocloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := yaml11test.Load(t, [][]byte{docs.MetaData})[0], yaml11test.Describe(values); got != want {
		t.Errorf("PyYAML reads %s\nwant %s", got, want)
	}
}
