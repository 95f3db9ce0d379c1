package main

import (
	"math"
	"net/netip"
	"reflect"
	"regexp"
	"testing"
)

func TestNetworks(t *testing.T) {
	var want []netip.Prefix
	for _, text := range []string{"192.0.2.0/24", "192.0.2.1/32", "10.0.0.0/8", "192.0.2.2/32", "2001:db8::/32", "2001:db8::1/128", "::/0"} {
		want = append(want, netip.MustParsePrefix(text))
	}
	got, err := networks([]string{"192.0.2.0/24", "192.0.2.1", "::ffff:10.0.0.0/104", "::ffff:192.0.2.2", "2001:db8::/32", "2001:db8::1", "::/0"})
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

func TestLostLinesAreSaidInTheLogsFormat(t *testing.T) {
	for format, want := range map[string]string{
		"text": `^time=\S+ level=ERROR msg="log lines were lost: what reads the log was too slow" lines=7\n$`,
		"json": `^{"time":"[^"]+","level":"ERROR","msg":"log lines were lost: what reads the log was too slow","lines":7}\n$`,
	} {
		f := runFlags{logLevel: newChoice("error"), logFormat: newChoice(format)}
		if line := f.linesLost(7); !regexp.MustCompile(want).Match(line) {
			t.Errorf("%s: %s", format, line)
		}
	}
}

func TestRoomLeavesFilesToTheDriver(t *testing.T) {
	for files, want := range map[uint64]int{0: 0, 64: 32, 200: 100, 1024: 924, 524288: 524188, math.MaxUint64: math.MaxInt} {
		if got := roomFor(files); got != want {
			t.Errorf("%d open files leave room for %d ports, want %d", files, got, want)
		}
	}
}
