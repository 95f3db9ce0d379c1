package yaml11

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
