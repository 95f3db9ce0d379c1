package schema

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"vmw-cloudinit-metadata/internal/nearest"
)

// maxListed is how many allowed values or keys a message lists.
const maxListed = 12

// translator makes sentences of a schema's errors.
type translator struct {
	schema   any
	places   map[string]place
	root     []string // the path of what was validated
	lenient  bool     // see document
	problems []Problem
}

func (t *translator) sorted() []Problem {
	slices.SortStableFunc(t.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.Compact(t.problems)
}

func (t *translator) report(path []string, format string, args ...any) {
	path = slices.Concat(t.root, path)
	p := Problem{Path: strings.Join(path, "."), Text: fmt.Sprintf(format, args...)}
	for near := path; ; near = near[:len(near)-1] {
		if at, ok := t.places[strings.Join(near, ".")]; ok {
			if p.Line, p.Column = at.line, at.column; at.date && len(near) == len(path) {
				p.Text = "is a date to YAML, and must be text: put it in quotes"
			}
			break
		}
		if len(near) == 0 {
			break
		}
	}
	t.problems = append(t.problems, p)
}

// add reports an error, or those that it is made of.
func (t *translator) add(e *jsonschema.ValidationError) {
	at := e.InstanceLocation
	switch k := e.ErrorKind.(type) {
	case *kind.OneOf:
		if len(k.Subschemas) > 0 {
			t.report(at, "is of two forms at once, of which it may have one")
			return
		}
		t.alternatives(e)
	case *kind.AnyOf:
		t.alternatives(e)
	case *kind.Type:
		t.report(at, "must be %s, not %s", nameTypes(k.Want), nameTypes([]string{k.Got}))
	case *kind.Enum:
		t.report(at, "must be one of %s", listValues(k.Want))
	case *kind.AdditionalProperties:
		known := t.knownKeys(e.SchemaURL)
		for _, key := range k.Properties {
			path := append(slices.Clone(at), key)
			if meant, _ := nearest.Word(key, known); meant == "" && t.lenient {
				t.report(path, "is not in cloud-init's schema: netplan may know it; where there is none, cloud-init passes it over or fails")
				t.problems[len(t.problems)-1].Warning = true
				continue
			}
			t.report(path, "there is no such key here%s", hint(key, known))
		}
	case *kind.Required:
		t.report(at, "lacks %s", strings.Join(k.Missing, ", "))
	case *kind.Dependency:
		t.report(at, "has %s, which needs %s beside it", k.Prop, strings.Join(k.Missing, ", "))
	case *kind.MinItems:
		t.report(at, "needs at least %s", count(k.Want, "item"))
	case *kind.MaxItems:
		t.report(at, "takes at most %s", count(k.Want, "item"))
	case *kind.AdditionalItems:
		t.report(at, "has %s too many", count(k.Count, "item"))
	case *kind.MinProperties:
		t.report(at, "needs at least %s", count(k.Want, "key"))
	case *kind.MaxProperties:
		t.report(at, "takes at most %s", count(k.Want, "key"))
	case *kind.UniqueItems:
		t.report(append(slices.Clone(at), strconv.Itoa(k.Duplicates[1])), "is the same as item %d", k.Duplicates[0])
	case *kind.MinLength:
		t.report(at, "needs at least %s", count(k.Want, "character"))
	case *kind.MaxLength:
		t.report(at, "takes at most %s", count(k.Want, "character"))
	case *kind.Pattern:
		t.report(at, "does not have the form %s", k.Want)
	case *kind.Format:
		t.report(at, "is not a valid %s", k.Want)
	case *kind.Minimum:
		t.report(at, "must be at least %s", k.Want.RatString())
	case *kind.Maximum:
		t.report(at, "must be at most %s", k.Want.RatString())
	default:
		if len(e.Causes) == 0 {
			t.report(at, "is not what cloud-init's schema allows")
		}
		for _, cause := range e.Causes {
			t.add(cause)
		}
	}
}

// alternatives reports why a value is none of several forms: by the form that it comes nearest to.
func (t *translator) alternatives(e *jsonschema.ValidationError) {
	var wanted []string
	var got string
	var best []*jsonschema.ValidationError
	bestDepth := len(e.InstanceLocation)
	causes := slices.DeleteFunc(slices.Clone(e.Causes), func(cause *jsonschema.ValidationError) bool { return isOfAnotherType(cause, bestDepth) })
	if len(causes) == 0 {
		causes = e.Causes
	}
	for _, cause := range causes {
		if types := mismatch(cause, len(e.InstanceLocation)); len(types) > 0 {
			got = types[0].Got
			for _, k := range types {
				wanted = append(wanted, k.Want...)
			}
			continue
		}
		switch depth := deepest(cause); {
		case depth > bestDepth:
			best, bestDepth = []*jsonschema.ValidationError{cause}, depth
		case depth == bestDepth:
			best = append(best, cause)
		}
	}
	switch {
	case len(best) == 0 && len(wanted) > 0:
		t.report(e.InstanceLocation, "must be %s, not %s", nameTypes(wanted), nameTypes([]string{got}))
	case len(best) == 1 || bestDepth > len(e.InstanceLocation):
		t.add(best[0])
	case len(best) > 1:
		var texts []string
		for _, cause := range best {
			one := translator{schema: t.schema, places: t.places, root: t.root, lenient: t.lenient}
			one.add(cause)
			for _, problem := range one.problems {
				texts = append(texts, problem.Text)
			}
		}
		t.report(e.InstanceLocation, "%s", strings.Join(texts, ", or "))
	default:
		t.report(e.InstanceLocation, "is not what cloud-init's schema allows")
	}
}

// mismatch returns the types that the value at depth should have, if that is what is wrong.
func mismatch(e *jsonschema.ValidationError, depth int) []*kind.Type {
	if k, ok := e.ErrorKind.(*kind.Type); ok && len(e.InstanceLocation) == depth {
		return []*kind.Type{k}
	}
	var found []*kind.Type
	for _, cause := range e.Causes {
		types := mismatch(cause, depth)
		switch e.ErrorKind.(type) {
		case *kind.OneOf, *kind.AnyOf:
			if len(types) == 0 {
				return nil // this form has the right type
			}
			found = append(found, types...)
		default:
			if len(types) > 0 {
				return types
			}
		}
	}
	return found
}

// isOfAnotherType is for a form with another word for the type than the value at depth has.
func isOfAnotherType(e *jsonschema.ValidationError, depth int) bool {
	if _, ok := e.ErrorKind.(*kind.Enum); ok && len(e.InstanceLocation) == depth+1 && e.InstanceLocation[depth] == "type" {
		return true
	}
	return slices.ContainsFunc(e.Causes, func(cause *jsonschema.ValidationError) bool { return isOfAnotherType(cause, depth) })
}

// deepest returns how far below the root the deepest error is.
func deepest(e *jsonschema.ValidationError) int {
	depth := len(e.InstanceLocation)
	for _, cause := range e.Causes {
		depth = max(depth, deepest(cause))
	}
	return depth
}

// knownKeys returns the keys that the schema at a URL's fragment names.
func (t *translator) knownKeys(url string) []string {
	_, pointer, _ := strings.Cut(url, "#")
	value := t.schema
	for step := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		if step == "" {
			continue
		}
		step = strings.NewReplacer("%24", "$", "~1", "/", "~0", "~").Replace(step)
		switch v := value.(type) {
		case map[string]any:
			value = v[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(v) {
				return nil
			}
			value = v[i]
		default:
			return nil
		}
	}
	object, _ := value.(map[string]any)
	properties, _ := object["properties"].(map[string]any)
	var keys []string
	for key := range properties {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func hint(key string, known []string) string {
	if meant, _ := nearest.Word(key, known); meant != "" {
		return ": did you mean " + meant + "?"
	}
	if len(known) == 0 || len(known) > maxListed {
		return ""
	}
	return ": known are " + strings.Join(known, ", ")
}

func count(n int, what string) string {
	if n == 1 {
		return "one " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func nameTypes(types []string) string {
	names := map[string]string{
		"object": "a mapping", "array": "a list", "string": "text", "boolean": "true or false", "integer": "a whole number", "number": "a number", "null": "nothing",
	}
	var named []string
	for _, name := range types {
		if names[name] != "" {
			name = names[name]
		}
		if !slices.Contains(named, name) {
			named = append(named, name)
		}
	}
	if len(named) > 2 {
		named = append([]string{strings.Join(named[:len(named)-1], ", ")}, named[len(named)-1])
	}
	return strings.Join(named, " or ")
}

func listValues(values []any) string {
	var texts []string
	for _, value := range values {
		texts = append(texts, fmt.Sprint(value))
	}
	if len(texts) > maxListed {
		texts = append(texts[:maxListed], "…")
	}
	return strings.Join(texts, ", ")
}
