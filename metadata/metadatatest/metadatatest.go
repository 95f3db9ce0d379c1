// Package metadatatest holds the tests that every metadata.Driver must pass. A driver's own tests run them against
// the driver with its real engine behind it:
//
//	func TestContract(t *testing.T) {
//		metadatatest.Run(t, metadatatest.Suite{New: func(t *testing.T, records []metadatatest.Record) metadata.Driver {
//			// store the records, start a driver that finds them
//		}})
//	}
package metadatatest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"vmw-cloudinit-metadata/metadata"
)

// patience is how long a call may take that should return at once. It is long, because machines that run tests are slow.
const patience = 20 * time.Second

// Record is what a driver is to hold for one VM.
type Record struct {
	// UUID is what the VM is known by; where it is empty, Name is.
	UUID, Name string
	// Document is the VM's data in the format of package vmfile. One of the records has a broken one.
	Document string
}

// Suite is a driver under test.
type Suite struct {
	// New returns a driver that holds the records and nothing else. What it opens, it closes with t.Cleanup.
	New func(t *testing.T, records []Record) metadata.Driver
	// OnlyUUIDs is for drivers that know VMs by their UUIDs alone; records have no other key then.
	OnlyUUIDs bool
}

// The VMs of the suite.
const (
	uuidA, uuidB, uuidBroken = "421338a5-0a6a-b9b4-b647-3007991cf1d6", "42130000-1111-2222-3333-44445555666b", "42130000-bad0-bad0-bad0-bad0bad0bad0"
	unknownUUID              = "42139999-9999-9999-9999-999999999999"
	nameC, nameOdd           = "web3", "Größe 3 (old) [a]"
	// planted stands in the broken document, and must not be seen anywhere.
	planted = "hunter2-9f8e7d"
)

// document is the data of the VM whose instance-id is id.
func document(id string) string {
	return fmt.Sprintf(`metadata:
  instance-id: %s
  tags: [a, b]
  depth: {list: [1, 2.5, true, null, text]}
network:
  address: 192.0.2.7/24
  gateway: 192.0.2.1
userdata: |
  #cloud-config
  # for %s
  packages: [nginx]
`, id, id)
}

func (s Suite) records() []Record {
	records := []Record{
		{UUID: uuidA, Document: document("a")},
		{UUID: uuidB, Document: document("b")},
		{UUID: uuidBroken, Document: "metadata:\n  instance-id: broken\n  password: *" + planted + "\nuserdata: [" + planted + "\n"},
	}
	if !s.OnlyUUIDs {
		records = append(records, Record{Name: nameC, Document: document("c")}, Record{Name: nameOdd, Document: document("odd")})
	}
	return records
}

// Run runs the contract's tests. Each starts a driver of its own.
func Run(t *testing.T, s Suite) {
	t.Run("finds", s.testFinds)
	t.Run("finds nothing", s.testNotFound)
	t.Run("invalid data", s.testInvalid)
	t.Run("hostile identities", s.testHostile)
	t.Run("many at once", s.testConcurrent)
	t.Run("ended context", s.testContext)
	t.Run("values", s.testValues)
}

func (s Suite) testFinds(t *testing.T) {
	driver := s.New(t, s.records())
	tests := []struct {
		name string
		vm   metadata.VM
		want string
	}{
		{"by UUID", metadata.VM{UUID: uuidA}, "a"},
		{"by UUID, whatever the name", metadata.VM{UUID: uuidB, Name: "anything"}, "b"},
	}
	if !s.OnlyUUIDs {
		tests = append(tests, tests[0], tests[0], tests[0])
		tests[2].name, tests[2].vm, tests[2].want = "by name", metadata.VM{Name: nameC, UUID: unknownUUID}, "c"
		tests[3].name, tests[3].vm, tests[3].want = "by an odd name", metadata.VM{Name: nameOdd}, "odd"
		tests[4].name, tests[4].vm, tests[4].want = "the UUID goes before the name", metadata.VM{Name: nameC, UUID: uuidA}, "a"
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) { expect(t, driver, tc.vm, tc.want) })
	}
}

