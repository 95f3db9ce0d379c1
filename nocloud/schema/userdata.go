package schema

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// maxUnpacked bounds what gzip may become, in bytes.
	maxUnpacked = 16 << 20
	// maxParts bounds the parts of a message, and maxDepth how deep messages are in messages.
	maxParts = 256
	maxDepth = 8
	// mimeWindow is how far into user-data cloud-init looks for the sign of a MIME message.
	mimeWindow = 4096
	// maxSeen is how many problems of one document are worth a person's reading.
	maxSeen = 50
)

// starts are how cloud-init tells what user-data is (cloudinit/handlers/__init__.py), the longer first.
func starts() []struct{ prefix, kind string } {
	return []struct{ prefix, kind string }{
		{"#cloud-config-archive", archiveType},
		{"#cloud-config-jsonp", "text/cloud-config-jsonp"},
		{"#cloud-config", cloudConfigType},
		{"#cloud-boothook", "text/cloud-boothook"},
		{"#include-once", "text/x-include-once-url"},
		{"#include", "text/x-include-url"},
		{"#upstart-job", "text/upstart-job"},
		{"#part-handler", "text/part-handler"},
		{"## template: jinja", "text/jinja2"},
		{"#!", "text/x-shellscript"},
	}
}

const (
	cloudConfigType = "text/cloud-config"
	archiveType     = "text/cloud-config-archive"
)

// UserData validates user-data or vendor-data of any kind: each cloud-config in it, be it in a MIME message, an archive or
// compressed. What is a template for cloud-init's jinja can't be validated before it is filled in, and is passed over, as are scripts
// and all that is not cloud-config. s may be nil: then only the form is looked at.
func (s *Schemas) UserData(data []byte) []Problem {
	w := walker{schemas: s}
	w.data(data, 0, 0)
	return w.problems[:min(len(w.problems), maxSeen)]
}

type walker struct {
	schemas  *Schemas
	parts    int
	start    int // of the outermost message's part, by its line; 0 outside of one
	problems []Problem
}

// add adds problems of a text that starts after so many lines of the document; less than 0 is for a text that is not in
// it as it stands.
func (w *walker) add(before int, part string, problems ...Problem) {
	for _, p := range problems {
		p.Part = w.start
		switch {
		case p.Line > 0 && before >= 0:
			p.Line += before
		case p.Line > 0:
			p.Text = fmt.Sprintf("%s (line %d, column %d of %s)", p.Text, p.Line, p.Column, part)
			p.Line, p.Column = 0, 0
		}
		w.problems = append(w.problems, p)
	}
}

func (w *walker) data(data []byte, before, depth int) {
	if bytes.HasPrefix(data, []byte("\x1f\x8b")) {
		unpacked, err := unpack(data)
		if err != nil {
			w.add(before, "", Problem{Text: "starts as gzip does, and can't be unpacked"})
			return
		}
		data, before = unpacked, -1
	}
	if bytes.Contains(bytes.ToLower(data[:min(len(data), mimeWindow)]), []byte("mime-version:")) {
		if sniff(data) == "" {
			w.message(data, before, depth)
			return
		}
		w.spoilt(data, sniff(data), before, "the unpacked text") // a message without headers, and the same text if it is ASCII
	}
	w.text(data, "", before, "the unpacked text")
}

// spoilt reports what is not ASCII in the text of a message. cloud-init makes Latin-1 of it, or escapes, and fails at the YAML
// then.
func (w *walker) spoilt(data []byte, kind string, before int, part string) {
	at := bytes.IndexFunc(data, func(r rune) bool { return r >= utf8.RuneSelf })
	if at < 0 {
		return
	}
	w.add(before, part, Problem{
		Line: 1 + bytes.Count(data[:at], []byte("\n")), Column: utf8.RuneCount(data[bytes.LastIndexByte(data[:at], '\n')+1:at]) + 1, Warning: kind != cloudConfigType,
		Text: fmt.Sprintf("is not ASCII, which cloud-init spoils in what it takes for a MIME message, by a MIME-Version: in the first %d bytes: put it in base64", mimeWindow),
	})
}

// text validates what is no message. kind is what a message says that it is.
func (w *walker) text(data []byte, kind string, before int, part string) {
	found := sniff(data)
	switch kind {
	case "", "text/plain", "text/x-not-multipart", "text/x-shellscript":
		kind = found
	}
	switch {
	case len(bytes.TrimSpace(data)) > 0 && !isKnown(kind):
		w.add(before, part, Problem{Text: part + " is of a type that cloud-init knows nothing of: it passes over it, unless a part-handler is there for it", Warning: true})
	case kind == "" && len(bytes.TrimSpace(data)) > 0:
		w.add(before, part, Problem{Line: 1, Column: 1, Text: "is of no kind that cloud-init knows: its first line is #cloud-config, or #! with a program, or another of cloud-init's signs" + almost(data)})
	case kind == archiveType && found == archiveType:
		w.archive(data, before, part)
	case kind == cloudConfigType && found == "text/jinja2":
		w.add(before, part, Problem{Line: 1, Column: 1, Text: "is a template, which cloud-init fills in only if the part is of the type text/jinja2"})
	case kind == cloudConfigType && w.schemas != nil:
		w.add(before, part, w.schemas.CloudConfig(data)...)
	case kind == cloudConfigType:
		_, _, problems := decode(data)
		w.add(before, part, problems...)
	}
}

