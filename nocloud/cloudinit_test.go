package nocloud_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"vmw-cloudinit-metadata/internal/testenv"
)

// TestCloudInitTakesPrefixes has the real cloud-init make files for networkd of what we pass on.
func TestCloudInitTakesPrefixes(t *testing.T) {
	const interfaces = "version: 1\nconfig: [{type: %s, name: %s, subnets: [{%s}]}]"
	cases := []struct{ kind, name, subnet, want string }{
		{"physical", "eth0", "type: static, address: 192.0.2.6, prefix: 20", "192.0.2.6/20"},
		{"physical", "eth0", "type: static, address: 192.0.2.6, prefix: '20'", "192.0.2.6/20"},
		{"physical", "eth0", "type: static, address: 192.0.2.6/20, prefix: 20", "192.0.2.6/20"},
		{"physical", "eth0", "type: static, address: 192.0.2.6, prefix: 20, netmask: 255.255.240.0", "192.0.2.6/20"},
		{"physical", "eth0", "type: static, address: 192.0.2.6/20, prefix: 20, netmask: 20", "192.0.2.6/20"},
		{"physical", "eth0", "type: static6, address: '2001:db8::4', prefix: 56", "2001:db8::4/56"},
		{"physical", "eth0", "type: static, address: '2001:db8::4', prefix: 56", "2001:db8::4/56"},
		{"loopback", "lo", "type: static, address: 127.0.0.2/8", "127.0.0.2/8"},
		{"loopback", "lo", "type: static, address: 127.0.0.2, prefix: 8", "127.0.0.2/8"},
		{"loopback", "lo", "type: static6, address: '::1/128'", "::1/128"},
		{"loopback", "lo", "type: static, address: 192.0.2.6/32", "192.0.2.6/32"},
	}
	var configs []string
	var want [][]string
	for _, c := range cases {
		config, err := render(t, fmt.Sprintf(interfaces, c.kind, c.name, c.subnet))
		if err != nil {
			t.Errorf("%s: %v", c.subnet, err)
			continue
		}
		configs, want = append(configs, config), append(want, []string{c.want})
	}
	input, err := json.Marshal(configs)
	if err != nil {
		t.Fatal(err)
	}
	for _, suite := range []string{"bookworm", "trixie"} {
		root := testenv.CloudInit(t, suite)
		python := testenv.Python(t, "yaml", "jinja2", "configobj", "requests", "jsonpatch", "netifaces")
		cmd := exec.CommandContext(t.Context(), python, filepath.Join("testdata", "network.py"), filepath.Join(root, "usr", "lib", "python3", "dist-packages"))
		cmd.Stdin = bytes.NewReader(input)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		var got [][]string
		if err != nil || json.Unmarshal(out, &got) != nil || len(got) != len(want) {
			t.Fatalf("%s: %v\n%s\n%s", suite, err, out, stderr.Bytes())
		}
		for i := range want {
			if !slices.Equal(got[i], want[i]) {
				t.Errorf("%s: %s\ngives %v, want %v", suite, configs[i], got[i], want[i])
			}
		}
	}
}
