package metadata

import "context"

// Lister is a Driver that knows all of its VMs.
type Lister interface {
	Driver
	// List returns for each VM that the driver has data for what Find needs to find it: its UUID or its name.
	List(ctx context.Context) ([]VM, error)
}
