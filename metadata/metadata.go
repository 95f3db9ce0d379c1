// Package metadata says what a virtual machine is to this project, what data it can be given, and how a driver
// finds the one for the other.
//
// Whoever has an inventory of virtual machines in a form of his own implements [Driver], one method, and hands it
// to a server; metadatatest holds the contract's tests, for his driver too.
package metadata

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"vmw-cloudinit-metadata/internal/uuid"
)

// VM is the identity of a virtual machine as its ESXi host asserts it. A guest can change none of it; a vSphere
// user with the right to rename or reconfigure the VM can. The zero value of a field means "not known".
type VM struct {
	// Name is the display name, as the host sent it: any text at all, unique only within a folder of the inventory.
	Name string
	// UUID is the VC UUID (vc.uuid, the API's config.instanceUuid), which vCenter keeps unique. It is the identity
	// to prefer. This and the other UUIDs are 8-4-4-4-12, lower case.
	UUID string
	// BIOSUUID is uuid.bios, the API's config.uuid. Copies of a VM may share it.
	BIOSUUID string
	// LocationUUID is uuid.location. It changes when a VM is moved or copied.
	LocationUUID string
}

// String names the VM for logs and errors; what is in its fields can't break the line.
func (vm VM) String() string {
	switch {
	case vm.Name != "" && vm.UUID != "":
		return fmt.Sprintf("%q (%s)", vm.Name, inLine(vm.UUID))
	case vm.Name != "":
		return fmt.Sprintf("%q", vm.Name)
	case vm.UUID != "":
		return inLine(vm.UUID)
	case vm.BIOSUUID != "":
		return "BIOS UUID " + inLine(vm.BIOSUUID)
	}
	return "unidentified VM"
}

