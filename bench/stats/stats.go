// Package stats reduces the benchmark's samples to the few figures that its report shows.
package stats

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Median is the middle value, or the mean of the two middle ones. It is NaN for no values.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// Ratios divides a by b, run by run, as far as both go: two things measured in the same turn are compared with each
// other, so that the machine's slow drift falls out.
func Ratios(a, b []float64) []float64 {
	ratios := make([]float64, min(len(a), len(b)))
	for i := range ratios {
		ratios[i] = a[i] / b[i]
	}
	return ratios
}

// Percentile is the smallest of sorted that at least the share p (0 to 1) of them do not exceed: the nearest-rank
// method, which never invents a value between two. It is the zero value for none.
func Percentile[T cmp.Ordered](sorted []T, p float64) T {
	if len(sorted) == 0 {
		var zero T
		return zero
	}
	rank := int(math.Ceil(p * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// Latency is what is kept of many durations, in milliseconds for the report's reader.
type Latency struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

// Latencies sums durations up; it sorts them in place.
func Latencies(durations []time.Duration) Latency {
	slices.Sort(durations)
	return Latency{
		Count: len(durations),
		P50:   Milliseconds(Percentile(durations, 0.50)),
		P90:   Milliseconds(Percentile(durations, 0.90)),
		P99:   Milliseconds(Percentile(durations, 0.99)),
		Max:   Milliseconds(Percentile(durations, 1)),
	}
}

// Milliseconds is d as a number.
func Milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
