package nocloud_test

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"vmw-cloudinit-metadata/driver/file"
	"vmw-cloudinit-metadata/internal/yaml11/yaml11test"
	"vmw-cloudinit-metadata/nocloud"
)

// TestExamples renders the data of each VM in the example directory, and has PyYAML read it.
func TestExamples(t *testing.T) {
	driver, err := file.New(file.Config{Directory: "../examples/metadata"})
	if err != nil {
		t.Fatal(err)
	}
	defer driver.Close()
	var written [][]byte
	n := 0
	for entry, err := range driver.All(t.Context()) {
		if err != nil {
			t.Errorf("%s: %v", entry.Key, err)
			continue
		}
		docs, err := nocloud.Render(entry.VM, entry.Instance, nocloud.Options{})
		if err != nil {
			t.Errorf("%s: %v", entry.Key, err)
			continue
		}
		written = append(written, docs.MetaData, docs.NetworkConfig)
		if bytes.HasPrefix(docs.UserData, []byte("#cloud-config\n")) {
			written = append(written, docs.UserData)
		}
		n++
	}
	files, err := filepath.Glob("../examples/metadata/*.yaml")
	if err != nil || n != len(files) || n == 0 {
		t.Errorf("%d of %d files rendered (%v)", n, len(files), err)
	}
	for i, value := range yaml11test.Load(t, written) {
		if !strings.HasPrefix(value, "{") {
			t.Errorf("PyYAML reads %s in\n%s", value, written[i])
		}
	}
}