// expect finds vm and checks that it got the document with the instance-id want.
func expect(t *testing.T, driver metadata.Driver, vm metadata.VM, want string) *metadata.Instance {
	t.Helper()
	inst, err := driver.Find(t.Context(), vm)
	if err != nil {
		t.Fatalf("Find(%s): %v", vm, err)
	}
	if got := inst.MetaData["instance-id"]; got != want {
		t.Errorf("Find(%s) gave the data of %v, want that of %s", vm, got, want)
	}
	if userData := "#cloud-config\n# for " + want + "\npackages: [nginx]\n"; string(inst.UserData) != userData {
		t.Errorf("user-data of %s is\n%q, want\n%q", vm, inst.UserData, userData)
	}
	if inst.VendorData != nil {
		t.Errorf("%s has vendor-data that nobody gave it", vm)
	}
	return inst
}

func (s Suite) testNotFound(t *testing.T) {
	driver := s.New(t, s.records())
	for _, vm := range []metadata.VM{{UUID: unknownUUID}, {Name: "nobody"}, {UUID: unknownUUID, Name: "nobody"}, {}} {
		inst, err := driver.Find(t.Context(), vm)
		if !errors.Is(err, metadata.ErrNotFound) || errors.Is(err, metadata.ErrInvalid) || inst != nil {
			t.Errorf("Find(%s) = %v, %v; want nil, and ErrNotFound alone", vm, inst, err)
		}
	}
}

func (s Suite) testInvalid(t *testing.T) {
	driver := s.New(t, s.records())
	for range 2 { // the second answer may come from a cache
		inst, err := driver.Find(t.Context(), metadata.VM{UUID: uuidBroken})
		if !errors.Is(err, metadata.ErrInvalid) || errors.Is(err, metadata.ErrNotFound) || inst != nil {
			t.Fatalf("Find = %v, %v; want nil, and ErrInvalid alone", inst, err)
		}
		if strings.Contains(err.Error(), planted) {
			t.Errorf("the error shows the document's content: %v", err)
		}
	}
	expect(t, driver, metadata.VM{UUID: uuidA}, "a") // the others have nothing of it
}

// hostileNames are names that must lead nowhere.
func hostileNames() []string {
	names := []string{
		"..", ".", "/", "\\", "~", "*", "?", "[a-z]*", "%", "_%", "%00", "%s%n", "${HOME}", "$(id)", "`id`", "; id", "{{.}}",
		"' OR '1'='1", `" OR ""="`, "'; DROP TABLE vms; --", "a\x00b", "\x00", "a\nb", "a\r\nHost: b", "\x1b[2J", "\xff\xfe", "\u202e", "-rf", "--help",
		"/etc/passwd", "../../../../etc/passwd", `..\..\etc\passwd`, "%2e%2e%2f", "%2e%2e%2fetc%2fpasswd", "..%2f..%2fetc%2fpasswd", "%252e%252e%252f",
		"?a=b", "#a", "a&b=c", "http://127.0.0.1:1/", "//127.0.0.1/", "CON", "NUL", "defaults",
		strings.Repeat("a", 64<<10), strings.Repeat("../", 20<<10), strings.Repeat("ö", 128),
	}
	for _, known := range []string{nameC, uuidA, strings.ToUpper(uuidA), strings.ReplaceAll(uuidA, "-", "")} {
		names = append(names, "../"+known, "./"+known, "/"+known, "x/../"+known, known+"/", known+"\x00", known+"\n", "%2e%2f"+known,
			"..%2f"+known, known+".yaml", known+"%00", known+"?", known+"#", known+"/..", " "+known, known+" ")
	}
	// These are what other VMs are known by: whoever gives his VM such a name must not get their data.
	return append(names, uuidA, strings.ToUpper(uuidA), strings.ReplaceAll(uuidA, "-", ""), strings.ReplaceAll(uuidA, "-", " "), "{"+uuidA+"}")
}

