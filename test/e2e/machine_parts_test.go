package e2e_test

import (
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"testing"
)

func TestIsDHCP(t *testing.T) {
	ipv4 := func(protocol byte, options int, source, target uint16) []byte {
		frame := make([]byte, 14+20+options+8)
		frame[12], frame[13] = 0x08, 0x00
		frame[14] = 0x40 | byte(20+options)/4
		frame[14+9] = protocol
		binary.BigEndian.PutUint16(frame[34+options:], source)
		binary.BigEndian.PutUint16(frame[36+options:], target)
		return frame
	}
	ipv6 := func(next byte, source, target uint16) []byte {
		frame := make([]byte, 14+40+8)
		frame[12], frame[13] = 0x86, 0xdd
		frame[14], frame[14+6] = 0x60, next
		binary.BigEndian.PutUint16(frame[54:], source)
		binary.BigEndian.PutUint16(frame[56:], target)
		return frame
	}
	for _, tc := range []struct {
		name  string
		frame []byte
		want  bool
	}{
		{"request", ipv4(17, 0, 68, 67), true},
		{"answer, with IP options", ipv4(17, 4, 67, 68), true},
		{"DNS", ipv4(17, 0, 40000, 53), false},
		{"TCP of those ports", ipv4(6, 0, 68, 67), false},
		{"cut short", ipv4(17, 0, 68, 67)[:30], false},
		{"version 6", ipv6(17, 546, 547), true},
		{"neighbour discovery", ipv6(58, 546, 547), false},
		{"ARP", []byte("\xff\xff\xff\xff\xff\xff\x00\x50\x56\x8f\x00\x0a\x08\x06 and 28 bytes that say who asks"), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := isDHCP(tc.frame); got != tc.want {
				t.Errorf("isDHCP = %v", got)
			}
		})
	}
}

func TestReadCapture(t *testing.T) {
	header := "\xd4\xc3\xb2\xa1" + "\x02\x00\x04\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\xff\xff\x00\x00" + "\x01\x00\x00\x00"
	frame := "\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x03\x00\x00\x00abc"
	for _, tc := range []struct {
		name, data string
		frames     int // -1: an error
	}{
		{"none", header, 0},
		{"two", header + frame + frame, 2},
		{"cut in a frame", header + frame[:18], -1},
		{"cut in a header", header + frame[:5], -1},
		{"other byte order", "\xa1\xb2\xc3\xd4" + header[4:], -1},
		{"empty", "", -1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "nic.pcap")
			if err := os.WriteFile(path, []byte(tc.data), 0o600); err != nil {
				t.Fatal(err)
			}
			frames, err := readCapture(path)
			if (err != nil) != (tc.frames < 0) || err == nil && len(frames) != tc.frames {
				t.Errorf("%d frames, %v; want %d", len(frames), err, tc.frames)
			}
			for _, frame := range frames {
				if string(frame) != "abc" {
					t.Errorf("frame %q", frame)
				}
			}
		})
	}
}

func TestSections(t *testing.T) {
	got := sections("boot noise\r\n\n=== one\r\na\nb\n\n=== two\n\n=== end\n")
	if want := map[string]string{"": "boot noise", "one": "a\nb", "two": "", "end": ""}; !maps.Equal(got, want) {
		t.Errorf("sections = %q; want %q", got, want)
	}
}
