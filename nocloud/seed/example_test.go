package seed_test

import (
	"fmt"
	"os"
	"path/filepath"

	"vmw-cloudinit-metadata/nocloud/seed"
)

func ExampleWrite() {
	root, err := os.MkdirTemp("", "seed")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(root)
	dir := filepath.Join(root, "nocloud")
	files := map[string][]byte{
		seed.MetaData: []byte(`{"instance-id":"i-1"}`),
		seed.UserData: []byte("#cloud-config\n"),
	}
	for range 2 {
		changed, err := seed.Write(dir, files)
		fmt.Println(changed, err, seed.Complete(dir))
	}
	// Output:
	// true <nil> true
	// false <nil> true
}
