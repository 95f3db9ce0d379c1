// Package nocloud renders a VM's data into the documents that cloud-init's NoCloud datasource reads: meta-data,
// user-data, vendor-data and network-config.
//
// What cloud-init needs and the data lacks is derived from the VM: its instance-id and its hostname. The data is
// checked as a whole, because cloud-init itself takes an impossible address without a word and leaves the VM
// without a network. All that is written here reads back the same in PyYAML, which is what cloud-init has.
package nocloud

import (
	"errors"
	"fmt"

	"vmw-cloudinit-metadata/metadata"
)

// maxFindings is how many findings are worth a person's reading at once.
const maxFindings = 20

// usualSize is what most meta-data and network-configs fit in, in bytes.
const usualSize = 512

// Documents are the files of a NoCloud seed. Nil means that the VM has no such document; meta-data is always there.
// UserData and VendorData are the Instance's own and must not be changed.
type Documents struct {
	// MetaData is JSON, which is YAML too.
	MetaData []byte
	// UserData and VendorData are as the driver gave them.
	UserData, VendorData []byte
	// NetworkConfig is a network-config of version 1 or 2 in YAML, without the key "network" around it.
	NetworkConfig []byte
}

// Options are what is known beyond the VM's identity and its data. The zero value is ready.
type Options struct {
	// NICs are the network cards that the guest says it has, in its kernel's order. They are taken for hints: what
	// is no MAC address is passed over. From them comes the MAC address that a flat network lacks, without
	// which cloud-init configures no card but one that already has the right name.
	NICs []NIC
}

// NIC is one network card of the guest.
type NIC struct {
	Name, MAC string
}

// Render returns the documents for vm. Equal arguments give equal bytes. An error joins a *metadata.DataError for
// each thing wrong with the data (the first twenty), in no case showing more of it than keys and addresses.
func Render(vm metadata.VM, inst *metadata.Instance, opts Options) (*Documents, error) {
	if inst == nil {
		return nil, errors.New("nocloud: there is no instance to render")
	}
	found := findings{origin: inst.Origin}
	docs := &Documents{
		MetaData:      renderMetaData(&found, vm, inst.MetaData),
		UserData:      inst.UserData,
		VendorData:    inst.VendorData,
		NetworkConfig: renderNetwork(&found, inst.Network, opts.NICs),
	}
	if err := errors.Join(found.errs...); err != nil {
		return nil, err
	}
	return docs, nil
}

// Doubts returns a *metadata.DataError for each thing in an instance's network that Render takes, because it does no harm on some
// systems or newer ones may know it, and that has no effect on others, or makes them give up the whole network (the first twenty). There
// are none of an instance that Render refuses for its network.
func Doubts(inst *metadata.Instance) []error {
	found := findings{origin: inst.Origin, doubting: true}
	renderNetwork(&found, inst.Network, nil)
	if len(found.errs) > 0 {
		return nil
	}
	return found.doubts
}

// findings collects what is wrong.
type findings struct {
	origin metadata.Origin
	errs   []error
	// doubting says that doubts are collected too: what may be wrong.
	doubting bool
	doubts   []error
}

func (f *findings) add(path, format string, args ...any) {
	f.errs = f.with(f.errs, path, format, args...)
}

func (f *findings) doubt(path, format string, args ...any) {
	if f.doubting {
		f.doubts = f.with(f.doubts, path, format, args...)
	}
}

func (f *findings) with(errs []error, path, format string, args ...any) []error {
	if len(errs) >= maxFindings {
		return errs
	}
	e := &metadata.DataError{Path: path, Problem: fmt.Sprintf(format, args...)}
	if f.origin != nil {
		e.Origin = f.origin.Locate(path)
	}
	return append(errs, e)
}
