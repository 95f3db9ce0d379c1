package main

import (
	"context"
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
