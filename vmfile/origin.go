package vmfile

import (
	"fmt"
	"strings"
)

// origin holds the place of each value, in the order of the file.
type origin struct {
	name   string
	places []place
	blocks []place // first line and indentation of texts
}

type place struct {
	path         string
	line, column int32
}

func (o *origin) add(path string, line, column int) {
	o.places = append(o.places, place{path: path, line: int32(line), column: int32(column)})
}

// Locate implements metadata.Origin.
func (o *origin) Locate(path string) string {
	for {
		for _, p := range o.places {
			if p.path == path {
				return position(o.name, int(p.line), int(p.column))
			}
		}
		if path == "" {
			return o.name
		}
		path = path[:max(0, strings.LastIndexByte(path, '.'))]
	}
}

// LocateLine implements metadata.LineOrigin.
func (o *origin) LocateLine(path string, line, column int) string {
	for _, b := range o.blocks {
		if b.path == path {
			return position(o.name, int(b.line)+line-1, int(b.column)+column)
		}
	}
	return ""
}

func position(name string, line, column int) string {
	if line == 0 {
		return name
	}
	return fmt.Sprintf("%s:%d:%d", name, line, column)
}
