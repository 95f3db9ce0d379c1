package vmfile_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/vmfile"
)

func example(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile("../examples/metadata/web1.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestParseExample(t *testing.T) {
	inst, err := vmfile.Parse("web1.yaml", example(t))
	if err != nil {
		t.Fatal(err)
	}
	want := &metadata.Instance{
		MetaData: map[string]any{
			"ami-id": "my-image", "instance-id": "my-instance", "region": "us-east1", "availability-zone": "us-east1-a",
			"tags": []any{"a", "b", "c"}, "public-keys": []any{"ssh...."}, "hostname": "myhostnamehere",
		},
		Network: map[string]any{
			"address": "192.168.1.1", "netmask": "255.255.255.0", "gateway": "192.168.1.254", "search": "example.com",
			"nameservers": []any{"8.8.8.8", "8.8.4.4"},
		},
		UserData: []byte("#cloud-config\ngrowpart:\n  mode: auto\n  devices: ['/']\n  ignore_growroot_disabled: false\n"),
	}
	if diff := cmp.Diff(withoutOrigin(want), withoutOrigin(inst)); diff != "" {
		t.Error(diff)
	}
	for path, want := range map[string]string{
		"": "web1.yaml:2:1", "metadata": "web1.yaml:2:1", "metadata.hostname": "web1.yaml:13:3", "metadata.nothing": "web1.yaml:2:1",
		"network.nameservers.1": "web1.yaml:21:7", "network.nameservers.1.2.3": "web1.yaml:21:7", "userdata": "web1.yaml:22:1", "vendordata": "web1.yaml:2:1",
	} {
		if got := inst.Origin.Locate(path); got != want {
			t.Errorf("%q is at %s, want %s", path, got, want)
		}
	}
}

func withoutOrigin(inst *metadata.Instance) metadata.Instance {
	bare := *inst
	bare.Origin = nil
	return bare
}

func TestSpellings(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       metadata.Instance
	}{
		{"older keys", "metadata: {ami_id: a, instance_id: i, availability_zone: z, public_keys: [k], local_hostname: h}",
			metadata.Instance{MetaData: map[string]any{"ami-id": "a", "instance-id": "i", "availability-zone": "z", "public-keys": []any{"k"}, "local-hostname": "h"}}},
		{"tags as a map", "metadata: {tags: {a: 1, b: no}}", metadata.Instance{MetaData: map[string]any{"tags": map[string]any{"a": "1", "b": "no"}}}},
		{"search as a list", "network: {search: [a, no], nameservers: 8.8.8.8}", metadata.Instance{Network: map[string]any{"search": []any{"a", "no"}, "nameservers": "8.8.8.8"}}},
		{"text that looks like something else", "metadata: {instance-id: 0123, ami-id: 99999999999999999999, hostname: 1:30, region: no, tags: [1.0, yes, 2001-01-01]}",
			metadata.Instance{MetaData: map[string]any{"instance-id": "0123", "ami-id": "99999999999999999999", "hostname": "1:30", "region": "no", "tags": []any{"1.0", "yes", "2001-01-01"}}}},
		{"MAC address of digits", "network: {mac-address: 12:34:56:12:34:56}", metadata.Instance{Network: map[string]any{"mac-address": "12:34:56:12:34:56"}}},
		{"MAC address in version 2", "network: {version: 2, ethernets: {a: {match: {macaddress: 12:34:56:12:34:56}, mtu: 0x5dc}}}",
			metadata.Instance{Network: map[string]any{"version": int64(2), "ethernets": map[string]any{"a": map[string]any{"match": map[string]any{"macaddress": "12:34:56:12:34:56"}, "mtu": int64(1500)}}}}},
		{"other keys", "metadata: {role: web, count: 0644, on: yes, \"hostnme\": x, a_b: 1.5, 1: one}",
			metadata.Instance{MetaData: map[string]any{"role": "web", "count": int64(420), "on": true, "hostnme": "x", "a_b": 1.5, "1": "one"}}},
		{"nothing", "metadata:\nnetwork: ~\nuserdata: null\nvendordata: ''\n", metadata.Instance{}},
		{"nulls", "metadata: {hostname: , tags: ~, own: ~}", metadata.Instance{MetaData: map[string]any{"own": nil}}},
		{"empty", "{}", metadata.Instance{}},
		{"keys in one text", "metadata:\n  public-keys: |\n    # me\n    ssh-x A\n\n    ssh-x B\n", metadata.Instance{MetaData: map[string]any{"public-keys": []any{"ssh-x A", "ssh-x B"}}}},
		{"merged", "metadata: &m {role: a}\nnetwork: {<<: *m, dhcp: true}", metadata.Instance{MetaData: map[string]any{"role": "a"}, Network: map[string]any{"role": "a", "dhcp": true}}},
		{"BOM and CR LF", "\ufeffmetadata:\r\n  role: a\r\nuserdata: |\r\n  #!/bin/sh\r\n  true\r\n", metadata.Instance{MetaData: map[string]any{"role": "a"}, UserData: []byte("#!/bin/sh\ntrue\n")}},
		{"JSON", `{"metadata": {"hostname": "\ud83d\ude00", "n": 1e3}, "userdata": "#!/bin/sh\n"}`, metadata.Instance{MetaData: map[string]any{"hostname": "😀", "n": 1000.0}, UserData: []byte("#!/bin/sh\n")}},

		{"blank lines", "userdata: |\n\n  \n  #cloud-config\n\n  a: b  \n\n\nvendordata: x", metadata.Instance{UserData: []byte("#cloud-config\n\na: b  \n"), VendorData: []byte("x")}},
		{"blank lines in quotes", `userdata: "\n \t\r\n  #!/bin/sh\r\ntrue\r\n \n"`, metadata.Instance{UserData: []byte("  #!/bin/sh\r\ntrue\r\n")}},
		{"blanks at the end of the last line", `userdata: "a  \n\n"`, metadata.Instance{UserData: []byte("a  \n")}},
		{"blanks without an end of the line", `userdata: "a  "`, metadata.Instance{UserData: []byte("a  ")}},
		{"nothing but blanks", `userdata: " \n\t\n "`, metadata.Instance{}},
		{"binary", "userdata: !!binary CgBmb28K\nvendordata: !!binary ''", metadata.Instance{UserData: []byte("\n\x00foo\n"), VendorData: []byte{}}},
		{"scalar", "userdata: 0644", metadata.Instance{UserData: []byte("0644")}},
		{"mapping", "userdata:\n  z: [1, yes]\n  write_files:\n  - path: /a\n    permissions: 0644\n    content: !!binary aGk=\n    when: 2001-01-01\n",
			metadata.Instance{UserData: []byte("#cloud-config\nz:\n- 1\n- true\nwrite_files:\n- path: /a\n  permissions: 420\n  content: !!binary \"aGk=\"\n  when: \"2001-01-01\"\n")}},
		{"empty mapping", "vendordata: {}", metadata.Instance{VendorData: []byte("#cloud-config\n{}\n")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inst, err := vmfile.Parse("f", []byte(tc.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, withoutOrigin(inst)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestProblems(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"misspelt key", "metadata: {}\nusrdata: |\n  #!/bin/sh\n", "f:2:1: usrdata: is not a key of this format: did you mean userdata?"},
		{"dashed key", "user-data: x", "f:1:1: user-data: is not a key of this format: did you mean userdata?"},
		{"unknown key", "foo: 1", "f:1:1: foo: is not a key of this format: known are metadata, network, userdata, vendordata"},
		{"slip under metadata", "metadata:\n  hostnme: a", "f:2:3: metadata.hostnme: did you mean hostname? If not, put the key in quotes"},
		{"both spellings", "metadata:\n  ami-id: a\n  ami_id: b", "f:3:3: metadata.ami_id: is there twice, as ami-id too: remove one"},
		{"key twice", "metadata: {}\nmetadata: {}", "f:2:1: metadata: is there twice, first on line 1: remove one"},
		{"empty", "", "f: is empty: {} is the file of a VM that gets nothing but defaults"},
		{"nothing but a comment", "# hello\n", "f: is empty: {} is the file of a VM that gets nothing but defaults"},
		{"nothing but a marker", "---\n", "f:2:1: is empty: {} is the file of a VM that gets nothing but defaults"},
		{"a list", "- a\n", "f:1:1: must be a mapping: keys with their values"},
		{"a text", "#cloud-config\nhello\n", "f:2:1: must be a mapping: keys with their values"},
		{"two documents", "metadata: {}\n---\nmetadata: {}\n", "f:2:1: a second YAML document starts here, where only one can be: if this line is meant as text, indent it; if not, remove it"},
		{"not UTF-8", "metadata: {a: \xe4}", "f:1:15: is not UTF-8 from here on: save it as UTF-8, and give binary data as !!binary"},
		{"too large", strings.Repeat("#", vmfile.MaxSize+1), "f: is larger than 4 MiB"},
		{"too deep", "metadata: {a: " + strings.Repeat("[", 70) + strings.Repeat("]", 70) + "}", "f:1:78: is not YAML: nested more than 64 levels deep (while increasing flow level)"},
		{"template without quotes", "metadata:\n  hostname: {{ .VM.Name }}\n", "f:2:14: metadata.hostname: a key must be text, not a list or a mapping: a text that starts with { or [ needs quotes around it"},
		{"start of a text without quotes", "metadata:\n  hostname: {{ .VM.Name }}.example.com\n", "f:2:27: is not YAML: did not find expected key (while parsing a block mapping): a text that starts with {{ needs quotes around all of it"},
		{"start of an item without quotes", "metadata:\n  tags:\n  - {{ .VM.Name }}x\n", "f:3:19: is not YAML: did not find expected key (while parsing a block mapping): a text that starts with {{ needs quotes around all of it"},
		{"template in quotes beside a mistake", "metadata:\n  tags: ['{{ .VM.Name }}', \n", "f:3:1: is not YAML: did not find expected node content (while parsing a flow node)"},
		{"metadata is a list", "metadata: [a]", "f:1:11: metadata: must be a mapping: keys with their values"},
		{"network is a text", "network: dhcp", "f:1:10: network: must be a mapping: keys with their values"},
		{"user-data is a list", "userdata: [a]", "f:1:11: userdata: must be text, a mapping (which becomes #cloud-config) or !!binary, not a list"},
		{"binary metadata", "metadata: {a: !!binary aGk=}", "f:1:15: metadata.a: is !!binary, which fits only userdata and vendordata: write text"},
		{"infinite", "metadata: {a: .inf}", "f:1:15: metadata.a: is not a finite number: put it in quotes if it is text"},
		{"all of them", "metadta: {}\nnetwork: 1\nuserdata: !x y\nvendordata: {a: !!int b}\nmetadata:\n  tag: a\n",
			"f:1:1: metadta: is not a key of this format: did you mean metadata?\nf:2:10: network: must be a mapping: keys with their values\n" +
				"f:3:11: userdata: has a tag that is not understood: put the value in quotes if the ! is part of it\nf:4:17: vendordata.a: is not what its tag says\n" +
				"f:6:3: metadata.tag: did you mean tags? If not, put the key in quotes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inst, err := vmfile.Parse("f", []byte(tc.text))
			if err == nil {
				t.Fatalf("it was taken: %+v", inst)
			}
			if err.Error() != tc.want || !errors.Is(err, metadata.ErrInvalid) {
				t.Errorf("\ngot  %s\nwant %s", err, tc.want)
			}
		})
	}
}

func TestLongListOfProblemsIsCut(t *testing.T) {
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "key%d: 1\n", i)
	}
	_, err := vmfile.Parse("f", []byte(text.String()))
	if lines := strings.Count(fmt.Sprint(err), "\n") + 1; lines != 20 {
		t.Errorf("%d problems reported, want 20", lines)
	}
}

// TestErrorsShowNoContent damages a file with a secret at each of its bytes.
func TestErrorsShowNoContent(t *testing.T) {
	const secret = "hunter2hunter2"
	text := "metadata:\n  password: '" + secret + "'\n  hostname: " + secret + "\nnetwork:\n  address: " + secret + "\nuserdata: |\n  #cloud-config\n  password: " + secret + "\n"
	for i := range text {
		if strings.HasPrefix(text[i:], "\n") {
			continue // what follows becomes a part of a key
		}
		for _, damage := range []string{"*", "&", "!", "!!", "%", "@", "`", "'", "\"", "{", "[", "]", "}", ": ", "- ", "\n", "\t", "\x00", "\xff", "|", ">", "? ", ",", "<<: ", "---\n", "\n  "} {
			_, err := vmfile.Parse("f", []byte(text[:i]+damage+text[i:]))
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Fatalf("with %q at %d: %v", damage, i, err)
			}
		}
	}
}

