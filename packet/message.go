package packet

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// Bounds of the messages. A message that goes beyond one is refused as a whole.
const (
	// Version is the version of the protocol that the messages of this file belong to.
	Version = 2
	// MaxDocument is the largest document, decoded or encoded: it has to fit in a small guest's memory twice.
	MaxDocument = 32 << 20
	// MinChunk is what a client never goes below: a line that can't carry it can carry nothing.
	MinChunk = 256
	// DefaultChunk bounds an answer to what a line of 115200 baud carries in two seconds: a host that has a vMotion to
	// announce waits five for what is queued ahead of it.
	DefaultChunk = 16 << 10
	// MaxChunk is the most that a server may announce.
	MaxChunk = 64 << 10
	// MaxNICs is the most that a hello may name: a VM has 10, and the rest is room for SR-IOV.
	MaxNICs = 64

	maxVersions  = 16
	maxEncodings = 8
	maxDocuments = 16
	maxName      = 64  // of a NIC, a document, an encoding, a stage
	maxToken     = 128 // an agent, a nonce, a generation, a boot ID
	maxText      = 1024
)

// Gzip is the one encoding there is, RFC 1952.
const Gzip = "gzip"

// ErrorCode says why a request failed.
type ErrorCode string

// The error codes.
const (
	NotFound    ErrorCode = "not-found"   // nothing is known for this VM, or it has no such document
	Invalid     ErrorCode = "invalid"     // there is data, and it is wrong
	Unavailable ErrorCode = "unavailable" // the server could not find out; worth another try
	Denied      ErrorCode = "denied"      // this VM may not have it, or not any more
	Stale       ErrorCode = "stale"       // version 2: the data changed under the transfer; say hello again
	BadRequest  ErrorCode = "bad-request" // not understood
)

// Valid says whether c is a known code.
func (c ErrorCode) Valid() bool {
	switch c {
	case NotFound, Invalid, Unavailable, Denied, Stale, BadRequest:
		return true
	}
	return false
}

// Error is what RESPONSE_ERROR carries.
type Error struct {
	// Request is the code of the request that failed; empty if it could not be made out.
	Request Code `json:"request"`
	// Code is one of the error codes.
	Code ErrorCode `json:"code"`
	// Message is for the guest's log: no secrets, at most 1 KiB.
	Message string `json:"message"`
}

func (e *Error) Error() string {
	if e.Message == "" {
		return "the server says " + string(e.Code)
	}
	return "the server says " + string(e.Code) + ": " + e.Message
}

// Append appends the error's JSON. A message that is too long is cut.
func (e *Error) Append(dst []byte) []byte {
	short := *e
	short.Message = cut(short.Message, maxText)
	return appendJSON(dst, &short)
}

// AppendFrame appends the whole RESPONSE_ERROR.
func (e *Error) AppendFrame(dst []byte) []byte { return AppendFrame(dst, ResponseError, e.Append(nil)) }

// ParseError parses the data of RESPONSE_ERROR. A code that is not known is taken as it stands; control characters in
// the message become blanks, since it ends on terminals.
func ParseError(data []byte) (*Error, error) {
	var e Error
	if err := parse(data, &e); err != nil {
		return nil, err
	}
	e.Message = withoutControls(cut(e.Message, maxText))
	return &e, first(text("request", string(e.Request), 0, MaxCode), text("code", string(e.Code), 1, maxName))
}

