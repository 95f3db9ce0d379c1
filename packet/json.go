package packet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// The seal is the last key of a message's object: the CRC-32C of all the text ahead of its comma. It is there for the
// messages that nothing else protects: a flipped bit in a MAC address is a MAC address.
const (
	sealHead = `,"crc32c":"`
	sealTail = `"}`
	sealLen  = len(sealHead) + 8 + len(sealTail)
)

func appendSealed(dst []byte, message any) []byte {
	start := len(dst)
	dst = appendJSON(dst, message)
	dst = dst[:len(dst)-1]
	sum := crc(dst[start:])
	dst = append(dst, sealHead...)
	dst = append(dst, sum...)
	return append(dst, sealTail...)
}

// parseSealed takes a message without a seal, too: a client by hand may leave it out.
func parseSealed(data []byte, message any) error {
	if at := len(data) - sealLen; at >= 0 {
		head, seal := data[:at], data[at:]
		if bytes.HasPrefix(seal, []byte(sealHead)) && string(seal[len(sealHead):len(sealHead)+8]) != crc(head) {
			return errors.New("the message's CRC does not match")
		}
	}
	return parse(data, message)
}

// Sealed says whether a message ends with its CRC, right or wrong.
func Sealed(data []byte) bool {
	at := len(data) - sealLen
	return at >= 0 && bytes.HasPrefix(data[at:], []byte(sealHead)) && bytes.HasSuffix(data, []byte(sealTail))
}

func crc(data []byte) string {
	sum := crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
	digits := strconv.FormatUint(1<<32|uint64(sum), 16)
	return digits[1:]
}

// appendJSON marshals the messages of this file, for which that can't fail.
func appendJSON(dst []byte, message any) []byte {
	buffer := bytes.NewBuffer(dst)
	encoder := json.NewEncoder(buffer)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(message)
	return bytes.TrimSuffix(buffer.Bytes(), []byte{'\n'})
}

func parse(data []byte, message any) error {
	if !utf8.Valid(data) {
		return errors.New("the message is not UTF-8")
	}
	if err := json.Unmarshal(data, message); err != nil {
		return fmt.Errorf("the message is not the JSON it should be: %w", err)
	}
	return nil
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// text refuses what would not fit in a log line.
func text(key, value string, least, most int) error {
	if len(value) < least || len(value) > most {
		return fmt.Errorf("%s has %d bytes, and may have %d to %d", key, len(value), least, most)
	}
	for _, r := range value {
		if unicode.IsControl(r) {
			return fmt.Errorf("%s has a control character in it", key)
		}
	}
	return nil
}

func number(key string, value, least, most int64) error {
	if value < least || value > most {
		return fmt.Errorf("%s is %d, and may be %d to %d", key, value, least, most)
	}
	return nil
}

func count(key string, n, most int) error {
	if n > most {
		return fmt.Errorf("%s has %d entries, and may have %d", key, n, most)
	}
	return nil
}

func isMAC(mac string) bool {
	if len(mac) != len("00:50:56:00:00:00") {
		return false
	}
	for i := range len(mac) {
		switch c := mac[i]; {
		case i%3 == 2:
			if c != ':' {
				return false
			}
		case '0' <= c && c <= '9' || 'a' <= c && c <= 'f':
		default:
			return false
		}
	}
	return true
}

// cut shortens text to at most n bytes, between two characters.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