func TestAppendReadsBack(t *testing.T) {
	for _, inst := range []*metadata.Instance{
		{},
		{MetaData: map[string]any{}, Network: map[string]any{}, UserData: []byte{}},
		{MetaData: map[string]any{"hostname": "0123", "hostnme": "x", "f": 1e21, "u": uint64(1) << 63}, UserData: []byte("\n#!/bin/sh\n"), VendorData: []byte{0, 0xff}},
		{Network: map[string]any{"version": int64(2)}, UserData: []byte("#cloud-config\n")},
	} {
		text, err := vmfile.Append(nil, inst)
		if err != nil {
			t.Fatal(err)
		}
		back, err := vmfile.Parse("f", text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if diff := cmp.Diff(withoutOrigin(inst), withoutOrigin(back)); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	if text, err := vmfile.Append([]byte("x"), &metadata.Instance{MetaData: map[string]any{"a": struct{}{}}}); err == nil || string(text) != "x" {
		t.Errorf("Append takes what is no value: %s, %v", text, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(example(f))
	for _, text := range []string{
		"metadata: {ami_id: a, tags: {a: 1}, public-keys: \"a\\nb\\n\"}\nuserdata: {a: [1, .nan, !!binary aGk=]}\nvendordata: !!binary AAA=\n",
		`{"metadata": {"hostnme": 1e3}, "network": {"version": 2, "<<": {}}, "userdata": "\n a\r\n\n"}`,
		"metadata: &a {b: &b [*c]}\nnetwork: {<<: [*a, *a]}\n", "userdata: |\n\n  a\n\n\n", "\ufeff---\n{}\n...\n",
	} {
		f.Add([]byte(text))
	}
	f.Add([]byte("userdata: |\n" + strings.Repeat("  # a text of some size\n", 50)))
	another := []byte("userdata: |\n" + strings.Repeat("  # another VM's text\n", 100))
	f.Fuzz(func(t *testing.T, given []byte) {
		data := bytes.Clone(given)
		var parser vmfile.Parser
		inst, err := parser.Parse("f", data)
		for i := range data { // as a caller does who uses the buffer again: for another VM
			data[i] = '#'
		}
		if _, err := parser.Parse("g", another); err != nil {
			t.Fatal(err)
		}
		if err != nil {
			if !errors.Is(err, metadata.ErrInvalid) {
				t.Fatalf("is not ErrInvalid: %v", err)
			}
			return
		}
		if _, err := json.Marshal([]any{inst.MetaData, inst.Network}); err != nil {
			t.Fatalf("is not fit for JSON: %v", err)
		}
		text, err := vmfile.Append(nil, inst)
		if err != nil {
			t.Fatalf("can't be printed: %v", err)
		}
		back, err := vmfile.Parse("f", text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if diff := cmp.Diff(withoutOrigin(inst), withoutOrigin(back)); diff != "" {
			t.Fatalf("%q: %s", text, diff)
		}
		again, err := vmfile.Parse("f", given)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(inst, again, cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
			t.Fatalf("the instance changes with the bytes that it was read from: %s", diff)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	data := example(b)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := vmfile.Parse("web1.yaml", data); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleParse() {
	inst, err := vmfile.Parse("web1.yaml", []byte("metadata:\n  hostname: web1\n  role: frontend\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(inst.MetaData["hostname"], "at", inst.Origin.Locate("metadata.hostname"))

	_, err = vmfile.Parse("web2.yaml", []byte("metadata:\n  hostname: web2\nusrdata: hello\n"))
	fmt.Println(err)
	// Output:
	// web1 at web1.yaml:2:3
	// web2.yaml:3:1: usrdata: is not a key of this format: did you mean userdata?
}

func TestLocateLine(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"literal", "userdata: |\n  #cloud-config\n  a: b\n", "f:3:6"},
		{"literal, blank lines first", "userdata: |\n\n\n    #cloud-config\n    a: b\n", "f:5:8"},
		{"literal with indentation given", "userdata: |2\n   # first\n  a: b\n", "f:3:6"},
		{"literal, stripped, with a comment", "userdata: |- # text\n  #cloud-config\n  a: b", "f:3:6"},
		{"literal with a tag and an anchor", "userdata: !!str &a |\n  #cloud-config\n  a: b\n", "f:3:6"},
		{"literal below its anchor", "userdata: &a\n\n  |\n  #cloud-config\n  a: b\n", "f:5:6"},
		{"literal below its tag", "metadata: {}\nuserdata: !!str\n  |\n  #cloud-config\n  a: b\n", "f:5:6"},
		{"literal behind CR LF", "userdata: |\r\n  #cloud-config\r\n  a: b\r\n", "f:3:6"},
		{"folded", "userdata: >\n  #cloud-config\n  a: b\n", ""},
		{"in quotes", "userdata: \"#cloud-config\\na: b\\n\"\n", ""},
		{"a mapping", "userdata:\n  a: b\n", ""},
	} {
		inst, err := vmfile.Parse("f", []byte(c.file))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := inst.Origin.(metadata.LineOrigin).LocateLine("userdata", 2, 4); got != c.want {
			t.Errorf("%s: line 2, column 4 of the text is at %q, want %q", c.name, got, c.want)
		}
	}
}
