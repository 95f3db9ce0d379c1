package layer

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"unicode/utf8"

	"vmw-cloudinit-metadata/metadata"
)

const (
	// maxUnpacked bounds what gzip in a layer may become, in bytes.
	maxUnpacked = 16 << 20
	// maxLine is the longest line that a message may have as it is (RFC 5322, 2.1.1), without its end.
	maxLine = 998
	// base64Line is how long the lines of base64 are (RFC 2045, 6.8).
	base64Line = 76
	// mimeWindow is how far into user-data cloud-init looks for the sign of a MIME message.
	mimeWindow = 4096
)

// part is one layer's user-data or vendor-data.
type part struct {
	section string
	data    []byte
	origin  metadata.Origin
}

// combine returns the one part as it is, or a MIME message of several. Equal parts give equal messages.
func combine(parts []part, from *origin) ([]byte, error) {
	for _, p := range parts {
		from.text(p.section, p.origin)
	}
	switch len(parts) {
	case 0:
		return nil, nil
	case 1:
		from.parts = append(from.parts, messagePart{section: parts[0].section, origin: parts[0].origin, whole: true})
		return parts[0].data, nil
	}
	hash := sha256.New()
	bodies := make([][]byte, 0, len(parts))
	for _, p := range parts {
		body, err := p.body()
		if err != nil {
			return nil, err
		}
		bodies = append(bodies, body)
		hash.Write(body) // no error: a Hash never has one
	}
	boundary := fmt.Sprintf("layers-%x", hash.Sum(nil)[:16])
	var message bytes.Buffer
	fmt.Fprintf(&message, "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"%s\"\n", boundary)
	for i, body := range bodies {
		fmt.Fprintf(&message, "\n--%s\n", boundary)
		headers, whole := bytes.CutSuffix(body, parts[i].data) // not encoded
		if !whole {
			headers, _, _ = bytes.Cut(body, []byte("\n\n"))
		}
		start := bytes.Count(message.Bytes(), []byte("\n")) + 1
		from.parts = append(from.parts, messagePart{
			section: parts[i].section, origin: parts[i].origin, whole: whole,
			start: start, first: start + bytes.Count(headers, []byte("\n")), last: start + bytes.Count(body, []byte("\n")),
		})
		message.Write(body) // the newline before a boundary belongs to it (RFC 2046, 5.1.1)
	}
	fmt.Fprintf(&message, "\n--%s--\n", boundary)
	return message.Bytes(), nil
}

// body returns headers and content of the part. What is a MIME message already becomes a part whole, with its own parts
// in it: cloud-init walks down.
func (p part) body() ([]byte, error) {
	data := p.data
	if bytes.HasPrefix(data, []byte("\x1f\x8b")) {
		var err error
		if data, err = unpack(data); err != nil {
			e := &metadata.DataError{Path: p.section, Problem: "starts as gzip does and can't be unpacked, which it must be to stand beside another layer's: " + err.Error()}
			if p.origin != nil {
				e.Origin = p.origin.Locate(p.section)
			}
			return nil, e
		}
	}
	if isMessage(data) {
		if bytes.HasPrefix(data, []byte("From ")) { // a mailbox's line, which is no header
			_, data, _ = bytes.Cut(data, []byte("\n"))
		}
		return data, nil
	}
	// cloud-init finds out from the content what a text/plain is, as it does where user-data is no message.
	header := "Content-Type: text/plain; charset=\"utf-8\"\n"
	if isMailText(data) {
		return append([]byte(header+"Content-Transfer-Encoding: 7bit\n\n"), data...), nil
	}
	encoded := base64.StdEncoding.AppendEncode(nil, data)
	body := []byte(header + "Content-Transfer-Encoding: base64\n\n")
	for len(encoded) > base64Line {
		body = append(append(body, encoded[:base64Line]...), '\n')
		encoded = encoded[base64Line:]
	}
	return append(body, encoded...), nil
}

// isMessage is for what cloud-init takes for a MIME message by its start, unless it starts as no header can: with one of the signs
// of other user-data, that has a mail in it.
func isMessage(data []byte) bool {
	head := bytes.ToLower(data[:min(len(data), mimeWindow)])
	return bytes.Contains(head, []byte("mime-version:")) && utf8.Valid(data) && !bytes.HasPrefix(bytes.TrimSpace(head), []byte("#"))
}

// isMailText is for text that stands in a message as it is, to the byte: ASCII, without CR or NUL, with lines that are
// not too long, and no line that could be taken for a boundary or a mailbox's.
func isMailText(data []byte) bool {
	for line := range bytes.Lines(data) {
		if len(line) > maxLine || bytes.HasPrefix(line, []byte("--layers-")) || bytes.HasPrefix(line, []byte("From ")) {
			return false
		}
	}
	return !bytes.ContainsFunc(data, func(r rune) bool {
		return r == 0 || r == '\r' || r == '\f' || r == '\v' || r >= 0x1c && r <= 0x1e || r >= utf8.RuneSelf
	})
}

func unpack(data []byte) ([]byte, error) {
	reader, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	unpacked, err := io.ReadAll(io.LimitReader(reader, maxUnpacked+1))
	if err != nil {
		return nil, err
	}
	if len(unpacked) > maxUnpacked {
		return nil, fmt.Errorf("more than %d MiB", maxUnpacked>>20)
	}
	return unpacked, nil
}
