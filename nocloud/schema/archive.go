package schema

import (
	"fmt"
	"strconv"
	"strings"
)

// maxEntries bounds the entries of an archive that are looked at.
const maxEntries = 256

// archive validates a #cloud-config-archive: a list of texts, or of mappings with a content each and its type. cloud-init processes
// no user-data at all if it can't make a message of an entry.
func (w *walker) archive(data []byte, before int, part string) {
	value, places, problems := decode(data)
	w.add(before, part, problems...)
	if isWrong(problems) || value == nil {
		return
	}
	entries, ok := value.([]any)
	if !ok {
		w.add(before, part, Problem{Line: 1, Column: 1, Text: "must be a list: texts, or mappings with a content and its type"})
		return
	}
	for i, item := range entries[:min(len(entries), maxEntries)] {
		path := strconv.Itoa(i)
		entry, ok := item.(map[string]any)
		if text, isText := item.(string); isText {
			entry, ok = map[string]any{"content": text}, true
		}
		content, isText := entry["content"].(string)
		kind, hasKind := entry["type"].(string)
		var problem Problem
		switch {
		case !ok:
			problem = Problem{Text: "must be text, or a mapping with a content and its type", Warning: true} // is passed over
		case entry["content"] != nil && !isText:
			path, problem.Text = path+".content", "must be text"
		case entry["type"] != nil && (!hasKind || strings.Count(kind, "/") != 1):
			path, problem.Text = path+".type", "must be a type as in a MIME message, such as text/cloud-config"
		}
		if problem.Text != "" {
			at := places[path]
			problem.Line, problem.Column, problem.Path = at.line, at.column, path
			w.add(before, part, problem)
			continue
		}
		if kind == "" {
			if kind = sniff([]byte(content)); kind == "" {
				kind = cloudConfigType
			}
		}
		w.text([]byte(content), kind, -1, fmt.Sprintf("entry %d of the archive", i+1))
	}
}
