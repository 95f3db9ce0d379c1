package postgres_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"vmw-cloudinit-metadata/driver/postgres"
	"vmw-cloudinit-metadata/metadata"
)

// testDocumentation runs the documentation's schema and options.
func testDocumentation(t *testing.T, s *server) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "drivers", "postgres.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := func(language string) string {
		found := regexp.MustCompile("(?s)```" + language + "\n(.*?)```").FindSubmatch(text)
		if found == nil {
			t.Fatalf("the documentation has no example in %s", language)
		}
		return string(found[1])
	}
	s.exec(t, block("sql"))
	config, err := postgres.ParseConfig([]byte(block("json")))
	if err != nil {
		t.Fatal(err)
	}
	config.DSN = s.dsn()
	d := open(t, config)
	instance, err := d.Find(t.Context(), metadata.VM{Name: "web1", UUID: uuid1})
	if err != nil || instance.MetaData["hostname"] != "web1" || instance.Network["gateway"] != "192.168.1.254" || string(instance.UserData) != "#cloud-config\npackages: [nginx]\n" {
		t.Errorf("got %+v, %v", instance, err)
	}
	s.exec(t, "INSERT INTO vms (uuid, userdata) VALUES ($1, 'by uuid')", uuid1)
	if instance, err := d.Find(t.Context(), metadata.VM{Name: "web1", UUID: uuid1}); err != nil || string(instance.UserData) != "by uuid" {
		t.Errorf("the UUID's row: %+v, %v", instance, err)
	}
	entries := 0
	for _, err := range d.All(t.Context()) {
		if entries++; err != nil {
			t.Error(err)
		}
	}
	if entries != 2 {
		t.Errorf("%d entries, want 2", entries)
	}
}
