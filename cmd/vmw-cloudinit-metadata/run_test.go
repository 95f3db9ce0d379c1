package main

import (
	"bytes"
	"log/slog"
	"math"
	"net/netip"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
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
		"text": `^time=\S+ level=ERROR msg="log lines were lost: what takes the log was too slow, or full" lines=7\n$`,
		"json": `^{"time":"[^"]+","level":"ERROR","msg":"log lines were lost: what takes the log was too slow, or full","lines":7}\n$`,
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

// A driver that hangs when it is closed, with its database say, holds up a restart for seconds, and not for ever.
func TestTheEndWaitsForDriversAWhile(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			closing := make(chan struct{})
			if !hangs {
				close(closing)
			}
			started := time.Now()
			closeInTime(func() { <-closing }, slog.New(slog.NewTextHandler(&log, nil)))
			if took := time.Since(started); took > reloadLimit || hangs != strings.Contains(log.String(), "stopped without waiting for a driver to be closed") {
				t.Errorf("hangs: %t; it took %v, and the log has %q", hangs, took, &log)
			}
			if hangs {
				close(closing)
			}
		})
	}
}
