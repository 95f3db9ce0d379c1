// Package report keeps what the benchmark measured, and shows it: as JSON, as tables, as charts, and beside a former
// report.
package report

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"vmw-cloudinit-metadata/bench/stats"
)

// Version of the JSON's form. A report of another version is not compared with.
const Version = 1

// Report is one run of the benchmark.
type Report struct {
	Version  int       `json:"version"`
	When     time.Time `json:"when"`
	Revision string    `json:"revision"`
	Small    bool      `json:"small"`
	Machine  Machine   `json:"machine"`
	Measures []Measure `json:"measures"`
}

// Machine is what the figures depend on.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory string `json:"memory"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
}

// Measure is one figure of one server in one phase of a case, once for each turn.
type Measure struct {
	Case   string    `json:"case"`
	Phase  string    `json:"phase"`
	Server string    `json:"server"`
	Metric string    `json:"metric"`
	Values []float64 `json:"values"`
}

// Add notes the value of one turn.
func (r *Report) Add(of, phase, server, metric string, value float64) {
	if m := r.find(of, phase, server, metric); m != nil {
		m.Values = append(m.Values, value)
		return
	}
	r.Measures = append(r.Measures, Measure{of, phase, server, metric, []float64{value}})
}

// Values are those of all turns; nil if there was none.
func (r *Report) Values(of, phase, server, metric string) []float64 {
	if m := r.find(of, phase, server, metric); m != nil {
		return m.Values
	}
	return nil
}

func (r *Report) find(of, phase, server, metric string) *Measure {
	for i := range r.Measures {
		if m := &r.Measures[i]; m.Case == of && m.Phase == phase && m.Server == server && m.Metric == metric {
			return m
		}
	}
	return nil
}

// Write writes the report as JSON.
func (r *Report) Write(name string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return os.WriteFile(name, append(text, '\n'), 0o644)
}

// Read reads what Write wrote.
func Read(name string) (*Report, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var r Report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if r.Version != Version {
		return nil, fmt.Errorf("%s is a report of form %d, this program knows %d", name, r.Version, Version)
	}
	return &r, nil
}

// Goal is what the project's own server is to reach.
type Goal struct {
	Case, Phase, Metric string
	// Against is the server that it is measured by; if empty, the goal is a figure and not a ratio.
	Against string
	// AgainstPhase is the phase of Against; if empty, the same.
	AgainstPhase string
	Least, Most  float64 // 0 for no bound
}

// Outcome is how far a goal is reached. The three figures are the median, least and most of the turns.
type Outcome struct {
	Median, Low, High float64
	Reached           bool
}

// Outcome compares turn by turn; false if one of the two was not measured.
func (r *Report) Outcome(goal Goal, server string) (Outcome, bool) {
	values := r.Values(goal.Case, goal.Phase, server, goal.Metric)
	if goal.Against != "" {
		phase := goal.AgainstPhase
		if phase == "" {
			phase = goal.Phase
		}
		values = stats.Ratios(values, r.Values(goal.Case, phase, goal.Against, goal.Metric))
	}
	if len(values) == 0 {
		return Outcome{}, false
	}
	o := Outcome{Median: stats.Median(values), Low: slices.Min(values), High: slices.Max(values)}
	o.Reached = !math.IsNaN(o.Median) && o.Median >= goal.Least && (goal.Most == 0 || o.Median <= goal.Most)
	return o, true
}
