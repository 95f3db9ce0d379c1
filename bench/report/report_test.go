package report_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"vmw-cloudinit-metadata/bench/report"
)

func sample() *report.Report {
	r := &report.Report{
		Version: report.Version, When: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Revision: "abc",
		Machine: report.Machine{CPU: "a CPU", Cores: 2, Kernel: "6.1", Go: "go1.26"},
	}
	// The machine halves its speed between the turns; ours is 0.9 of the floor in each.
	for _, speed := range []float64{1, 0.5, 0.25} {
		r.Add("storm", "again", "floor", "rate", 8000*speed)
		r.Add("storm", "again", report.Ours, "rate", 7200*speed)
		r.Add("storm", "first", "floor", "rate", 9000*speed)
		r.Add("storm", "first", report.Ours, "rate", 1800*speed)
		r.Add("storm", "first", report.Ours, "p99", 12/speed)
	}
	return r
}

func cases() []report.Case {
	return []report.Case{
		{
			Name: "storm", Title: "A storm", About: "What it is.", Phases: []string{"first", "again"},
			Servers: []string{report.Ours, "floor"},
			Columns: []report.Column{{Metric: "rate", Unit: "VMs/s", Ratio: true, Chart: true}, {Metric: "p99", Unit: "p99 ms"}},
		},
		{Name: "never measured", Title: "Not there"},
	}
}

func TestTables(t *testing.T) {
	var out strings.Builder
	sample().Tables(&out, cases())
	want := `## A storm

What it is.

| phase | server | VMs/s | ours ÷ it | p99 ms |
|-------|--------|-------|-----------|--------|
| first | ours   | 900   |           | 24     |
| first | floor  | 4,500 | 0.2       | -      |
| again | ours   | 3,600 |           | -      |
| again | floor  | 4,000 | 0.9       | -      |

`
	if out.String() != want {
		t.Errorf("the tables are\n%s\nwant\n%s", out.String(), want)
	}
}

func TestGoals(t *testing.T) {
	var out strings.Builder
	sample().Goals(&out, []report.Goal{
		{Case: "storm", Phase: "again", Metric: "rate", Against: "floor", Least: 0.9},
		{Case: "storm", Phase: "first", Metric: "rate", Against: "floor", Least: 0.9},
		{Case: "storm", Phase: "first", Metric: "rate", Against: "floor", AgainstPhase: "again", Most: 1},
		{Case: "storm", Phase: "first", Metric: "p99", Most: 30},
		{Case: "storm", Phase: "never", Metric: "p99", Most: 30},
	})
	want := `| case  | phase | figure | ÷            | goal  | median | turns          | reached |
|-------|-------|--------|--------------|-------|--------|----------------|---------|
| storm | again | rate   | floor        | ≥ 0.9 | 0.9    | 0.9 to 0.9     | yes     |
| storm | first | rate   | floor        | ≥ 0.9 | 0.2    | 0.2 to 0.2     | no      |
| storm | first | rate   | floor, again | ≤ 1   | 0.225  | 0.225 to 0.225 | yes     |
| storm | first | p99    |              | ≤ 30  | 24     | 12 to 48       | yes     |
`
	if out.String() != want {
		t.Errorf("the goals are\n%s\nwant\n%s", out.String(), want)
	}
}

func TestCompare(t *testing.T) {
	former, now := sample(), sample()
	for i := range now.Measures[0].Values {
		now.Measures[0].Values[i] *= 1.5
	}
	now.Measures[1].Phase = "new"
	var out strings.Builder
	now.Compare(&out, former)
	want := "| storm | again | floor  | rate   | 4,000 | 6,000 | 1.5        |\n"
	if !strings.Contains(out.String(), want) || strings.Contains(out.String(), "new") || strings.Contains(out.String(), "alike") {
		t.Errorf("the comparison is\n%s\nwant the line\n%sand nothing that was not measured then", out.String(), want)
	}
	now.Machine.Cores = 64
	out.Reset()
	now.Compare(&out, former)
	if !strings.Contains(out.String(), "Not measured alike") {
		t.Errorf("two machines are compared without a word:\n%s", out.String())
	}
}

func TestChartsAreByCaseAndMetric(t *testing.T) {
	charts := sample().Charts(cases())
	if len(charts) != 1 {
		t.Fatalf("%d charts, want one", len(charts))
	}
	svg := string(charts["storm-rate.svg"])
	for _, want := range []string{"A storm", "VMs/s", ">first<", ">again<", ">ours<", ">floor<", ">900<", ">4,500<"} {
		if !strings.Contains(svg, want) {
			t.Errorf("the chart has no %s", want)
		}
	}
	if strings.Index(svg, ">ours<") > strings.Index(svg, ">floor<") {
		t.Error("the servers are not in the case's order")
	}
}

func TestAReportIsReadAsWritten(t *testing.T) {
	name := filepath.Join(t.TempDir(), "r.json")
	if err := sample().Write(name); err != nil {
		t.Fatal(err)
	}
	got, err := report.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, sample()) {
		t.Errorf("read %+v, written %+v", got, sample())
	}
	for _, wrong := range []any{map[string]int{"version": report.Version + 1}, "text"} {
		text, err := json.Marshal(wrong)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := report.Read(name); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("reading %s gives %v, want an error that names the file", text, err)
		}
	}
}