func withoutControls(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

// Hello is what REQUEST_HELLO carries: who asks, and what it understands.
type Hello struct {
	Versions []int `json:"versions"`
	// Agent is the client's name and version: "NAME/VERSION".
	Agent string `json:"agent,omitempty"`
	// Encodings are those that the client can undo.
	Encodings []string `json:"encodings,omitempty"`
	// Nonce ties the answer to this question.
	Nonce string `json:"nonce"`
	// NICs are the guest's physical network interfaces, in kernel order.
	NICs []NIC `json:"nics,omitempty"`
}

// NIC is a network interface as its guest sees it.
type NIC struct {
	Name string `json:"name"`
	// MAC is six bytes in lower-case hexadecimal, with colons.
	MAC string `json:"mac"`
}

// Accepts says whether the client can undo an encoding.
func (h *Hello) Accepts(encoding string) bool {
	for _, e := range h.Encodings {
		if e == encoding {
			return true
		}
	}
	return false
}

// Append appends the message, sealed with its CRC.
func (h *Hello) Append(dst []byte) []byte { return appendSealed(dst, h) }

// ParseHello parses the data of REQUEST_HELLO. NICs whose name or MAC address can't be one are left out.
func ParseHello(data []byte) (*Hello, error) {
	var h Hello
	if err := parseSealed(data, &h); err != nil {
		return nil, err
	}
	err := first(
		count("versions", len(h.Versions), maxVersions), text("agent", h.Agent, 0, maxToken),
		count("encodings", len(h.Encodings), maxEncodings), text("nonce", h.Nonce, 1, maxToken),
		count("nics", len(h.NICs), MaxNICs),
	)
	for _, e := range h.Encodings {
		err = first(err, text("encodings", e, 1, maxName))
	}
	if err != nil {
		return nil, err
	}
	kept := h.NICs[:0]
	for _, nic := range h.NICs {
		nic.MAC = strings.ToLower(nic.MAC)
		if text("name", nic.Name, 1, maxName) == nil && isMAC(nic.MAC) {
			kept = append(kept, nic)
		}
	}
	h.NICs = kept
	return &h, nil
}

// HelloReply is what RESPONSE_HELLO carries: what there is to fetch.
type HelloReply struct {
	Version int `json:"version"`
	// Nonce is the question's.
	Nonce string `json:"nonce"`
	// Generation names this content, encodings included.
	Generation string `json:"generation"`
	// MaxChunk is the most that one REQUEST_CHUNK gets, 1 to MaxChunk.
	MaxChunk int `json:"max_chunk"`
	// Documents are those that the VM has.
	Documents map[Document]DocumentInfo `json:"documents"`
}

// DocumentInfo says what a document must be once it is fetched and decoded.
type DocumentInfo struct {
	Size int64 `json:"size"`
	// SHA256 is of the decoded document, in lower-case hexadecimal.
	SHA256 string `json:"sha256"`
	// Encoding is empty for a document that is sent as it is.
	Encoding string `json:"encoding,omitempty"`
	// EncodedSize is how many bytes there are to fetch; Size, where Encoding is empty.
	EncodedSize int64 `json:"encoded_size"`
}

// Append appends the message, sealed with its CRC.
func (r *HelloReply) Append(dst []byte) []byte { return appendSealed(dst, r) }

// ParseHelloReply parses the data of RESPONSE_HELLO. Documents that this package doesn't know are left out.
func ParseHelloReply(data []byte) (*HelloReply, error) {
	var r HelloReply
	if err := parseSealed(data, &r); err != nil {
		return nil, err
	}
	err := first(
		text("nonce", r.Nonce, 1, maxToken), text("generation", r.Generation, 1, maxToken),
		number("max_chunk", int64(r.MaxChunk), 1, MaxChunk), count("documents", len(r.Documents), maxDocuments),
	)
	for name, info := range r.Documents {
		if !name.Valid() {
			delete(r.Documents, name)
			continue
		}
		if info.Encoding == "" && info.EncodedSize == 0 {
			info.EncodedSize = info.Size
			r.Documents[name] = info
		}
		err = first(err, info.check())
	}
	if err != nil {
		return nil, err
	}
	return &r, nil
}

func (i *DocumentInfo) check() error {
	if sum, err := hex.DecodeString(i.SHA256); err != nil || len(sum) != 32 {
		return errors.New("sha256 is not 64 hexadecimal digits")
	}
	if i.Encoding == "" && i.EncodedSize != i.Size {
		return errors.New("encoded_size differs from size, and there is no encoding")
	}
	return first(number("size", i.Size, 0, MaxDocument), number("encoded_size", i.EncodedSize, 0, MaxDocument),
		text("encoding", i.Encoding, 0, maxName))
}

// ChunkRequest is what REQUEST_CHUNK carries. Offset and Length count encoded bytes.
type ChunkRequest struct {
	Generation string   `json:"generation"`
	Document   Document `json:"document"`
	Offset     int64    `json:"offset"`
	Length     int64    `json:"length"`
}

// Append appends the message.
func (r *ChunkRequest) Append(dst []byte) []byte { return appendJSON(dst, r) }

// ParseChunkRequest parses the data of REQUEST_CHUNK.
func ParseChunkRequest(data []byte) (*ChunkRequest, error) {
	var r ChunkRequest
	if err := parse(data, &r); err != nil {
		return nil, err
	}
	err := first(text("generation", r.Generation, 1, maxToken), text("document", string(r.Document), 1, maxName),
		number("offset", r.Offset, 0, MaxDocument), number("length", r.Length, 1, MaxDocument))
	if err != nil {
		return nil, err
	}
	return &r, nil
}

// Chunk is what RESPONSE_CHUNK carries: a piece of an encoded document. Its JSON, on a line of its own, is followed by
// the bytes.
type Chunk struct {
	Document Document
	Offset   int64
	Data     []byte
	// Generation is the request's. A server may leave it out.
	Generation string
}

type chunkHead struct {
	Document   Document `json:"document"`
	Offset     int64    `json:"offset"`
	Length     int64    `json:"length"`
	CRC32C     string   `json:"crc32c"`
	Generation string   `json:"generation,omitempty"`
}

// Append appends the message, with its CRC.
func (c *Chunk) Append(dst []byte) []byte {
	dst = appendJSON(dst, &chunkHead{c.Document, c.Offset, int64(len(c.Data)), crc(c.Data), c.Generation})
	dst = append(dst, '\n')
	return append(dst, c.Data...)
}

// ParseChunk parses the data of RESPONSE_CHUNK and checks length and CRC. The Chunk's Data is part of data.
func ParseChunk(data []byte) (*Chunk, error) {
	line, raw, ok := bytes.Cut(data, []byte{'\n'})
	if !ok {
		return nil, errors.New("chunk: no line end behind the JSON")
	}
	var h chunkHead
	if err := parse(line, &h); err != nil {
		return nil, err
	}
	err := first(text("document", string(h.Document), 1, maxName), text("generation", h.Generation, 0, maxToken),
		number("offset", h.Offset, 0, MaxDocument), number("length", h.Length, 0, MaxChunk))
	switch {
	case err != nil:
		return nil, err
	case h.Length != int64(len(raw)):
		return nil, fmt.Errorf("chunk: %d bytes came, and length says %d", len(raw), h.Length)
	case h.CRC32C != crc(raw):
		return nil, errors.New("chunk: the CRC does not match")
	}
	return &Chunk{h.Document, h.Offset, raw, h.Generation}, nil
}

// Report is what REQUEST_REPORT carries: what the guest has to say back. The answer's data is {}.
type Report struct {
	// BootID is the kernel's, the same for all reports of one boot.
	BootID string `json:"boot_id"`
	// Stage is what the report is about: "seed" once a seed was written, or was there already, or could not be written.
	Stage string `json:"stage"`
	// Generation is what the seed was made from.
	Generation string `json:"generation,omitempty"`
	// InstanceID is the seed's.
	InstanceID string `json:"instance_id,omitempty"`
	// Result is "ok", or a word for what went wrong, and Message a line, for people.
	Result  string `json:"result,omitempty"`
	Message string `json:"message,omitempty"`
}

// Append appends the message, sealed with its CRC. Of the line for people, what is too long is cut, and breaks become blanks.
func (r *Report) Append(dst []byte) []byte {
	short := *r
	short.Message = cut(withoutControls(short.Message), maxText)
	return appendSealed(dst, &short)
}

// ParseReport parses the data of REQUEST_REPORT.
func ParseReport(data []byte) (*Report, error) {
	var r Report
	if err := parseSealed(data, &r); err != nil {
		return nil, err
	}
	err := first(text("boot_id", r.BootID, 1, maxToken), text("stage", r.Stage, 1, maxName),
		text("generation", r.Generation, 0, maxToken), text("instance_id", r.InstanceID, 0, maxText),
		text("result", r.Result, 0, maxName), text("message", r.Message, 0, maxText))
	if err != nil {
		return nil, err
	}
	return &r, nil
}
