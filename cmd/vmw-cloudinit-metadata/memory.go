package main

import (
	"context"
	"time"
)

const (
	// calmCheck is how often it is looked whether a storm of boots is over.
	calmCheck = 30 * time.Second
	// storm is how many connections and requests in that time make one. Below it the garbage of a storm stays small.
	storm = 1000
)

// afterStorms calls give when a storm of boots is over, until ctx is done. activity counts connections and requests. A
// server of some thousand ports is idle for weeks, and would keep the memory of its busiest minute.
func afterStorms(ctx context.Context, activity func() int64, give func()) {
	ticks := time.NewTicker(calmCheck)
	defer ticks.Stop()
	last, stormy := activity(), false
	for {
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
		now := activity()
		switch {
		case now-last >= storm:
			stormy = true
		case stormy:
			stormy = false
			give()
		}
		last = now
	}
}
