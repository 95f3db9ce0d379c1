package layer_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"vmw-cloudinit-metadata/internal/testenv"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/metadata/layer"
)

// reading is what cloud-init makes of user-data.
type reading struct {
	Parts []struct {
		Type string
		Data []byte
	}
	Plain  [][]byte
	Config map[string]any
}

func read(t *testing.T, suite string, userData []byte) reading {
	t.Helper()
	root := testenv.CloudInit(t, suite)
	python := testenv.Python(t, "yaml", "jinja2", "configobj", "requests", "jsonpatch", "netifaces")
	cmd := exec.CommandContext(t.Context(), python, filepath.Join("testdata", "userdata.py"), filepath.Join(root, "usr", "lib", "python3", "dist-packages"))
	cmd.Stdin = bytes.NewReader(userData)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	var r reading
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func compress(t *testing.T, data string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(data)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func merge(t *testing.T, userData ...[]byte) []byte {
	t.Helper()
	var instances []*metadata.Instance
	for _, data := range userData {
		instances = append(instances, &metadata.Instance{UserData: data})
	}
	merged, err := layer.Merge(instances...)
	if err != nil {
		t.Fatal(err)
	}
	return merged.UserData
}

// The real cloud-init reads back each layer's user-data to the byte, and knows what it is.
func TestCloudInitReadsParts(t *testing.T) {
	awkward := []struct{ kind, data string }{
		{"text/cloud-config", "#cloud-config\npackages: [a]\n"},
		{"text/cloud-config", "#cloud-config\nno: end of line"},
		{"text/cloud-config", "#cloud-config\nname: Größe\n"},
		{"text/cloud-config", "#cloud-config\nblank: lines\n\n\n"},
		{"text/cloud-config", "#cloud-config\n" + "long: " + strings.Repeat("x", 3000) + "\n"},
		{"text/cloud-config", "#cloud-config\nruncmd:\n- |\n  --layers-x\n"},
		{"text/x-shellscript", "#!/bin/sh\r\necho windows\r\n"},
		{"text/x-shellscript", "#!/bin/sh\nFrom here\n--layers-0\nFrom: me\n.\n"},
		{"text/x-shellscript", "#!/bin/sh\nprintf '\x01\x0b\x0c\x1c\x1d\x1e\x7f'\n"},
		{"text/x-shellscript", "#!/bin/sh\n# \xc2\x85 \xe2\x80\xa8 \xff\xfe binary\n"},
		{"text/cloud-boothook", "#cloud-boothook\n#!/bin/sh\n"},
		{"text/jinja2", "## template: jinja\n#cloud-config\nhostname: {{ v1.region }}\n"},
		{"text/cloud-config", "#cloud-config\nfinal_message: |\n  MIME-Version: 1.0\n  Größe\n"},
		{"text/x-shellscript", "#!/bin/sh\n# MIME-Version: 1.0\r\n"},
		{"text/plain", "of no kind that is known\n"},
	}
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			var layers [][]byte
			for _, a := range awkward {
				layers = append(layers, []byte(a.data))
			}
			got := read(t, suite, merge(t, layers...))
			if len(got.Parts) != len(awkward) || len(got.Plain) != len(awkward) {
				t.Fatalf("%d parts, and %d to Python's email, want %d", len(got.Parts), len(got.Plain), len(awkward))
			}
			for i, a := range awkward {
				if got.Parts[i].Type != a.kind || string(got.Parts[i].Data) != a.data || string(got.Plain[i]) != a.data {
					t.Errorf("part %d is %s %q to cloud-init, %q to Python's email, want %s %q", i, got.Parts[i].Type, got.Parts[i].Data, got.Plain[i], a.kind, a.data)
				}
			}
		})
	}
}

func TestCloudInitReadsMessagesInLayers(t *testing.T) {
	message := "Content-Type: multipart/mixed; boundary=\"==b==\"\nMIME-Version: 1.0\n\n--==b==\nContent-Type: text/x-shellscript\nMIME-Version: 1.0\n\n#!/bin/sh\ninner\n--==b==\nContent-Type: text/cloud-config\n\n#cloud-config\na: {inner: 1}\n--==b==--\n"
	layers := [][]byte{
		[]byte("#cloud-config\na: {site: 1}\nkeep: me\n"),
		[]byte("From nobody Mon Jan  1 00:00:00 2024\n" + message),
		compress(t, "#cloud-config\nzip: yes\n"),
		compress(t, message),
		merge(t, []byte("#cloud-config\nnested: 1\n"), []byte("#!/bin/sh\nnested\n")),
		[]byte("Content-Type: text/cloud-config\nMIME-Version: 1.0\n\n#cloud-config\nalone: 1\n"),
		[]byte("#cloud-config\na: {vm: 1}\n"),
	}
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			got := read(t, suite, merge(t, layers...))
			want := map[string]any{"a": map[string]any{"vm": 1.0}, "keep": "me", "zip": true, "nested": 1.0, "alone": 1.0}
			if !reflect.DeepEqual(got.Config, want) {
				t.Errorf("cloud-init merges them to %v, want %v: the later layer's keys", got.Config, want)
			}
			var scripts []string
			for _, part := range got.Parts {
				if part.Type == "text/x-shellscript" {
					scripts = append(scripts, strings.TrimSpace(string(part.Data)))
				}
			}
			if want := []string{"#!/bin/sh\ninner", "#!/bin/sh\ninner", "#!/bin/sh\nnested"}; !reflect.DeepEqual(scripts, want) {
				t.Errorf("scripts are %q, want %q", scripts, want)
			}
		})
	}
}

// A layer can say how it is merged, by cloud-init's own means.
func TestCloudInitMergeHow(t *testing.T) {
	site := []byte("#cloud-config\npackages: [site]\n")
	vm := []byte("#cloud-config\npackages: [vm]\nmerge_how:\n- name: list\n  settings: [append]\n- name: dict\n  settings: [no_replace, recurse_list]\n")
	got := read(t, "bookworm", merge(t, site, vm))
	if want := []any{"site", "vm"}; !reflect.DeepEqual(got.Config["packages"], want) {
		t.Errorf("packages are %v, want %v", got.Config["packages"], want)
	}
}
