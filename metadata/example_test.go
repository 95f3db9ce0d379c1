package metadata_test

import (
	"context"
	"fmt"

	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/nocloud"
)

// inventory is a driver: the addresses of virtual machines by their names.
type inventory map[string]string

func (inv inventory) Find(ctx context.Context, vm metadata.VM) (*metadata.Instance, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	address, known := inv[vm.Name]
	if !known {
		return nil, metadata.ErrNotFound
	}
	return &metadata.Instance{
		MetaData: map[string]any{"role": "web"},
		Network:  map[string]any{"address": address, "gateway": "192.0.2.1"},
		UserData: []byte("#cloud-config\npackages: [nginx]\n"),
	}, nil
}

func ExampleDriver() {
	var driver metadata.Driver = inventory{"web1": "192.0.2.11/24"}
	for _, vm := range []metadata.VM{{Name: "web1"}, {Name: "web2"}} {
		instance, err := driver.Find(context.Background(), vm)
		if err != nil {
			fmt.Printf("%v: %v\n", vm, err)
			continue
		}
		documents, err := nocloud.Render(vm, instance, nocloud.Options{})
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Printf("%v:\n%s\n%s", vm, documents.MetaData, documents.NetworkConfig)
	}
	// Output:
	// "web1":
	// {"hostname": "web1", "instance-id": "web1", "local-hostname": "web1", "role": "web"}
	// version: 1
	// config:
	// - type: physical
	//   name: eth0
	//   subnets:
	//   - type: static
	//     address: 192.0.2.11/24
	//     gateway: 192.0.2.1
	// "web2": no data for this VM
}
