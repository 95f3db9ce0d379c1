package etcd_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"vmw-cloudinit-metadata/driver/etcd"
	"vmw-cloudinit-metadata/metadata"
)

// testDocumentation does what the documentation's example does, with its options but for the endpoints.
func testDocumentation(t *testing.T, c *cluster) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "drivers", "etcd.md"))
	if err != nil {
		t.Fatal(err)
	}
	options := regexp.MustCompile("(?s)```json\n(.*?)```").FindSubmatch(text)
	puts := regexp.MustCompile(`(?m)^etcdctl put (\S+) <(\S+)$`).FindAllSubmatch(text, -1)
	if options == nil || len(puts) != 2 {
		t.Fatal("the documentation has no examples")
	}
	config, err := etcd.ParseConfig(options[1])
	if err != nil {
		t.Fatal(err)
	}
	config.Endpoints, config.CAFile = c.endpoints, ""
	for _, put := range puts {
		c.put(t, string(put[1]), "userdata: "+string(put[2]))
	}
	d := open(t, config)
	for want, vm := range map[string]metadata.VM{"web1.yaml": {UUID: uuid1, Name: "web2"}, "web2.yaml": {Name: "web2"}} {
		if got := userData(t, d, vm); got != want {
			t.Errorf("%s: got %s, want %s", vm, got, want)
		}
	}
	if !strings.Contains(string(text), etcd.DefaultPrefix) {
		t.Errorf("the documentation does not name the prefix %s", etcd.DefaultPrefix)
	}
}
