//go:build linux

package sessions

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"vmw-cloudinit-metadata/bench/load"
)

// memory is what is in use, in bytes.
type memory struct{ heap, stacks float64 }

// settledMemory leaves nothing on the heap that is not in use, and gives the rest back to the system.
func settledMemory() memory {
	runtime.GC()
	debug.FreeOSMemory() // collects a second time: what pools keep outlives one collection
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	return memory{heap: float64(samples[0].Value.Uint64()), stacks: float64(samples[1].Value.Uint64())}
}

// over is what each of vms takes of what m is more than before.
func (m memory) over(before memory, vms int) (heap, stacks float64) {
	return (m.heap - before.heap) / float64(vms), (m.stacks - before.stacks) / float64(vms)
}

// collection is the processor's time that one collection of garbage takes while nothing else is done.
func collection() (time.Duration, error) {
	before, err := load.CPU(os.Getpid())
	if err != nil {
		return 0, err
	}
	runtime.GC()
	after, err := load.CPU(os.Getpid())
	return after - before, err
}

// collector is what the garbage collector has done so far.
type collector struct {
	cycles      int
	collecting  float64 // seconds of the processor; this and the next are brought up to date by each collection
	busy        float64
	stops       []uint64 // how many in each of the classes
	stopsBounds []float64
}

func readCollector() collector {
	samples := []metrics.Sample{
		{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/cpu/classes/gc/total:cpu-seconds"},
		{Name: "/cpu/classes/total:cpu-seconds"}, {Name: "/cpu/classes/idle:cpu-seconds"},
		{Name: "/sched/pauses/total/gc:seconds"},
	}
	metrics.Read(samples)
	histogram := samples[4].Value.Float64Histogram()
	return collector{
		cycles:     int(samples[0].Value.Uint64()),
		collecting: samples[1].Value.Float64(),
		busy:       samples[2].Value.Float64() - samples[3].Value.Float64(),
		stops:      append([]uint64(nil), histogram.Counts...), stopsBounds: histogram.Buckets,
	}
}

// share is how much of the processor's time since before went into collecting, in per cent.
func (c collector) share(before collector) float64 {
	return 100 * (c.collecting - before.collecting) / (c.busy - before.busy)
}

// pauses are the stops since before: one that 99 per cent do not exceed, and the longest. Both are the upper bounds of
// the classes that the runtime counts in.
func (c collector) pauses(before collector) (p99, longest time.Duration) {
	var total, seen uint64
	for i := range c.stops {
		total += c.stops[i] - before.stops[i]
	}
	rank := uint64(math.Ceil(0.99 * float64(total)))
	for i := range c.stops {
		n := c.stops[i] - before.stops[i]
		if n == 0 {
			continue
		}
		bound := c.stopsBounds[i+1]
		if math.IsInf(bound, 1) {
			bound = c.stopsBounds[i]
		}
		longest = time.Duration(bound * float64(time.Second))
		if seen < rank {
			p99 = longest
		}
		seen += n
	}
	return p99, longest
}
