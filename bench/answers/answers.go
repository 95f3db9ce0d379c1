// Package answers holds the questions of a guest, as protocol version 1 has them, and prepared answers to them. It
// knows no more of the protocol than the benchmark's floors and load need, and shares no code with the server.
package answers

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
)

// Question is one of the three things that a guest asks for as it boots.
type Question uint8

// The questions, in the order in which guests ask.
const (
	MetaData Question = iota
	NetworkData
	UserData
	Questions // their number
)

func (q Question) String() string { return [...]string{"METADATA", "NETWORKDATA", "USERDATA"}[q] }

// AppendRequest appends the line that asks q.
func (q Question) AppendRequest(dst []byte) []byte {
	return append(append(append(dst, "!!REQUEST_"...), q.String()...), "#\n"...)
}

// Prefix begins the line that answers q; base64 and a line feed follow.
func (q Question) Prefix() string { return "!!RESPONSE_" + q.String() + "#" }

// Parse returns the question that a line, with or without its end, asks.
func Parse(line []byte) (Question, bool) {
	switch string(bytes.TrimRight(line, "\r\n")) {
	case "!!REQUEST_METADATA#":
		return MetaData, true
	case "!!REQUEST_NETWORKDATA#":
		return NetworkData, true
	case "!!REQUEST_USERDATA#":
		return UserData, true
	}
	return 0, false
}

// Set holds the line that answers each question, ready for the wire: base64 has no 0xFF that telnet would double.
type Set [Questions][]byte

// Line is a document as the answer to q.
func (q Question) Line(document []byte) []byte {
	line := base64.StdEncoding.AppendEncode([]byte(q.Prefix()), document)
	return append(line, '\n')
}

// Document is what a line answers q with.
func (q Question) Document(line []byte) ([]byte, error) {
	encoded, ok := bytes.CutPrefix(line, []byte(q.Prefix()))
	if !ok {
		return nil, fmt.Errorf("the answer to %s begins with %q, want %q", q, line[:min(len(line), 40)], q.Prefix())
	}
	encoded, ok = bytes.CutSuffix(encoded, []byte("\n"))
	if !ok {
		return nil, fmt.Errorf("the answer to %s has no end", q)
	}
	document, err := base64.StdEncoding.AppendDecode(nil, encoded)
	if err != nil {
		return nil, fmt.Errorf("the answer to %s: %w", q, err)
	}
	return document, nil
}

// Save writes the set into dir, which it makes.
func (s *Set) Save(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for q := range Questions {
		if err := os.WriteFile(filepath.Join(dir, q.String()), s[q], 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Load reads what Save wrote.
func Load(dir string) (*Set, error) {
	var s Set
	for q := range Questions {
		line, err := os.ReadFile(filepath.Join(dir, q.String()))
		if err != nil {
			return nil, err
		}
		if _, err := q.Document(line); err != nil {
			return nil, err
		}
		s[q] = line
	}
	return &s, nil
}
