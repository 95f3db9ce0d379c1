package vspc

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestPace(t *testing.T) {
	const rate = 100 << 10
	for _, tc := range []struct {
		name        string
		bytes, each int
		want        time.Duration
	}{
		{"a second's worth", rate, 4 << 10, 0},
		{"eleven seconds' worth", 11 * rate, 4 << 10, 10 * time.Second},
		{"the same, byte by byte", 2 * rate, 64, time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			var p pace
			start := time.Now()
			for n := 0; n < tc.bytes; n += tc.each {
				p.rest(tc.each, rate)
			}
			if took := time.Since(start); took < tc.want*99/100 || took > tc.want*101/100 {
				t.Errorf("%s: %v, want %v", tc.name, took, tc.want)
			}
			time.Sleep(time.Hour)
			start = time.Now()
			p.rest(rate, rate)
			if took := time.Since(start); took != 0 {
				t.Errorf("%s: having been silent, it rests for %v", tc.name, took)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		var p pace
		start := time.Now()
		p.rest(1<<30, 0)
		if p.rest(1<<30, 1); time.Since(start) != longestRest {
			t.Errorf("it rests for %v at once", time.Since(start))
		}
	})
}

// TestAFloodIsReadHoweverLittleAtOnce checks that what a flood has sent ahead of a command is read in time: with TLS less is
// read at once.
func TestAFloodIsReadHoweverLittleAtOnce(t *testing.T) {
	const rate = 32 << 10
	for _, each := range []int{64, blockingReadSize, readSize} {
		synctest.Test(t, func(t *testing.T) {
			var p pace
			flood := func(bytes int) time.Duration {
				start := time.Now()
				for n := 0; n < bytes; n += each {
					p.rest(each, rate)
				}
				return time.Since(start)
			}
			flood(10 * rate)
			if took := flood(readSize); took > longestRest {
				t.Errorf("%d bytes at once: it takes %v to read %d", each, took, readSize)
			}
		})
	}
}
