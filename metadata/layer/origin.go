package layer

import (
	"slices"
	"strconv"
	"strings"

	"vmw-cloudinit-metadata/metadata"
)

// origin finds which layer a value came from, and asks that layer's own.
type origin struct {
	sources []source // the later over the earlier
	parts   []messagePart
	top     []metadata.Origin
}

// source is one layer's part of a section.
type source struct {
	section string
	values  map[string]any
	origin  metadata.Origin
}

func (o *origin) add(section string, values map[string]any, from metadata.Origin) {
	if values != nil {
		o.sources = append(o.sources, source{section, values, from})
	}
}

// text is for sections that are no mapping.
func (o *origin) text(section string, from metadata.Origin) {
	o.sources = append(o.sources, source{section, nil, from})
}

// drop forgets a section's sources, because a later layer replaces it.
func (o *origin) drop(section string) {
	o.sources = slices.DeleteFunc(o.sources, func(s source) bool { return s.section == section })
}

func (o *origin) whole(from metadata.Origin) {
	if from != nil {
		o.top = append(o.top, from)
	}
}

// Locate implements metadata.Origin: the place in the last layer that has the value, or its nearest parent.
func (o *origin) Locate(path string) string {
	for near := path; near != ""; near = near[:max(0, strings.LastIndexByte(near, '.'))] {
		section, rest, _ := strings.Cut(near, ".")
		for _, s := range slices.Backward(o.sources) {
			if s.section == section && s.origin != nil && has(s.values, rest) {
				return s.origin.Locate(path)
			}
		}
	}
	if len(o.top) == 0 {
		return ""
	}
	return o.top[len(o.top)-1].Locate(path)
}

// messagePart is a source of user-data or vendor-data, and which lines of the message it became.
type messagePart struct {
	section string
	origin  metadata.Origin
	whole   bool // the source stands in the message as it is, from its line first on
	// The message's lines; last is 0 if the source is the whole of it.
	start, first, last int
}

// LocateLine implements metadata.LineOrigin. Of a message it finds the lines that stand in it as they are.
func (o *origin) LocateLine(path string, line, column int) string {
	p := o.part(path, line)
	if p == nil || !p.whole || line < p.first {
		return ""
	}
	lines, ok := p.origin.(metadata.LineOrigin)
	switch {
	case !ok:
		return ""
	case p.last == 0:
		return lines.LocateLine(path, line, column)
	}
	return lines.LocateLine(path, line-p.first+1, column)
}

// LocatePart returns the place of what is at path, in the layer that a line of its message came from; "" if the line is of none.
func (o *origin) LocatePart(path string, line int) string {
	section, _, _ := strings.Cut(path, ".")
	if p := o.part(section, line); p != nil && p.origin != nil {
		return p.origin.Locate(path)
	}
	return ""
}

// part returns the part of a section that a line is in; nil if it is in none.
func (o *origin) part(section string, line int) *messagePart {
	for i, p := range o.parts {
		if p.section == section && (p.last == 0 || line >= p.start && line <= p.last) {
			return &o.parts[i]
		}
	}
	return nil
}

// moved is the origin of what stands at path to, and is looked for at path from.
type moved struct {
	metadata.Origin
	from, to string
}

// Locate implements metadata.Origin.
func (m moved) Locate(path string) string {
	if m.Origin == nil {
		return ""
	}
	if rest, below := strings.CutPrefix(path, m.from); below && (rest == "" || rest[0] == '.') {
		path = m.to + rest
	}
	return m.Origin.Locate(path)
}

// has says whether there is a value at path. A key may have dots in it.
func has(value any, path string) bool {
	if path == "" {
		return true
	}
	switch v := value.(type) {
	case map[string]any:
		for end := 0; ; {
			next := strings.IndexByte(path[end:], '.')
			if next < 0 {
				_, ok := v[path]
				return ok
			}
			end += next
			if below, ok := v[path[:end]]; ok && has(below, path[end+1:]) {
				return true
			}
			end++
		}
	case []any:
		index, rest, _ := strings.Cut(path, ".")
		i, err := strconv.Atoi(index)
		return err == nil && i >= 0 && i < len(v) && has(v[i], rest)
	}
	return false
}
