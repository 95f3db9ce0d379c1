package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryIsGivenBackAfterAStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requests, given atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		go afterStorms(ctx, requests.Load, func() { given.Add(1) })
		for _, minute := range []struct {
			requests, given int64 // in the minute; until its end
		}{{0, 0}, {10, 0}, {5000, 1}, {0, 1}, {100, 1}, {3000, 2}, {900, 2}} {
			requests.Add(minute.requests)
			time.Sleep(2 * calmCheck) // the clock is the bubble's
			synctest.Wait()
			if got := given.Load(); got != minute.given {
				t.Errorf("given back %d times, want %d", got, minute.given)
			}
		}
		cancel()
	})
}

func TestHeadroomIsForASmallHeap(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(usualPercent))
	ctx, cancel := context.WithCancel(t.Context())
	const bytes = 256 << 20
	keepHeadroom(ctx, bytes)
	small := collectUntil(func(percent uint64) bool { return percent > 2*usualPercent })
	used := make([]byte, bytes)
	if got := collectUntil(func(percent uint64) bool { return percent == usualPercent }); got >= small {
		t.Errorf("GOGC is %d with little in use, and %d with %d bytes", small, got, len(used))
	}
	runtime.KeepAlive(used)
	collectUntil(func(percent uint64) bool { return percent > 2*usualPercent })
	cancel()
	collectUntil(func(percent uint64) bool { return percent == usualPercent })
}

// collectUntil collects garbage until GOGC is as wanted.
func collectUntil(wanted func(percent uint64) bool) uint64 {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	for {
		metrics.Read(sample)
		if percent := sample[0].Value.Uint64(); wanted(percent) {
			return percent
		}
		runtime.GC()
	}
}
