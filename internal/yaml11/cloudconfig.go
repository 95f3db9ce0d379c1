package yaml11

import "bytes"

// cloudConfig is the line by which cloud-init knows user-data that is YAML.
const cloudConfig = "#cloud-config\n"

// AppendCloudConfig appends a mapping as cloud-init's user-data. It fails as Append does.
func AppendCloudConfig(dst []byte, m Map) ([]byte, error) {
	out, err := Append(append(dst, cloudConfig...), m)
	if err != nil {
		return dst, err
	}
	return out, nil
}

// ReadCloudConfig returns the mapping for which AppendCloudConfig appends this very document; false if there is none, as for
// most that was written by hand.
func ReadCloudConfig(document []byte) (Map, bool) {
	if !bytes.HasPrefix(document, []byte(cloudConfig)) {
		return nil, false
	}
	root, err := Parse(document)
	if err != nil || root == nil {
		return nil, false
	}
	d := Decoder{KeepOrder: true}
	m, ok := d.Decode("", root).(Map)
	if !ok || len(d.Problems()) > 0 {
		return nil, false
	}
	again, err := AppendCloudConfig(make([]byte, 0, len(document)), m)
	return m, err == nil && bytes.Equal(again, document)
}
