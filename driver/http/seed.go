package http

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"vmw-cloudinit-metadata/internal/yaml11"
	"vmw-cloudinit-metadata/metadata"
)

// seed gets the files of a NoCloud seed. Only meta-data must be there.
func (d *Driver) seed(ctx context.Context, base *url.URL) (*metadata.Instance, error) {
	meta, err := d.get(ctx, base.JoinPath("meta-data"), mapping("metadata"))
	if err != nil {
		return nil, err
	}
	network, err := d.optional(ctx, base.JoinPath("network-config"), mapping("network"))
	if err != nil {
		return nil, err
	}
	user, err := d.optional(ctx, base.JoinPath("user-data"), text)
	if err != nil {
		return nil, err
	}
	vendor, err := d.optional(ctx, base.JoinPath("vendor-data"), text)
	if err != nil {
		return nil, err
	}
	place := origin{"": place(base), "userdata": place(base) + "user-data", "vendordata": place(base) + "vendor-data"}
	instance := &metadata.Instance{Origin: &seedOrigin{whole: place}}
	origins := instance.Origin.(*seedOrigin)
	if m, ok := meta.(*mappingDocument); ok {
		instance.MetaData, origins.metadata = m.values, m.origin
	}
	if m, ok := network.(*mappingDocument); ok {
		instance.Network, origins.network = m.values, m.origin
	}
	instance.UserData, _ = user.([]byte)
	instance.VendorData, _ = vendor.([]byte)
	return instance, nil
}

func (d *Driver) optional(ctx context.Context, u *url.URL, parse func(string, []byte) (any, error)) (any, error) {
	value, err := d.get(ctx, u, parse)
	if errors.Is(err, metadata.ErrNotFound) {
		return nil, nil
	}
	return value, err
}

// text takes user-data and vendor-data as they are. An empty one is none.
func text(_ string, body []byte) (any, error) {
	if len(body) == 0 {
		return nil, nil
	}
	return body, nil
}

type mappingDocument struct {
	values map[string]any
	origin origin
}

// literals are the values of meta-data that are text whatever they look like.
func literals() []string {
	return []string{"metadata.instance-id", "metadata.hostname", "metadata.local-hostname"}
}

// mapping parses meta-data and network-config, whose values get paths that start with area. An empty one is none.
func mapping(area string) func(name string, body []byte) (any, error) {
	return func(name string, body []byte) (any, error) {
		root, err := yaml11.Parse(body)
		if err != nil {
			return nil, dataErrors(name, err)
		}
		if root == nil {
			return nil, nil
		}
		doc := &mappingDocument{origin: origin{area: name}}
		decoder := yaml11.Decoder{
			JSON:    true,
			Literal: func(path string) bool { return slices.Contains(literals(), path) || isMAC(path) },
			Visit:   func(path string, line, column int) { doc.origin[path] = fmt.Sprintf("%s:%d:%d", name, line, column) },
		}
		value := decoder.Decode(area, root)
		values, ok := value.(map[string]any)
		if value != nil && !ok {
			decoder.Report(root, area, "must be a mapping: keys with their values")
		}
		if problems := decoder.Problems(); len(problems) > 0 {
			joined := make([]error, 0, len(problems))
			for _, problem := range problems {
				joined = append(joined, problem)
			}
			return nil, dataErrors(name, joined...)
		}
		if inner, wrapped := values["network"].(map[string]any); area == "network" && wrapped && len(values) == 1 {
			values, doc.origin = inner, doc.origin.below("network.network", "network")
		}
		if area == "network" && values != nil && values["version"] == nil {
			return nil, &metadata.DataError{Origin: name, Path: area, Problem: "has no version: a network-config starts with version: 1 or version: 2"}
		}
		doc.values = values
		return doc, nil
	}
}

func isMAC(path string) bool {
	key := path[strings.LastIndexByte(path, '.')+1:]
	return key == "mac_address" || key == "macaddress"
}

// dataErrors makes DataErrors of what yaml11 found.
func dataErrors(name string, problems ...error) error {
	joined := make([]error, 0, len(problems))
	for _, problem := range problems {
		e := &metadata.DataError{Origin: name, Problem: "is not YAML"}
		if at, ok := errors.AsType[*yaml11.Error](problem); ok {
			e.Path, e.Problem = at.Path, at.Problem
			if at.Line > 0 {
				e.Origin = fmt.Sprintf("%s:%d:%d", name, at.Line, at.Column)
			}
		}
		joined = append(joined, e)
	}
	return errors.Join(joined...)
}

// origin maps paths to places.
type origin map[string]string

// below returns the part under path, as if it stood at newPath.
func (o origin) below(path, newPath string) origin {
	moved := origin{newPath: o[path]}
	for p, place := range o {
		if rest, is := strings.CutPrefix(p, path+"."); is {
			moved[newPath+"."+rest] = place
		}
	}
	return moved
}

// seedOrigin finds the places in a seed's files.
type seedOrigin struct{ whole, metadata, network origin }

// Locate implements metadata.Origin.
func (s *seedOrigin) Locate(path string) string {
	for {
		for _, o := range []origin{s.metadata, s.network, s.whole} {
			if place, ok := o[path]; ok {
				return place
			}
		}
		if path == "" {
			return ""
		}
		path = path[:max(0, strings.LastIndexByte(path, '.'))]
	}
}
