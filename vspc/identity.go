package vspc

import "vmw-cloudinit-metadata/internal/uuid"

// Identity is who a VM is, as its host asserts it: nothing in the protocol proves it. An empty field is not known.
type Identity struct {
	// Name is the display name: any bytes at all.
	Name string
	// VCUUID, BIOSUUID and LocationUUID are 8-4-4-4-12 in lower case.
	VCUUID, BIOSUUID, LocationUUID string
}

// ParseUUID returns text, a UUID as the VM's side writes it ("01 23 …-fe dc …") or in another spelling of the same 32
// digits, as 8-4-4-4-12 in lower case. A VM that has no such UUID may send anything: false then.
func ParseUUID(text string) (string, bool) { return uuid.Parse(text) }

// WireUUID returns a UUID as the VM's side writes it in VMVCUUID and its like: 16 pairs of digits with blanks between
// them, and a dash in the middle. Text that is no UUID comes back as it is.
func WireUUID(text string) string {
	id, ok := uuid.Parse(text)
	if !ok {
		return text
	}
	out := make([]byte, 0, 47)
	for i := 0; i < len(id); i++ {
		if id[i] == '-' {
			continue
		}
		switch n := len(out); {
		case n == 23:
			out = append(out, '-')
		case n%3 == 2:
			out = append(out, ' ')
		}
		out = append(out, id[i])
	}
	return string(out)
}
