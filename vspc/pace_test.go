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
