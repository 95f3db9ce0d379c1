package schema

import (
	"maps"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/message"
)

// deprecated is the error of a value that a schema has for deprecated, or for changed, in the words that cloud-init adds to JSON
// schema.
type deprecated struct{ text string }

// maxDescription is how long a value's description is, in bytes, if it is about nothing else.
const maxDescription = 200

// deprecations returns the vocabulary that makes an error of it.
func deprecations() *jsonschema.Vocabulary {
	return &jsonschema.Vocabulary{
		URL: "urn:deprecated",
		Compile: func(_ *jsonschema.CompilerContext, object map[string]any) (jsonschema.SchemaExt, error) {
			for _, word := range []struct{ key, says string }{{"deprecated", "is deprecated since"}, {"changed", "has changed in"}, {unlisted, ""}} {
				if object[word.key] != true {
					continue
				}
				if word.key == unlisted {
					return &deprecated{"is taken, and yet not in cloud-init's schema: it warns of that when the VM boots"}, nil
				}
				text := "is deprecated"
				if version, ok := object[word.key+"_version"].(string); ok {
					text = word.says + " cloud-init " + version
				}
				if why := description(object, word.key); why != "" {
					text += ": " + why
				}
				return &deprecated{text}, nil
			}
			return nil, nil
		},
	}
}

// unlisted marks what addUnlisted adds.
const unlisted = "unlisted"

// addUnlisted adds to the schema for networks of version 1 what cloud-init's parser of that version takes, and the schema lacks:
// prefix in a subnet, and interfaces of two more types.
func addUnlisted(raw map[string]any) {
	forms, _ := raw["$defs"].(map[string]any)
	config, _ := inside(forms, "network_config_version1", "properties", "config", "items").(map[string]any)
	items, _ := config["anyOf"].([]any)
	physical, _ := forms["anyOf_type_physical"].(map[string]any)
	subnet, _ := inside(forms, "config_type_subnet", "properties").(map[string]any)
	if items == nil || physical == nil || subnet == nil {
		return
	}
	if subnet["prefix"] == nil {
		subnet["prefix"] = map[string]any{"type": []any{"integer", "string"}, unlisted: true}
	}
	for _, kind := range []string{"infiniband", "loopback"} {
		if forms["anyOf_type_"+kind] != nil {
			continue
		}
		properties, _ := physical["properties"].(map[string]any)
		form := maps.Clone(physical)
		form["properties"] = merged(properties, "type", map[string]any{"enum": []any{kind}, unlisted: true})
		forms["anyOf_type_"+kind] = form
		items = append(items, map[string]any{"$ref": "#/$defs/anyOf_type_" + kind})
	}
	config["anyOf"] = items
}

// addNetplans adds to the schema for networks of version 2 the types that netplan takes, whose format that is, and the schema lacks.
func addNetplans(raw map[string]any) {
	for _, wider := range []struct {
		form, key string
		types     []any
	}{
		{"mapping_bond", "mii-monitor-interval", []any{"integer", "string"}}, {"mapping_bond", "arp-interval", []any{"integer", "string"}},
		{"mapping_bond", "up-delay", []any{"integer", "string"}}, {"mapping_bond", "down-delay", []any{"integer", "string"}},
		{"mapping_bond", "learn-packet-interval", []any{"integer", "string"}},
		{"mapping_bridge", "ageing-time", []any{"integer", "string"}}, {"mapping_bridge", "forward-delay", []any{"integer", "string"}},
		{"mapping_bridge", "hello-time", []any{"integer", "string"}}, {"mapping_bridge", "max-age", []any{"integer", "string"}},
		{"mapping_bridge", "path-cost", []any{"object"}},
	} {
		if key, ok := inside(raw, "$defs", wider.form, "properties", "parameters", "properties", wider.key).(map[string]any); ok {
			key["type"] = wider.types
		}
	}
	if items, ok := inside(raw, "$defs", "mapping", "properties", "addresses", "items").(map[string]any); ok {
		items["type"] = []any{"string", "object"}
	}
}

func merged(object map[string]any, key string, value any) map[string]any {
	object = maps.Clone(object)
	object[key] = value
	return object
}

// inside returns what is at the end of a path of keys; nil if there is nothing.
func inside(object map[string]any, path ...string) any {
	for _, key := range path[:len(path)-1] {
		object, _ = object[key].(map[string]any)
	}
	return object[path[len(path)-1]]
}

// description returns what an object of a schema says of its being deprecated or changed, without markup.
func description(object map[string]any, key string) string {
	text, ok := object[key+"_description"].(string)
	if !ok { // up to version 22
		if text, _ = object["description"].(string); len(text) > maxDescription {
			return ""
		}
	}
	return strings.TrimSuffix(strings.NewReplacer("**", "", "``", "").Replace(text), ".")
}

// annotated returns a copy of a schema in which a reference that is deprecated is more than a reference: beside one nothing else
// counts in draft 4, but cloud-init has it count.
func annotated(schema any) any {
	switch schema := schema.(type) {
	case map[string]any:
		object := make(map[string]any, len(schema))
		for key, value := range schema {
			object[key] = annotated(value)
		}
		if ref, ok := object["$ref"].(string); ok && (object["deprecated"] == true || object["changed"] == true) {
			delete(object, "$ref")
			object["allOf"] = []any{map[string]any{"$ref": ref}}
		}
		return object
	case []any:
		list := make([]any, 0, len(schema))
		for _, value := range schema {
			list = append(list, annotated(value))
		}
		return list
	}
	return schema
}

// Validate implements jsonschema.SchemaExt.
func (d *deprecated) Validate(ctx *jsonschema.ValidatorContext, _ any) { ctx.AddError(d) }

// KeywordPath implements jsonschema.ErrorKind.
func (d *deprecated) KeywordPath() []string { return []string{"deprecated"} }

// LocalizedString implements jsonschema.ErrorKind.
func (d *deprecated) LocalizedString(*message.Printer) string { return d.text }

// addDeprecated reports what is deprecated in a value that is fine otherwise.
func (t *translator) addDeprecated(e *jsonschema.ValidationError) {
	found, _ := deprecatedIn(e)
	for _, one := range found {
		t.report(one.InstanceLocation, "%s", one.ErrorKind.(*deprecated).text)
	}
	for i := range t.problems {
		t.problems[i].Warning = true
	}
}

// deprecatedIn returns the errors of that kind in e, and whether e has no others. Of several forms that a value may have, the
// one counts that it has.
func deprecatedIn(e *jsonschema.ValidationError) (found []*jsonschema.ValidationError, alone bool) {
	if _, ok := e.ErrorKind.(*deprecated); ok {
		return []*jsonschema.ValidationError{e}, true
	}
	alternatives := false
	switch e.ErrorKind.(type) {
	case *kind.OneOf, *kind.AnyOf:
		alternatives = true
	}
	alone = len(e.Causes) > 0 && !alternatives
	for _, cause := range e.Causes {
		of, only := deprecatedIn(cause)
		switch {
		case alternatives && only:
			return of, true
		case !alternatives:
			found, alone = slices.Concat(found, of), alone && only
		}
	}
	return found, alone
}
