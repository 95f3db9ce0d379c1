// Package layer makes one driver of several: a site's defaults, a role's data, a VM's own.
//
// All layers are asked. Of those that have something, the later goes over the earlier: mappings are merged, anything else
// is replaced, lists too. A network that is of another form or version than the one below replaces it whole. User-data and
// vendor-data of several layers become the parts of one MIME message, in the layers' order, which cloud-init merges
// by its own rules.
package layer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"

	"vmw-cloudinit-metadata/metadata"
)

// Layer is one driver of several.
type Layer struct {
	Driver metadata.Driver
	// Required makes a VM that this layer does not know one that nobody knows. If no layer is required, a VM is known
	// if one of them knows it.
	Required bool
}

// Previewer is what a Layer's Driver can be as well, if it makes data of a VM's identity.
type Previewer interface {
	// Preview is Find for the VM of an entry in a list, which may tell little of its identity: what is not known has a
	// stand-in where data is made of it, and leads to none.
	Preview(ctx context.Context, vm metadata.VM) (*metadata.Instance, error)
}

// Driver is the driver that Layers make.
type Driver struct{ layers []Layer }

var _ interface {
	metadata.Driver
	metadata.Lister
	Previewer
} = (*Driver)(nil)

// New returns the driver made of layers, the later over the earlier.
func New(layers ...Layer) *Driver { return &Driver{append([]Layer(nil), layers...)} }

// Find asks all layers at once. An error of one but ErrNotFound fails the whole: half of a VM's data is worse than none.
func (d *Driver) Find(ctx context.Context, vm metadata.VM) (*metadata.Instance, error) {
	return d.ask(ctx, vm, metadata.Driver.Find)
}

// Preview implements Previewer. Layers that are none are asked by Find.
func (d *Driver) Preview(ctx context.Context, vm metadata.VM) (*metadata.Instance, error) {
	return d.ask(ctx, vm, func(driver metadata.Driver, ctx context.Context, vm metadata.VM) (*metadata.Instance, error) {
		if previewer, ok := driver.(Previewer); ok {
			return previewer.Preview(ctx, vm)
		}
		return driver.Find(ctx, vm)
	})
}

// question is metadata.Driver.Find, or like it.
type question func(driver metadata.Driver, ctx context.Context, vm metadata.VM) (*metadata.Instance, error)

func (d *Driver) ask(ctx context.Context, vm metadata.VM, find question) (*metadata.Instance, error) {
	type result struct {
		index    int
		instance *metadata.Instance
		err      error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result, len(d.layers))
	for i, layer := range d.layers {
		go func() {
			instance, err := layer.find(ctx, vm, find)
			results <- result{i, instance, err}
		}()
	}
	found := make([]*metadata.Instance, len(d.layers))
	var missing error
	for range d.layers {
		select {
		case r := <-results:
			switch {
			case r.err == nil:
				found[r.index] = r.instance
			case !errors.Is(r.err, metadata.ErrNotFound):
				return nil, r.err
			case d.layers[r.index].Required || missing == nil:
				missing = r.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	var instances []*metadata.Instance
	for i, instance := range found {
		if instance != nil {
			instances = append(instances, instance)
		} else if d.layers[i].Required {
			return nil, missing
		}
	}
	if len(instances) == 0 {
		if missing == nil {
			missing = metadata.ErrNotFound
		}
		return nil, missing
	}
	return Merge(instances...)
}

func (l *Layer) find(ctx context.Context, vm metadata.VM, find question) (instance *metadata.Instance, err error) {
	defer metadata.CatchPanic(&err)
	instance, err = find(l.Driver, ctx, vm)
	if instance == nil && err == nil {
		err = errors.New("a layer's driver gave neither data nor an error, which is a bug in it")
	}
	return instance, err
}

// All yields each VM that a layer can name, with the data that Preview has for it. VMs of layers that can name none are
// not among them, nor what a layer has for VMs that it does not name, which may be half of their data.
func (d *Driver) All(ctx context.Context) iter.Seq2[metadata.Entry, error] {
	return func(yield func(metadata.Entry, error) bool) {
		seen := map[metadata.VM]bool{}
		for _, layer := range d.layers {
			lister, ok := layer.Driver.(metadata.Lister)
			if !ok {
				continue
			}
			for entry, err := range lister.All(ctx) {
				if err == nil && (seen[entry.VM] || entry.VM == metadata.VM{}) {
					continue
				}
				if err == nil {
					seen[entry.VM] = true
					entry.Instance, err = d.Preview(ctx, entry.VM)
				}
				if errors.Is(err, metadata.ErrNotFound) && entry.Key != "" { // for want of a required layer
					continue
				}
				if !yield(entry, err) || err != nil && entry.Key == "" {
					return
				}
			}
		}
	}
}

// Merge returns one instance of several, the later over the earlier. The given ones stay as they are, and parts of
// them are in the result. It fails if user-data that should become a part of a message is no valid gzip.
func Merge(instances ...*metadata.Instance) (*metadata.Instance, error) {
	if len(instances) == 1 {
		return instances[0], nil
	}
	merged := &metadata.Instance{}
	from := &origin{}
	var users, vendors []part
	for _, instance := range instances {
		merged.MetaData = mergeMaps(merged.MetaData, instance.MetaData)
		from.add("metadata", instance.MetaData, instance.Origin)
		network, networkOrigin := likeBelow(merged.Network, instance)
		if network != nil && form(merged.Network) != form(network) {
			merged.Network = nil
			from.drop("network")
		}
		merged.Network = mergeMaps(merged.Network, network)
		from.add("network", network, networkOrigin)
		if instance.UserData != nil {
			users = append(users, part{"userdata", instance.UserData, instance.Origin})
		}
		if instance.VendorData != nil {
			vendors = append(vendors, part{"vendordata", instance.VendorData, instance.Origin})
		}
		from.whole(instance.Origin)
	}
	var userErr, vendorErr error
	merged.UserData, userErr = combine(users, from)
	merged.VendorData, vendorErr = combine(vendors, from)
	if err := errors.Join(userErr, vendorErr); err != nil {
		return nil, err
	}
	merged.Origin = from
	return merged, nil
}

// likeBelow returns the instance's network with the key "network" around it if the one below has that, or without it, if both are of one
// version.
func likeBelow(below map[string]any, instance *metadata.Instance) (map[string]any, metadata.Origin) {
	const around = "network"
	network := instance.Network
	inner, _ := network[around].(map[string]any)
	switch {
	case network["version"] != nil && form(below) == around+" of "+form(network):
		return map[string]any{around: network}, moved{instance.Origin, "network.network", "network"}
	case inner["version"] != nil && form(network) == around+" of "+form(below):
		return inner, moved{instance.Origin, "network", "network.network"}
	}
	return network, instance.Origin
}

// form tells the forms of a network apart: the flat one, versions 1, 2 and whatever else there is, and those with the key
// "network" around them.
func form(network map[string]any) string {
	if inner, ok := network["network"].(map[string]any); ok && len(network) == 1 {
		return "network of " + form(inner)
	}
	return fmt.Sprint(network["version"]) // a driver may have it in any type of number, or in none
}

// mergeMaps returns upper over lower. Nil is returned for two nils only.
func mergeMaps(lower, upper map[string]any) map[string]any {
	if lower == nil {
		return upper
	}
	if upper == nil {
		return lower
	}
	merged := maps.Clone(lower)
	for key, value := range upper {
		below, isMap := merged[key].(map[string]any)
		if over, both := value.(map[string]any); both && isMap {
			value = mergeMaps(below, over)
		}
		merged[key] = value
	}
	return merged
}