func (s Suite) testHostile(t *testing.T) {
	driver := s.New(t, s.records())
	for _, name := range hostileNames() {
		short := name[:min(len(name), 60)]
		for _, vm := range []metadata.VM{{Name: name}, {Name: name, UUID: unknownUUID}, {UUID: name + "/"}} {
			inst, err := driver.Find(t.Context(), vm)
			if err == nil || inst != nil {
				t.Errorf("a VM with the name or UUID %q (%d bytes) got data: %v", short, len(name), inst)
				continue
			}
			if strings.ContainsAny(err.Error(), "\n\x00\x1b") {
				t.Errorf("the error for %q breaks its line in a log: %q", short, err)
			}
		}
		expect(t, driver, metadata.VM{Name: name, UUID: uuidB}, "b")
	}
}

func (s Suite) testConcurrent(t *testing.T) {
	driver := s.New(t, s.records())
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for range 8 {
				id, want := uuidA, "a"
				if i%2 == 1 {
					id, want = uuidB, "b"
				}
				inst, err := driver.Find(t.Context(), metadata.VM{UUID: id})
				if err != nil || inst.MetaData["instance-id"] != want {
					t.Errorf("Find(%s) = %v, %v", id, inst, err)
					return
				}
				if _, err := driver.Find(t.Context(), metadata.VM{UUID: uuidBroken}); !errors.Is(err, metadata.ErrInvalid) {
					t.Errorf("Find of broken data: %v", err)
				}
				if _, err := driver.Find(t.Context(), metadata.VM{UUID: unknownUUID}); !errors.Is(err, metadata.ErrNotFound) {
					t.Errorf("Find of nothing: %v", err)
				}
			}
		})
	}
	wg.Wait()
}

func (s Suite) testContext(t *testing.T) {
	driver := s.New(t, s.records())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	done := make(chan error, 1)
	go func() {
		_, err := driver.Find(ctx, metadata.VM{UUID: uuidA})
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Find with an ended context: %v, want context.Canceled", err)
		}
	case <-time.After(patience):
		t.Fatalf("Find does not return %v after its context ended", patience)
	}
	expect(t, driver, metadata.VM{UUID: uuidA}, "a")
}

func (s Suite) testValues(t *testing.T) {
	driver := s.New(t, s.records())
	first := expect(t, driver, metadata.VM{UUID: uuidA}, "a")
	if problem := wrongValue(first.MetaData); problem != "" {
		t.Errorf("MetaData: %s", problem)
	}
	if problem := wrongValue(first.Network); problem != "" {
		t.Errorf("Network: %s", problem)
	}
	wantDepth := map[string]any{"list": []any{int64(1), 2.5, true, nil, "text"}}
	if depth := first.MetaData["depth"]; !reflect.DeepEqual(depth, wantDepth) {
		t.Errorf("a nested value is %#v, want %#v", depth, wantDepth)
	}
	if second := expect(t, driver, metadata.VM{UUID: uuidA}, "a"); !reflect.DeepEqual(first.MetaData, second.MetaData) ||
		!reflect.DeepEqual(first.Network, second.Network) {
		t.Error("the same data came out differently the second time")
	}
	if first.Origin == nil {
		return
	}
	for _, path := range []string{"", ".", "..", "metadata", "metadata.instance-id", "network.nameservers.0", "nothing.at.all", "metadata..\x00", strings.Repeat("a.", 1000)} {
		if place := first.Origin.Locate(path); strings.ContainsAny(place, "\n\x00") {
			t.Errorf("Locate(%.20q) = %q breaks its line in a log", path, place)
		}
	}
}

// wrongValue names the first value of a type that an Instance can't have; "" if there is none.
func wrongValue(value any) string {
	switch v := value.(type) {
	case nil, bool, int, int64, uint64, float64, string:
	case []any:
		for _, element := range v {
			if problem := wrongValue(element); problem != "" {
				return problem
			}
		}
	case map[string]any:
		for key, element := range v {
			if problem := wrongValue(element); problem != "" {
				return key + ": " + problem
			}
		}
	default:
		return fmt.Sprintf("a %T is none of the types that an Instance's values have", value)
	}
	return ""
}
