//go:build linux

package load

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"vmw-cloudinit-metadata/bench/answers"
	"vmw-cloudinit-metadata/bench/inventory"
)

// readAnswer reads the answer to q from r by way of buffer, and checks it. Nothing may follow it: a guest asks one
// thing at a time.
func (c *Config) readAnswer(r io.Reader, i int, q answers.Question, buffer []byte) (int, error) {
	want := c.set[q]
	if !c.Exact && q != answers.UserData {
		line, err := readLine(r, buffer)
		if err == nil {
			err = check(line, i, q)
		}
		return len(line), err
	}
	got := 0
	for got < len(want) {
		n, err := r.Read(buffer)
		if err != nil {
			return got, fmt.Errorf("after %d of %d bytes of the answer to %s: %w", got, len(want), q, err)
		}
		if got+n > len(want) || !c.Skim && !bytes.Equal(buffer[:n], want[got:got+n]) {
			return got, fmt.Errorf("the answer to %s is wrong at byte %d: %q", q, got, buffer[:min(n, 80)])
		}
		got += n
		if got == len(want) && buffer[n-1] != '\n' {
			return got, fmt.Errorf("the answer to %s has no end", q)
		}
	}
	return got, nil
}

// readLine reads as far as the first line feed, at which the input must pause.
func readLine(r io.Reader, buffer []byte) ([]byte, error) {
	got := 0
	for {
		if got == len(buffer) {
			return nil, errors.New("an answer is too long")
		}
		n, err := r.Read(buffer[got:])
		if end := bytes.IndexByte(buffer[got:got+n], '\n'); end >= 0 {
			if end != n-1 {
				return nil, fmt.Errorf("more than an answer: %q", buffer[got+end+1:got+n])
			}
			return buffer[:got+n], nil
		}
		got += n
		if err != nil {
			return nil, fmt.Errorf("after %q: %w", buffer[:got], err)
		}
	}
}

// check says whether line is VM i's answer, and no other's.
func check(line []byte, i int, q answers.Question) error {
	document, err := q.Document(line)
	if err != nil {
		return err
	}
	mark := inventory.Name(i)
	if q == answers.NetworkData {
		mark = inventory.Address(i)
	}
	if !bytes.Contains(document, []byte(mark)) {
		return fmt.Errorf("the answer to %s is not %s's: %q", q, inventory.Name(i), document)
	}
	return nil
}
