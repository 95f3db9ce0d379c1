package metadatatest_test

import (
	"context"
	"fmt"
	"testing"

	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/metadata/metadatatest"
	"vmw-cloudinit-metadata/vmfile"
)

// memory is the smallest driver: documents by UUID and by name.
type memory map[string]string

func (m memory) Find(ctx context.Context, vm metadata.VM) (*metadata.Instance, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	text, ok := m["uuid "+vm.UUID]
	if !ok {
		text, ok = m["name "+vm.Name]
	}
	if !ok {
		return nil, fmt.Errorf("memory: %w", metadata.ErrNotFound)
	}
	return vmfile.Parse("memory", []byte(text))
}

func newMemory(records []metadatatest.Record) memory {
	m := memory{}
	for _, record := range records {
		if record.UUID != "" {
			m["uuid "+record.UUID] = record.Document
		} else {
			m["name "+record.Name] = record.Document
		}
	}
	return m
}

func TestSmallestDriver(t *testing.T) {
	metadatatest.Run(t, metadatatest.Suite{New: func(_ *testing.T, records []metadatatest.Record) metadata.Driver { return newMemory(records) }})
}

func TestDriverOfUUIDs(t *testing.T) {
	metadatatest.Run(t, metadatatest.Suite{OnlyUUIDs: true, New: func(t *testing.T, records []metadatatest.Record) metadata.Driver {
		for _, record := range records {
			if record.UUID == "" {
				t.Errorf("a record without a UUID: %q", record.Name)
			}
		}
		return newMemory(records)
	}})
}