// isKnown is for the types that cloud-init has handlers for; "" is none yet.
func isKnown(kind string) bool {
	return kind == "" || strings.HasPrefix(kind, "text/x-shellscript-per-") ||
		slices.ContainsFunc(starts(), func(start struct{ prefix, kind string }) bool { return start.kind == kind })
}

// sniff returns the kind of a text by its start.
func sniff(data []byte) string {
	head := strings.ToLower(strings.TrimLeft(string(data[:min(len(data), mimeWindow)]), " \t\r\n\v\f"))
	for _, start := range starts() {
		if strings.HasPrefix(head, start.prefix) {
			return start.kind
		}
	}
	return ""
}

// almost says what the first line may have been meant for.
func almost(data []byte) string {
	line, _, _ := strings.Cut(strings.ToLower(string(data[:min(len(data), 80)])), "\n")
	letters := strings.Map(func(r rune) rune {
		if r < 'a' || r > 'z' {
			return -1
		}
		return r
	}, strings.TrimPrefix(line, "\ufeff"))
	if letters == "cloudconfig" {
		return "; here it looks like #cloud-config, but is not written so"
	}
	return ""
}

// message validates the parts of a MIME message.
func (w *walker) message(data []byte, before, depth int) {
	message, err := mail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		w.add(before, "", Problem{Text: "looks like a MIME message (it has MIME-Version:), and its headers can't be read"})
		return
	}
	body, err := io.ReadAll(message.Body)
	if err != nil {
		w.add(before, "", Problem{Text: "looks like a MIME message (it has MIME-Version:), and can't be read"})
		return
	}
	w.entity(message.Header.Get, body, lineOf(data, body, before), depth)
}

// lineOf returns how many lines of the document come before body, which is a part of data.
func lineOf(data, body []byte, before int) int {
	at := bytes.Index(data, body)
	if before < 0 || at < 0 || len(body) == 0 {
		return -1
	}
	return before + bytes.Count(data[:at], []byte("\n"))
}

// entity validates a message or a part, by its headers.
func (w *walker) entity(header func(string) string, body []byte, before, depth int) {
	w.parts++
	if w.parts > maxParts || depth > maxDepth {
		if w.parts == maxParts+1 || depth > maxDepth {
			w.add(before, "", Problem{Text: fmt.Sprintf("has more than %d parts, or parts more than %d levels deep", maxParts, maxDepth)})
		}
		return
	}
	name := fmt.Sprintf("part %d", w.parts)
	kind, parameters, err := mime.ParseMediaType(header("Content-Type"))
	if err != nil {
		kind = ""
	}
	if strings.HasPrefix(kind, "multipart/") {
		w.parts--
		reader := multipart.NewReader(bytes.NewReader(body), parameters["boundary"])
		read := 0 // how much of body
		for first := true; ; first = false {
			part, err := reader.NextRawPart()
			if errors.Is(err, io.EOF) && !first {
				return
			}
			if err != nil {
				w.add(before, "", Problem{Text: "is a MIME message whose parts can't be told apart: look at the boundary, and at the line that ends the last part"})
				return
			}
			content, err := io.ReadAll(part)
			at := -1
			if i := bytes.Index(body[read:], content); i >= 0 && len(content) > 0 && before >= 0 {
				at = before + bytes.Count(body[:read+i], []byte("\n"))
				read += i + len(content)
			}
			if depth == 0 {
				w.start = at + 1
			}
			w.entity(part.Header.Get, content, at, depth+1)
			if depth == 0 {
				w.start = 0
			}
			if err != nil { // cloud-init takes what there is
				w.add(before, "", Problem{Text: "is a MIME message that ends within a part: the line that ends the last part is missing", Warning: true})
				return
			}
		}
	}
	decoded, raw, err := transfer(header("Content-Transfer-Encoding"), body)
	if err != nil {
		w.add(before, name, Problem{Text: name + " of the MIME message is not in the encoding that it says"})
		return
	}
	if !raw {
		before = -1
	}
	if isCompressed(kind) {
		if decoded, err = unpack(decoded); err != nil {
			w.add(before, name, Problem{Text: name + " of the MIME message says that it is compressed, and can't be unpacked"})
			return
		}
		kind, before = "", -1
	}
	if raw {
		w.spoilt(decoded, sniff(decoded), before, name)
	}
	w.text(decoded, kind, before, name)
}

// isCompressed is for the types that cloud-init unpacks.
func isCompressed(kind string) bool {
	return strings.Contains(kind, "gzip") || strings.HasPrefix(kind, "application/x-compress") || kind == "application/x-gunzip"
}

// transfer undoes a Content-Transfer-Encoding; raw means that there was none.
func transfer(encoding string, body []byte) (decoded []byte, raw bool, err error) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "base64":
		decoded, err = io.ReadAll(base64.NewDecoder(base64.StdEncoding, bytes.NewReader(bytes.Join(bytes.Fields(body), nil))))
		return decoded, false, err
	case "quoted-printable":
		decoded, err = io.ReadAll(quotedprintable.NewReader(bytes.NewReader(body)))
		return decoded, false, err
	}
	return body, true, nil
}

func unpack(data []byte) ([]byte, error) {
	reader, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	unpacked, err := io.ReadAll(io.LimitReader(reader, maxUnpacked+1))
	if err == nil && len(unpacked) > maxUnpacked {
		err = errors.New("too big")
	}
	return unpacked, err
}
