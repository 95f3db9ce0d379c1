//go:build linux

package sessions

import (
	"math"
	"runtime"
	"testing"
	"time"
)

func TestPauses(t *testing.T) {
	before := collector{stops: []uint64{5, 0, 1, 0}, stopsBounds: []float64{0, 0.001, 0.002, 0.004, math.Inf(1)}}
	for _, c := range []struct {
		stops        []uint64
		p99, longest time.Duration
	}{
		{[]uint64{5, 0, 1, 0}, 0, 0},
		{[]uint64{6, 0, 1, 0}, time.Millisecond, time.Millisecond},
		{[]uint64{104, 1, 1, 0}, time.Millisecond, 2 * time.Millisecond},
		{[]uint64{15, 0, 2, 0}, 4 * time.Millisecond, 4 * time.Millisecond},
		{[]uint64{1005, 0, 1, 1}, time.Millisecond, 4 * time.Millisecond}, // longer than the last bound
	} {
		now := collector{stops: c.stops, stopsBounds: before.stopsBounds}
		if p99, longest := now.pauses(before); p99 != c.p99 || longest != c.longest {
			t.Errorf("from %v to %v: %v and %v, want %v and %v", before.stops, c.stops, p99, longest, c.p99, c.longest)
		}
	}
}

func TestACollectionIsSeen(t *testing.T) {
	before := readCollector()
	runtime.GC()
	after := readCollector()
	if p99, longest := after.pauses(before); after.cycles <= before.cycles || p99 <= 0 || longest < p99 {
		t.Errorf("%d cycles, and pauses of %v and %v", after.cycles-before.cycles, p99, longest)
	}
	if share := after.share(before); share <= 0 || share > 100 {
		t.Errorf("collecting took %v per cent", share)
	}
}

func TestMemoryIsSeen(t *testing.T) {
	before := settledMemory()
	kept := make([]*[4096]byte, 1000)
	for i := range kept {
		kept[i] = new([4096]byte)
	}
	held := settledMemory()
	if heap, _ := held.over(before, len(kept)); heap < 4000 || heap > 5000 {
		t.Errorf("each of %d pieces of 4,096 bytes takes %.0f", len(kept), heap)
	}
	runtime.KeepAlive(kept)
}
