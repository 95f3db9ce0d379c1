package postgres

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"

	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/vmfile"
)

// parseArea reads metadata or network alone, by the rules of the file format: as the only key of a file.
func parseArea(place, area string, value []byte) (*metadata.Instance, error) {
	if !json.Valid(value) {
		return nil, &metadata.DataError{Origin: place, Problem: "is not JSON: only the column document takes YAML"}
	}
	file := append([]byte(`{"`+area+`":`), value...)
	instance, err := vmfile.Parse(place, append(file, '}'))
	if err != nil {
		return nil, placed(place, err)
	}
	return instance, nil
}

// placed puts the column in place of lines and columns in a text that we made; the path says where in it.
func placed(place string, err error) error {
	list := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		list = joined.Unwrap()
	}
	var moved []error
	for _, err := range list {
		if e, ok := errors.AsType[*metadata.DataError](err); ok {
			err = &metadata.DataError{Origin: place, Path: e.Path, Problem: e.Problem}
		}
		moved = append(moved, err)
	}
	return errors.Join(moved...)
}

// origin is the place of values in a row: their column.
type origin string

// Locate implements metadata.Origin.
func (row origin) Locate(path string) string {
	column, _, _ := strings.Cut(path, ".")
	if column == "" {
		return string(row)
	}
	return string(row) + ", column " + column
}

// decodeBytea reads PostgreSQL's text form of bytea, \x and hexadecimal digits (the server's default since 9.0).
func decodeBytea(text []byte) ([]byte, error) {
	digits, ok := bytes.CutPrefix(text, []byte(`\x`))
	if !ok {
		return nil, errors.New("the database writes bytea in its old form: set bytea_output to hex")
	}
	value := make([]byte, hex.DecodedLen(len(digits)))
	if _, err := hex.Decode(value, digits); err != nil {
		return nil, errors.New("the database sent a bytea that is none")
	}
	return value, nil
}
