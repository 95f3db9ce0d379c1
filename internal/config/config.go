// Package config reads the server's configuration file: YAML, strictly, with line and column in its errors.
package config

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"vmw-cloudinit-metadata/internal/nearest"
	"vmw-cloudinit-metadata/internal/yaml11"
)

// maxSize bounds a configuration file, in bytes: hundreds of services.
const maxSize = 1 << 20

// Config is what a file says.
type Config struct {
	// Settings are the options that the command line has too, in the file's order.
	Settings []Setting
	Services []Service
}

// Setting is one option and its values, as the command line would have them.
type Setting struct {
	Place
	Key    string
	Values []string
	// Places are those of the values.
	Places []Place
}

// Service is one URI and where its data comes from.
type Service struct {
	Place
	URI     string
	Drivers []Driver
}

// Driver is one layer of a service's data, the later over the earlier.
type Driver struct {
	Place
	Name string
	// Options is a JSON object.
	Options json.RawMessage
	// Required makes a VM that this driver does not know one that nobody knows.
	Required bool
	// StaleIfError is how long after it was last found data may be given out while the driver fails. 0 is the driver's
	// default, less than 0 is never.
	StaleIfError time.Duration

	path   string           // of the driver
	places map[string]Place // of all in the file
}

// At returns the place of a key of the driver, such as "options.directory"; of what it is in, if it is not there.
func (d Driver) At(path string) Place {
	for path != "" {
		if place, ok := d.places[d.path+"."+path]; ok {
			return place
		}
		path = path[:max(0, strings.LastIndexByte(path, '.'))]
	}
	return d.Place
}

// Place is where something stands: "config.yaml:12:5".
type Place struct {
	File         string
	Line, Column int
}

func (p Place) String() string { return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column) }

// Errorf returns an error about what stands at the place.
func (p Place) Errorf(format string, args ...any) error {
	return fmt.Errorf("%s: %w", p, fmt.Errorf(format, args...))
}

// Parse reads a file; settings are the keys that it may have beside services. The error joins one for each thing wrong.
func Parse(file string, data []byte, settings []string) (*Config, error) {
	if len(data) > maxSize {
		return nil, fmt.Errorf("%s: is larger than %d MiB", file, maxSize>>20)
	}
	p := parser{file: file, places: map[string]Place{}, wrong: map[string]bool{}}
	root, err := yaml11.Parse(data)
	if err != nil {
		return nil, p.yamlError(err)
	}
	if root == nil {
		return nil, fmt.Errorf("%s: is empty: it needs services, each with its uri and drivers", file)
	}
	p.places[""] = Place{file, root.Line, root.Column}
	decoder := yaml11.Decoder{
		JSON: true, KeepOrder: true,
		Literal: func(path string) bool {
			return !strings.Contains(path, ".options") && !strings.HasSuffix(path, ".required")
		}, // off is "off"
		Visit: func(path string, line, column int) { p.places[path] = Place{file, line, column} },
	}
	value := decoder.Decode("", root)
	for _, problem := range decoder.Problems() {
		p.errs = append(p.errs, p.yamlError(problem))
	}
	if len(p.errs) == 0 {
		config := p.config(value, settings)
		if len(p.errs) == 0 {
			return config, nil
		}
	}
	return nil, errors.Join(p.errs...)
}

type parser struct {
	file   string
	places map[string]Place
	wrong  map[string]bool // the paths of errs
	errs   []error
}

func (p *parser) yamlError(err error) error {
	e, ok := errors.AsType[*yaml11.Error](err)
	if !ok || e.Line == 0 {
		return fmt.Errorf("%s: %w", p.file, err)
	}
	text := e.Problem
	if e.Path != "" {
		text = e.Path + ": " + text
	}
	return Place{p.file, e.Line, e.Column}.Errorf("%s", text)
}

func (p *parser) bad(path, format string, args ...any) {
	p.wrong[path] = true
	p.errs = append(p.errs, p.places[path].Errorf("%s: %s", cmp.Or(path, "the file"), fmt.Sprintf(format, args...)))
}

func (p *parser) config(value any, settings []string) *Config {
	config := &Config{}
	for _, pair := range p.mapping("", value) {
		switch {
		case pair.Key == "services":
			config.Services = p.services(pair.Value)
		case slices.Contains(settings, pair.Key):
			config.Settings = append(config.Settings, p.setting(pair))
		default:
			p.unknown(pair.Key, pair.Key, append([]string{"services"}, settings...))
		}
	}
	if len(config.Services) == 0 && len(p.errs) == 0 {
		p.bad("", "there are no services: each has its uri and drivers")
	}
	return config
}

