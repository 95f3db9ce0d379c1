package vmfile

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"vmw-cloudinit-metadata/internal/yaml11"
	"vmw-cloudinit-metadata/metadata"
)

// Append appends the file of an instance, which Parse reads back as the same data: a line for each of the keys. It
// fails for values that an Instance must not have.
func Append(dst []byte, inst *metadata.Instance) ([]byte, error) {
	out := dst
	var err error
	for _, part := range []struct {
		key    string
		values map[string]any
	}{{"metadata", inst.MetaData}, {"network", inst.Network}} {
		if part.values == nil {
			continue
		}
		// Keys in quotes: what looks like a slip of the pen is meant.
		if out, err = yaml11.AppendJSON(append(out, part.key+": "...), part.values); err != nil {
			return dst, fmt.Errorf("vmfile: %s: %w", part.key, err)
		}
		out = append(out, '\n')
	}
	for _, part := range []struct {
		key      string
		document []byte
	}{{"userdata", inst.UserData}, {"vendordata", inst.VendorData}} {
		if part.document == nil {
			continue
		}
		var value any = part.document // as !!binary
		if len(part.document) > 0 && utf8.Valid(part.document) && bytes.Equal(trimBlankLines(part.document), part.document) {
			value = string(part.document)
		}
		if out, err = yaml11.Append(out, yaml11.Map{{Key: part.key, Value: value}}); err != nil {
			return dst, fmt.Errorf("vmfile: %s: %w", part.key, err)
		}
	}
	if len(out) == len(dst) {
		out = append(out, "{}\n"...)
	}
	return out, nil
}
