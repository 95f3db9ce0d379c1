package config_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"vmw-cloudinit-metadata/internal/config"
)

var settings = []string{"listen", "log-level", "max-connections", "tls"}

const good = `# the server of one site
listen: [":13370", "[::1]:13371"]
max-connections: 500
tls: off
services:
- uri: my-metadata
  drivers:
  - driver: file
    options: {directory: /srv/site, templates: yes, cache-bytes: 1000}
  - driver: http
    required: true
    stale-if-error: 10m
    options:
      url: https://inventory.example/{{.UUID}}
- uri: other
  drivers: [{driver: etcd, stale-if-error: 0}]
`

func TestParse(t *testing.T) {
	got, err := config.Parse("c.yaml", []byte(good), settings)
	if err != nil {
		t.Fatal(err)
	}
	at := func(line, column int) config.Place { return config.Place{File: "c.yaml", Line: line, Column: column} }
	only := func(line, column int) []config.Place { return []config.Place{at(line, column)} }
	want := &config.Config{
		Settings: []config.Setting{
			{Place: at(2, 1), Key: "listen", Values: []string{":13370", "[::1]:13371"}, Places: []config.Place{at(2, 10), at(2, 20)}},
			{Place: at(3, 1), Key: "max-connections", Values: []string{"500"}, Places: only(3, 1)},
			{Place: at(4, 1), Key: "tls", Values: []string{"off"}, Places: only(4, 1)},
		},
		Services: []config.Service{
			{Place: at(6, 3), URI: "my-metadata", Drivers: []config.Driver{
				{Place: at(8, 5), Name: "file", Options: []byte(`{"directory": "/srv/site", "templates": true, "cache-bytes": 1000}`)},
				{Place: at(10, 5), Name: "http", Required: true, StaleIfError: 10 * time.Minute, Options: []byte(`{"url": "https://inventory.example/{{.UUID}}"}`)},
			}},
			{Place: at(15, 3), URI: "other", Drivers: []config.Driver{{Place: at(16, 13), Name: "etcd", Options: []byte("{}"), StaleIfError: -1}}},
		},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(config.Driver{})); diff != "" {
		t.Error(diff)
	}
	driver := got.Services[0].Drivers[1]
	for path, want := range map[string]config.Place{
		"driver": at(10, 5), "required": at(11, 5), "options.url": at(14, 7), "options.tls.ca": at(13, 5), "nothing.of": at(10, 5),
	} {
		if got := driver.At(path); got != want {
			t.Errorf("%s is at %v, want %v", path, got, want)
		}
	}
}

func TestErrors(t *testing.T) {
	const service = "services: [{uri: a, drivers: [{driver: file}]}]\n"
	for text, want := range map[string]string{
		"":                                       "c.yaml: is empty",
		"[]":                                     "c.yaml:1:1: the file: must be a mapping",
		"a: [":                                   "c.yaml:2:1: is not YAML",
		service + "listn: x\n":                   "c.yaml:2:1: listn: there is no such key: did you mean listen?",
		service + "zzzzzzzzzz: x\n":              "c.yaml:2:1: zzzzzzzzzz: there is no such key: known are services, listen",
		service + service:                        "c.yaml:2:1: services: is there twice",
		service + "listen: {a: b}\n":             "c.yaml:2:1: listen: must be one value",
		service + "listen:\n":                    "c.yaml:2:1: listen: has no value: write one, or leave the key out",
		service + "listen: []\n":                 "c.yaml:2:1: listen: is an empty list: write what is to be in it, or leave the key out",
		service + "listen: [a, ]\nlog-level: [,": "c.yaml:3:13: is not YAML",
		service + "listen: [a, ~]\n":             "c.yaml:2:13: listen.1: has no value",
		"services: [{uri: , drivers: [{driver: a}]}]\n":   "c.yaml:1:13: services.0.uri: has no value",
		"services: [{uri: '', drivers: [{driver: a}]}]\n": "c.yaml:1:12: services.0: lacks its uri",
		service + "listen: [[a]]\n":                       "c.yaml:2:10: listen.0: must be one value",
		"listen: a\n":                                     "c.yaml:1:1: the file: there are no services",
		"services: []\n":                                  "c.yaml:1:1: services: must be a list of at least one",
		"services: [a]\n":                                 "c.yaml:1:12: services.0: must be a mapping",
		"services: [{drivers: [{driver: a}]}]\n":          "c.yaml:1:12: services.0: lacks its uri",
		"services: [{uri: a}]\n":                          "c.yaml:1:12: services.0: lacks its drivers",
		"services: [{uri: a, driver: file}]\n":            "c.yaml:1:21: services.0.driver: there is no such key: did you mean drivers?",
		"services:\n- {uri: a, drivers: [{driver: x}]}\n- {uri: a, drivers: [{driver: x}]}\n": "c.yaml:3:4: services.1.uri: is the same as on line 2",
		"services: [{uri: a?1, drivers: [{driver: x}]}]\n":                                    "c.yaml:1:13: services.0.uri: what follows a ? is left to the ports",
		"services: [{uri: a, drivers: [{options: {}}]}]\n":                                    "lacks the driver's name",
		"services: [{uri: a, drivers: [{driver: x, options: []}]}]\n":                         "options: must be a mapping",
		"services: [{uri: a, drivers: [{driver: x, required: 1}]}]\n":                         "required: must be true or false",
		"services: [{uri: a, drivers: [{driver: x, stale-if-error: 5}]}]\n":                   "stale-if-error: must be a duration with its unit",
		"services: [{uri: a, drivers: [{driver: x, stale-if-eror: 5}]}]\n":                    "there is no such key: did you mean stale-if-error?",
	} {
		_, err := config.Parse("c.yaml", []byte(text), settings)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\ngot  %v\nwant %s", text, err, want)
		}
	}
	_, err := config.Parse("c.yaml", []byte("a: 1\nb: 2\n"), settings)
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("two mistakes: %v, want both", err)
	}
	inner := errors.New("inner")
	if err := (config.Place{File: "f", Line: 1, Column: 2}).Errorf("x: %w", inner); !errors.Is(err, inner) || fmt.Sprint(err) != "f:1:2: x: inner" {
		t.Error(err)
	}
}