func (p *parser) unknown(path, key string, known []string) {
	if meant, _ := nearest.Word(key, known); meant != "" {
		p.bad(path, "there is no such key: did you mean %s?", meant)
		return
	}
	p.bad(path, "there is no such key%s", nearest.Hint("", known))
}

func (p *parser) mapping(path string, value any) yaml11.Map {
	mapping, ok := value.(yaml11.Map)
	if !ok {
		p.bad(path, "must be a mapping: keys with their values")
	}
	return mapping
}

func (p *parser) list(path string, value any) []any {
	list, ok := value.([]any)
	if !ok || len(list) == 0 {
		p.bad(path, "must be a list of at least one")
	}
	return list
}

// text takes a scalar as the command line has it.
func (p *parser) text(path string, value any) string {
	text, ok := value.(string)
	switch {
	case value == nil:
		p.bad(path, "has no value: write one, or leave the key out")
	case !ok:
		p.bad(path, "must be one value")
	}
	return text
}

func (p *parser) setting(pair yaml11.Pair) Setting {
	setting := Setting{Place: p.places[pair.Key], Key: pair.Key}
	list, ok := pair.Value.([]any)
	switch {
	case !ok:
		setting.Values, setting.Places = []string{p.text(pair.Key, pair.Value)}, []Place{setting.Place}
	case len(list) == 0:
		p.bad(pair.Key, "is an empty list: write what is to be in it, or leave the key out")
	}
	for i, item := range list {
		path := pair.Key + "." + strconv.Itoa(i)
		setting.Values = append(setting.Values, p.text(path, item))
		setting.Places = append(setting.Places, p.places[path])
	}
	return setting
}

func (p *parser) services(value any) []Service {
	var services []Service
	uris := map[string]Place{}
	for i, item := range p.list("services", value) {
		path := "services." + strconv.Itoa(i)
		service := Service{Place: p.places[path]}
		for _, pair := range p.mapping(path, item) {
			at := path + "." + pair.Key
			switch pair.Key {
			case "uri":
				service.URI = p.text(at, pair.Value)
				if first, twice := uris[service.URI]; twice {
					p.bad(at, "is the same as on line %d: each service has a URI of its own", first.Line)
				}
				if strings.Contains(service.URI, "?") {
					p.bad(at, "what follows a ? is left to the ports: leave it out")
				}
				uris[service.URI] = p.places[at]
			case "drivers":
				service.Drivers = p.drivers(at, pair.Value)
			default:
				p.unknown(at, pair.Key, []string{"uri", "drivers"})
			}
		}
		if service.URI == "" && !p.wrong[path+".uri"] {
			p.bad(path, "lacks its uri: the port URI that the VMs' serial ports have in vSphere")
		}
		if service.Drivers == nil {
			p.bad(path, "lacks its drivers: where the data comes from, the later over the earlier")
		}
		services = append(services, service)
	}
	return services
}

func (p *parser) drivers(path string, value any) []Driver {
	drivers := []Driver{}
	for i, item := range p.list(path, value) {
		at := path + "." + strconv.Itoa(i)
		driver := Driver{Place: p.places[at], Options: json.RawMessage("{}"), path: at, places: p.places}
		for _, pair := range p.mapping(at, item) {
			p.driverKey(&driver, at+"."+pair.Key, pair)
		}
		if driver.Name == "" && !p.wrong[at+".driver"] {
			p.bad(at, "lacks the driver's name, as in driver: file")
		}
		drivers = append(drivers, driver)
	}
	return drivers
}

func (p *parser) driverKey(driver *Driver, path string, pair yaml11.Pair) {
	switch pair.Key {
	case "driver":
		driver.Name = p.text(path, pair.Value)
	case "options":
		options, err := yaml11.AppendJSON(nil, p.mapping(path, pair.Value))
		if err != nil {
			p.bad(path, "%s", err)
		}
		driver.Options = options
	case "required":
		required, ok := pair.Value.(bool)
		if !ok {
			p.bad(path, "must be true or false")
		}
		driver.Required = required
	case "stale-if-error":
		text := p.text(path, pair.Value)
		duration, err := time.ParseDuration(text)
		switch {
		case text == "0" || err == nil && duration == 0:
			driver.StaleIfError = -1
		case err != nil || duration < 0:
			p.bad(path, `must be a duration with its unit, such as "10m", or 0 for never`)
		default:
			driver.StaleIfError = duration
		}
	default:
		p.unknown(path, pair.Key, []string{"driver", "options", "required", "stale-if-error"})
	}
}
