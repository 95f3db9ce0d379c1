// Package options reads a driver's options: one JSON object, strictly, into the driver's Config.
package options

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"vmw-cloudinit-metadata/internal/nearest"
)

// Error is one thing wrong with the options.
type Error struct {
	// Key is the option's path ("tls.ca"), empty if all of them are meant.
	Key string
	// Problem says what is wrong and what to do. It shows no values: some are secrets.
	Problem string
}

func (e *Error) Error() string {
	if e.Key == "" {
		return e.Problem
	}
	return fmt.Sprintf("option %s: %s", e.Key, e.Problem)
}

// Decode reads the JSON object in data into the struct that into points to, by its json tags. No data is an empty
// object. Its error is an *Error.
func Decode(data []byte, into any) error {
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return nil
	}
	if data[0] != '{' {
		return &Error{Problem: `the options must be a JSON object, such as {"directory": "/srv/metadata"}`}
	}
	if err := checkKeys(data, reflect.TypeOf(into).Elem(), ""); err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return explain(err, into)
	}
	return nil
}

func explain(err error, into any) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return &Error{Problem: fmt.Sprintf("not valid JSON at character %d: %s", syntax.Offset, syntax)}
	}
	if kind, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return &Error{Key: kind.Field, Problem: fmt.Sprintf("must be %s, not %s", describe(kind.Type), kind.Value)}
	}
	return &Error{Problem: fmt.Sprintf("can't be read into %T: %v", into, err)}
}

func describe(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	}
	return "a number"
}

// checkKeys refuses unknown keys, keys that are there twice, and what follows the object.
func checkKeys(data []byte, t reflect.Type, path string) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if err := keysOf(decoder, t, path); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return &Error{Problem: "there is more after the options' closing brace"}
	}
	return nil
}

func keysOf(decoder *json.Decoder, t reflect.Type, path string) error {
	token, err := decoder.Token()
	if err != nil {
		return syntaxAt(decoder, err)
	}
	if t == reflect.TypeFor[Duration]() {
		text, _ := token.(string)
		if _, ok := parseDuration(text); !ok {
			return &Error{Key: path, Problem: `a duration is written as a number with its unit, such as "5s" or "1m30s"`}
		}
	}
	switch token {
	case json.Delim('{'):
		known, types := fields(t)
		seen := map[string]bool{}
		for decoder.More() {
			token, err := decoder.Token()
			if err != nil {
				return syntaxAt(decoder, err)
			}
			key, _ := token.(string)
			full := strings.TrimPrefix(path+"."+key, ".")
			if known != nil && types[key] == nil {
				return &Error{Key: full, Problem: "there is no such option" + nearest.Hint(key, known)}
			}
			if seen[key] {
				return &Error{Key: full, Problem: "is there twice: remove one"}
			}
			seen[key] = true
			if err := keysOf(decoder, types[key], full); err != nil {
				return err
			}
		}
		_, err = decoder.Token()
	case json.Delim('['):
		for decoder.More() {
			if err := keysOf(decoder, nil, path); err != nil {
				return err
			}
		}
		_, err = decoder.Token()
	}
	return syntaxAt(decoder, err)
}

func syntaxAt(decoder *json.Decoder, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return &Error{Problem: fmt.Sprintf("not valid JSON at character %d: %v", decoder.InputOffset(), err)}
}

// fields returns the options that a struct takes; nil for other types.
func fields(t reflect.Type) (known []string, types map[string]reflect.Type) {
	if t == nil {
		return nil, nil
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil, nil
	}
	types = map[string]reflect.Type{}
	for field := range t.Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" && name != "-" {
			known = append(known, name)
			types[name] = field.Type
		}
	}
	return known, types
}

// Duration is a time.Duration, written "1m30s" in JSON.
type Duration time.Duration

// UnmarshalJSON takes what time.ParseDuration does, not negative.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	value, ok := parseDuration(text)
	if !ok {
		return errors.New("not a duration")
	}
	*d = Duration(value)
	return nil
}

func parseDuration(text string) (time.Duration, bool) {
	value, err := time.ParseDuration(text)
	return value, err == nil && value >= 0
}
