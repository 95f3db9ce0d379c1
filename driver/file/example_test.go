package file_test

import (
	"context"
	"encoding/json"
	"fmt"

	"vmw-cloudinit-metadata/driver/file"
	"vmw-cloudinit-metadata/metadata"
)

func Example() {
	config, err := file.ParseConfig(json.RawMessage(`{"directory": "../../examples/metadata"}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	driver, err := file.New(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer driver.Close()
	inst, err := driver.Find(context.Background(), metadata.VM{Name: "web1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(inst.MetaData["instance-id"])
	// Output: my-instance
}
