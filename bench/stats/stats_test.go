package stats_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"vmw-cloudinit-metadata/bench/stats"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{7}, 7},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 3, 2}, 2.5},
		{[]float64{1, 1, 1000}, 1},
	} {
		given := slices.Clone(c.values)
		if got := stats.Median(given); got != c.want {
			t.Errorf("Median(%v) = %v, want %v", c.values, got, c.want)
		}
		if !slices.Equal(given, c.values) {
			t.Errorf("Median changed its argument from %v to %v", c.values, given)
		}
	}
	if got := stats.Median(nil); !math.IsNaN(got) {
		t.Errorf("Median of nothing = %v, want NaN", got)
	}
}

func TestRatiosPairRuns(t *testing.T) {
	// A machine that became three times as fast between two turns leaves the ratio as it was.
	got := stats.Ratios([]float64{90, 270, 5}, []float64{100, 300})
	if want := []float64{0.9, 0.9}; !slices.Equal(got, want) {
		t.Errorf("Ratios = %v, want %v", got, want)
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = i + 1
	}
	for _, c := range []struct {
		sorted []int
		p      float64
		want   int
	}{
		{hundred, 0, 1},
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
		{hundred, 0.991, 100},
		{hundred, 1, 100},
		{[]int{3}, 0.99, 3},
		{[]int{3, 8}, 0.5, 3},
		{[]int{3, 8}, 0.51, 8},
		{nil, 0.5, 0},
	} {
		if got := stats.Percentile(c.sorted, c.p); got != c.want {
			t.Errorf("Percentile(%d values, %v) = %v, want %v", len(c.sorted), c.p, got, c.want)
		}
	}
}

func TestLatencies(t *testing.T) {
	var durations []time.Duration
	for i := range 1000 {
		durations = append(durations, time.Duration(1000-i)*time.Millisecond)
	}
	want := stats.Latency{Count: 1000, P50: 500, P90: 900, P99: 990, Max: 1000}
	if got := stats.Latencies(durations); got != want {
		t.Errorf("Latencies = %+v, want %+v", got, want)
	}
	if got := stats.Latencies(nil); got != (stats.Latency{}) {
		t.Errorf("Latencies of nothing = %+v, want zeros", got)
	}
}
