package metadatatest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"vmw-cloudinit-metadata/metadata"
)

// Fault is a way in which what is behind a driver can be broken.
type Fault string

// The faults.
const (
	// Slow takes longer than the caller has, and answers in the end.
	Slow Fault = "slow"
	// Hanging takes the request and never answers.
	Hanging Fault = "hanging"
	// Dying ends in the middle of its answer.
	Dying Fault = "dying"
	// Lying answers what is no answer: nonsense, or one to another question.
	Lying Fault = "lying"
	// Huge answers without end, or more than anybody wants.
	Huge Fault = "huge"
)

// The VMs of a broken engine, by their UUIDs. It holds [GoodDocument] for both, and has its fault for the Victim alone
// where it can.
const (
	Victim    = uuidA
	Bystander = uuidB
)

// GoodDocument is what a broken engine would answer if it were not.
func GoodDocument() string { return document("good") }

// Planted must not be seen in any error: a lying or dying engine may have it in what it sends.
const Planted = planted

// Faults is a driver under test, over engines that are broken.
type Faults struct {
	// New returns a driver over an engine that has the fault from now on. It should have a limit of its own of at most five
	// seconds. What New opens, it closes with t.Cleanup.
	New func(t *testing.T, fault Fault) metadata.Driver
	// Have are the faults that the engine can have.
	Have []Fault
	// Shared are those that all VMs suffer from, because the whole engine is broken.
	Shared []Fault
}

// impatience is what a caller has in these tests.
const impatience = 300 * time.Millisecond

// Run runs the tests, of each fault with a driver of its own.
func (f Faults) Run(t *testing.T) {
	for _, fault := range f.Have {
		t.Run(string(fault), func(t *testing.T) { f.test(t, fault) })
	}
}

func (f Faults) test(t *testing.T, fault Fault) {
	driver := f.New(t, fault)
	victims := make(chan struct{})
	go func() {
		defer close(victims)
		for range 2 {
			victim(t, driver, fault)
		}
	}()
	if !slices.Contains(f.Shared, fault) {
		for range 3 {
			inst, err := driver.Find(t.Context(), metadata.VM{UUID: Bystander})
			if err != nil || inst.MetaData["instance-id"] != "good" {
				t.Errorf("another VM, beside one whose engine is %s: %v, %v; want its data", fault, inst, err)
			}
		}
	}
	<-victims
}

// victim finds the VM that suffers, once in a hurry and once with all the time that the driver wants.
func victim(t *testing.T, driver metadata.Driver, fault Fault) {
	for _, limit := range []time.Duration{impatience, patience} {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		began := time.Now()
		inst, err := driver.Find(ctx, metadata.VM{UUID: Victim})
		took := time.Since(began)
		hurried := ctx.Err() != nil
		cancel()
		if took > limit+patience/2 {
			t.Errorf("%s: Find took %s, and had %s", fault, took, limit)
		}
		switch {
		case err == nil && fault == Slow && inst != nil:
		case err == nil || inst != nil:
			t.Errorf("%s: got %v, %v, want an error", fault, inst, err)
		case errors.Is(err, metadata.ErrNotFound) || errors.Is(err, metadata.ErrDenied):
			t.Errorf("%s: got %v, which says that all is well and the VM is not known", fault, err)
		case errors.Is(err, metadata.ErrInvalid) && (fault == Slow || fault == Hanging):
			t.Errorf("%s: got %v, which says that another try is of no use", fault, err)
		case strings.Contains(err.Error(), Planted) || strings.ContainsAny(err.Error(), "\x00\x1b"):
			t.Errorf("%s: the error shows what the engine sent: %q", fault, err)
		case limit == patience && hurried:
			t.Errorf("%s: the driver has no limit of its own: it used all of %s", fault, limit)
		}
	}
}
