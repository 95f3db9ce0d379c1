package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
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

// headroom is how many bytes are allocated at least before garbage is collected. Go's own rule is as many as are in use,
// which is little when a storm of boots begins: the first hundreds of VMs would then cost a collection every few.
const headroom = 64 << 20

// keepHeadroom has garbage collected when bytes, or as many as are in use, have been allocated since the last time,
// whichever is more, until ctx is done. A memory limit (GOMEMLIMIT) goes before it.
func keepHeadroom(ctx context.Context, bytes uint64) {
	type sentinel struct{ _ [64]byte } // not one of those that are allocated several at once
	var collected func(percent int)
	collected = func(percent int) {
		if ctx.Err() != nil {
			debug.SetGCPercent(usualPercent)
			return
		}
		wanted := percentFor(bytes)
		if wanted < percent || wanted > percent+percent/8 {
			debug.SetGCPercent(wanted)
			percent = wanted
		}
		// Called when the next collection finds that nobody has it.
		runtime.AddCleanup(new(sentinel), collected, percent)
	}
	collected(usualPercent)
}

const (
	// usualPercent is Go's default for GOGC.
	usualPercent = 100
	// leastInUse is what Go takes for in use if it is less.
	leastInUse = 4 << 20
)

// percentFor returns the GOGC that leaves room for so many bytes, after what the last collection has found in use.
func percentFor(bytes uint64) int {
	inUse := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(inUse)
	sum := uint64(0)
	for _, part := range inUse {
		sum += part.Value.Uint64()
	}
	return int(max(usualPercent, bytes*usualPercent/max(sum, leastInUse)))
}
