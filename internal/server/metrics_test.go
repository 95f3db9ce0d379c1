package server

import (
	"reflect"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"vmw-cloudinit-metadata/metadata"
)

// TestMetricsHaveAllCounters also has Prometheus' own rules for names and help.
func TestMetricsHaveAllCounters(t *testing.T) {
	s, err := New(Config{Services: []Service{{URI: "a", Driver: metadata.DriverFunc(nil)}}})
	if err != nil {
		t.Fatal(err)
	}
	counters := s.stats.counters()
	fields := reflect.ValueOf(&s.stats).Elem()
	for i := range fields.NumField() {
		found := 0
		for _, c := range counters {
			if reflect.ValueOf(c.value).Pointer() == fields.Field(i).Addr().Pointer() {
				c.value.Store(int64(i + 1))
				found++
			}
		}
		if found != 1 {
			t.Errorf("%s is there %d times", fields.Type().Field(i).Name, found)
		}
	}

	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s.Metrics())
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum, want := 0.0, 0.0
	for _, family := range families {
		for _, m := range family.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for i := range fields.NumField() {
		want += float64(i + 1)
	}
	if sum != want {
		t.Errorf("the values add up to %v, not %v", sum, want)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}