// inLine returns text as it is, or in quotes if it would break the line.
func inLine(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

// ParseUUID returns a UUID as VM has it, from any spelling that vSphere uses; false if text is none.
func ParseUUID(text string) (string, bool) { return uuid.Parse(text) }

// Instance is the data of one VM, as a driver found it: not yet checked as a whole, nor rendered. It is shared
// between requests and must not be changed once a driver returned it.
type Instance struct {
	// MetaData holds cloud-init's keys in their usual spelling ("instance-id", "public-keys") beside any others,
	// which templates in user-data may use. Values are nil, bool, int, int64, uint64, float64, string,
	// []any and map[string]any, as deep as it takes. Nothing is required: what cloud-init needs has a default from the VM.
	MetaData map[string]any
	// Network is the flat form of one NIC, or a network-config of version 1 or 2 (it has the key "version"), of
	// values as in MetaData. Nil means that the VM gets no network-config.
	Network map[string]any
	// UserData and VendorData go to cloud-init byte for byte. Nil means that there is none.
	UserData, VendorData []byte
	// Origin finds the place in the source that a value came from, for error messages. It may be nil.
	Origin Origin
}

// keys are sorted.
var keys = []string{"ami-id", "availability-zone", "hostname", "instance-id", "local-hostname", "public-keys", "region", "tags"}

// Keys returns the keys of an Instance's MetaData that mean something to cloud-init's NoCloud datasource or to this
// project, in their usual spelling. A null for one of them is as if it was not there; all other keys pass through.
func Keys() []string { return slices.Clone(keys) }

// IsKey reports whether key is one of Keys.
func IsKey(key string) bool { return slices.Contains(keys, key) }

// Origin is the map from an Instance's values back to their source.
type Origin interface {
	// Locate returns the place ("web1.yaml:12:5") of the value at path, or of its nearest parent that has one; the
	// empty path is the whole. It may return "". A path starts with metadata, network, userdata or vendordata and
	// goes on with keys and indices, all joined by dots: "network.nameservers.0".
	Locate(path string) string
}

// LineOrigin is an Origin that can also find a line within a text value.
type LineOrigin interface {
	Origin
	// LocateLine returns the place in the source of a line and column, which count from 1, of the text value at path; ""
	// if the text does not stand in the source line by line.
	LocateLine(path string, line, column int) string
}

// Driver finds a VM's data. It is the extension point of the project.
type Driver interface {
	// Find returns the data of vm. Many calls run at once, for different VMs and for the same one. Find returns
	// soon after ctx is done, with ctx's error. It returns an Instance or an error, never neither. Its other errors are
	// told apart with errors.Is:
	//
	//   - ErrNotFound: the driver works, and has nothing for this VM
	//   - ErrInvalid: it has something, and that is wrong; another try brings the same
	//   - ErrDenied: it has something, and this VM may not have it
	//   - all others: the driver could not find out; the guest may try again
	//
	// An error never shows a document's content: it ends in logs. Fields of vm come from the network: a driver
	// that makes a path, a query or a command from them escapes them first.
	Find(ctx context.Context, vm VM) (*Instance, error)
}

// Recaller is what a Driver can be as well, if it keeps what it found.
type Recaller interface {
	// Recall returns what is remembered of vm; nil if nothing is. It is called ahead of Find by the goroutine that also
	// answers the VM's host, which has a vMotion to answer in time, and so does not wait for a network or a file system
	// that may hang, nor for a lock that Find holds while it waits. Many calls run at once.
	Recall(vm VM) Recollection
}

// Recollection is what a Recaller remembers of one VM. Who is asked for that VM again and again keeps it, for as long as it
// has an Instance.
type Recollection interface {
	// Instance returns what Find would return now, which is the same Instance each time; or nil, if that can't be told
	// without waiting. Then Find has to be asked, and Recall for another Recollection after it. Many calls run at once, by
	// such goroutines as call Recall.
	Instance() *Instance
}

// DriverFunc makes a Driver of a function.
type DriverFunc func(ctx context.Context, vm VM) (*Instance, error)

// Find calls f.
func (f DriverFunc) Find(ctx context.Context, vm VM) (*Instance, error) { return f(ctx, vm) }

// Lister is what a Driver has beside Find if it can name all that it holds. Tools that check or print a whole
// inventory ask for it by type assertion.
type Lister interface {
	// All yields each entry once, in an order that stays the same, and stops at the end of ctx. An error with a Key
	// belongs to that entry, and others follow; one without a Key ends the sequence.
	All(ctx context.Context) iter.Seq2[Entry, error]
}

// Counter is what a Lister can be as well, if it knows beforehand how many entries it has.
type Counter interface {
	// Count returns about how many entries All yields: for those who show progress.
	Count(ctx context.Context) (int, error)
}

// Entry is the data of one VM in a driver's inventory.
type Entry struct {
	// Key is the driver's own name for the entry: of a file, of a row.
	Key string
	// VM is as much of the VM's identity as the inventory tells. It is zero where the data is for VMs that the inventory does
	// not name.
	VM VM
	// Instance is the VM's data; nil if it comes with an error.
	Instance *Instance
}

// What a driver's error can say, by errors.Is. See Driver.
var (
	ErrNotFound = errors.New("no data for this VM")
	ErrInvalid  = errors.New("invalid data")
	ErrDenied   = errors.New("not allowed for this VM")
)

// DataError is one thing wrong with an instance's data. It is an ErrInvalid.
type DataError struct {
	// Origin is the place, as Origin.Locate gives it; empty if not known.
	Origin string
	// Path is the value's path, as Origin.Locate takes it; empty if the whole is meant.
	Path string
	// Problem says what is wrong and what to do, and shows no content beyond names of keys and network addresses.
	Problem string
}

func (e *DataError) Error() string {
	text := e.Problem
	if e.Path != "" {
		text = inLine(e.Path) + ": " + text // keys are the document's own
	}
	if e.Origin != "" {
		text = e.Origin + ": " + text
	}
	return text
}

// Is makes every DataError an ErrInvalid.
func (e *DataError) Is(target error) bool { return target == ErrInvalid }
